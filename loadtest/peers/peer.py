"""What the bench asks of a peer."""

from typing import Protocol

from loadtest.closedloop import ClosedLoad
from loadtest.measurement import Measurement
from loadtest.workload import Workload


class Peer(Protocol):
    name: str
    """Row of the table; `bare` is what the others are compared with."""
    about: str
    """One line for the report: version, command. No local path."""

    def runs(self, workload: Workload) -> bool:
        """False if it has no way to run `workload`."""
        ...

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        """Runs `workload` back to back, every answer checked.

        Raises PeerError if it could not even try.
        """
        ...


class PeerError(Exception):
    """The peer could not be driven at all."""


class NotHereError(Exception):
    """The peer cannot run on this machine; the text has its name and why."""
