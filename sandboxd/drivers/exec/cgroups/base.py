"""The interface of both implementations."""

from collections.abc import Collection
from typing import Protocol

from msgspec import Struct

from sandboxd.errors import DriverFault


class LimitBelowUse(DriverFault):
    """The memory limit is less than what the sandbox itself already takes."""


class Usage(Struct, frozen=True):
    """What a group has used since it was made."""

    cpu_time: float
    """Seconds, user and system, of every process that was ever in it."""
    peak_memory: int
    """Bytes, page cache and scratch files included."""
    oom_kills: int
    pids_refused: int
    """Forks that met the pids limit."""


class Present(Struct, frozen=True):
    """What a group holds at this moment."""

    memory: int
    """Bytes, page cache and scratch files included."""
    pids: int


class Group(Protocol):
    """The control groups of one sandbox. The owner ends with `remove`, once nothing is in them."""

    tasks: tuple[int, ...]
    """v1: descriptors of `tasks` files that sandbox-init joins by itself."""
    directory: int
    """v2 directory (also the controller-less one of a hybrid host) to be born into, or -1."""
    limits: tuple[int, int]
    """Memory and pids, as set last."""
    oom_event: int
    """Descriptor that becomes readable on an OOM kill, or -1 where the kernel ends the group."""

    def settle(self) -> None:
        """Close what only joining needed, once sandbox-init is in."""

    def limit(self, *, memory: int, pids: int) -> None:
        """Set and read back both limits. Raises DriverFault if the kernel did not take one.

        A memory limit below what is in use is LimitBelowUse on v1; on v2 it ends the group at once,
        and counts as an OOM kill.
        """

    def fits(self, memory: int) -> bool:
        """Whether what is in use would stay within a lower memory limit. Blocks: the kernel may have
        to reclaim for it."""

    def cpu_time(self) -> float:
        """Seconds used so far by the whole group."""

    def usage(self) -> Usage: ...

    def kill(self) -> None:
        """SIGKILL to every process of the group, at once."""

    def freeze(self, frozen: bool) -> None:
        """Stop or continue every process of the group; returns before it has settled."""

    def settled(self, frozen: bool, timeout: float) -> bool:
        """Whether everything stands still, or runs again, within `timeout` seconds; blocks so long."""

    def set_cpus(self, cpus: float) -> None:
        """Another number of cores to be used at once."""

    def pin(self, core: int) -> None:
        """From now on it runs on this one of the cores that are kept; nothing of it may fork while it
        is moved. Raises DriverFault."""

    def kill_one(self) -> None:
        """From now on the kernel ends one process where memory is short, and not the whole group."""

    def reclaim(self, *, swap: bool) -> None:
        """Take back what memory the kernel can of a group that stands still: what is cached of files,
        and with `swap` the rest too, as far as there is room. Blocks. Where the kernel cannot, nothing
        happens. Raises DriverFault."""

    def present(self) -> Present: ...

    def remove(self) -> None:
        """Close descriptors and remove the directories. Raises DriverFault if one is still in use."""


class Cgroups(Protocol):
    """The control groups of this instance, under one name of its own in each hierarchy."""

    layers: frozenset[str]
    """`cgroup_memory`, `cgroup_pids`, `cgroup_cpu`, `cgroup_kill` as the host has them."""
    kind: str
    """`v2`, `hybrid` or `v1`, for the doctor."""

    def make(self, name: str, *, memory: int, pids: int, cpus: float) -> Group:
        """A fresh group with its limits set and read back. Raises DriverFault, leaving nothing."""

    def adopt(self, name: str, *, memory: int, pids: int) -> Group:
        """The group of an earlier node's sandbox that lives, with the limits that it has. Raises
        DriverFault."""

    def sweep(self, keep: Collection[str] = ()) -> int:
        """Kill and remove every group that an earlier node of this instance left, but those to
        `keep`; how many."""

    def close(self) -> None:
        """Remove this instance's own (then empty) directories."""
