"""Whom the service is measured beside. An adapter is a module with `peers(programs)`, which
returns nothing where its software is not installed; name it here."""

from loadtest.peers import bare, bubblewrap
from loadtest.peers.peer import Peer, PeerError
from loadtest.workload import Programs

__all__ = ["Peer", "PeerError", "local"]


def local(programs: Programs) -> list[Peer]:
    """The peers installed on this machine, `bare` first."""
    return [*bare.peers(programs), *bubblewrap.peers(programs)]
