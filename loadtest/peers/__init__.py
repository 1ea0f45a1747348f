"""Whom the service is measured beside. An adapter of a program of this machine is a module with
`peers(programs, cleanup)`; name it here. Services that are asked by URL are in `wire`."""

from collections.abc import Callable, Collection
from contextlib import ExitStack

from loadtest.peers import bare, bubblewrap, docker, isolate, nsjail, oci, podman
from loadtest.peers.peer import NotHereError, Peer, PeerError
from loadtest.workload import Programs

__all__ = ["LOCAL", "NotHereError", "Peer", "PeerError", "local"]

LOCAL = {
    "bare": bare.peers,
    "bubblewrap": bubblewrap.peers,
    "nsjail": nsjail.peers,
    "isolate": isolate.peers,
    "runc": oci.runc,
    "crun": oci.crun,
    "runsc": oci.runsc,
    "podman": podman.peers,
    "docker": docker.peers,
}


def local(
    programs: Programs,
    cleanup: ExitStack,
    say: Callable[[str], None],
    names: Collection[str] = tuple(LOCAL),
) -> list[Peer]:
    """Those of `names` that are installed on this machine, `bare` first. The others are told to `say`.

    What a peer made on this machine is removed when `cleanup` is closed.
    """
    found: list[Peer] = []
    for name, adapter in LOCAL.items():
        try:
            found += adapter(programs, cleanup) if name in names else []
        except NotHereError as reason:
            say(f"left out: {reason}")
    return found
