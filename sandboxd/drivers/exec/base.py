"""The execution driver: how sandboxes come to be and go. `native` is ours; others fit behind it."""

from typing import Protocol

from msgspec import Struct

from sandboxd.drivers.exec.cgroups import Group
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.network.base import Network, Slot
from sandboxd.native import Bind, ExecOrder, Native


class WarmUp(Struct, frozen=True, kw_only=True):
    """An interpreter that has started when the sandbox is built: in it, or before as a zygote, of
    which the sandbox gets a copy. `warm` of the orders is set."""

    order: ExecOrder
    zygote: ExecOrder
    """The order that starts it as a zygote."""
    copies: int
    """How many sandboxes one zygote may serve; 0: each starts its own."""
    binds: tuple[Bind, ...]
    """What the interpreter needs to see beside the image while it starts."""


class MountSource(Protocol):
    """A file system that sandboxes may have besides their image."""

    def mount(self, uid: int) -> int:
        """A detached mount whose owners are those of the sandbox whose first uid this is; the
        caller closes it. Blocks some milliseconds. Raises DriverFault."""

    def retake(self) -> None:
        """A sandbox of the node before this one has a mount, as `drop` will be told. Blocks. Raises
        RequestError if the source is gone or taken, DriverFault."""

    def drop(self) -> None:
        """The sandbox of a mount is gone."""


class Mount(Struct, frozen=True):
    target: str
    """Absolute, inside."""
    source: MountSource


class Spec(Struct, frozen=True, kw_only=True):
    """A template, resolved to what a build needs."""

    template: str
    image: Image
    seccomp: bytes
    """Compiled program."""
    apparmor: str
    """Label, or empty where the kernel has none."""
    cpus: float
    memory: int
    pids: int
    disk: int
    warm: WarmUp | None = None
    mounts: tuple[Mount, ...] = ()
    session: bool = False
    """It lives on for more processes, with terminals, and may write everywhere."""
    root: bool = False
    """Of a session: its processes may be root of its own user namespace, and their files of any user."""
    build_user: int | None = None
    """An image is made by this user: it has every id, and may write everywhere. None: a job."""
    network: Network | None = None
    """Where its network namespace comes from; None is a loopback and nothing else."""


class Built(Struct, kw_only=True):
    """A sandbox that is ready for its one order. Owned by whoever holds it; ends in `destroy`."""

    name: str
    spec: Spec
    native: Native
    group: Group
    uid: int
    slot: Slot
    """Its network namespace."""
    layers: frozenset[str]
    built_at: float
    """Seconds of time.monotonic."""
    disk: int
    """Present size of the scratch file system, bytes."""


class ExecDriver(Protocol):
    layers: frozenset[str]
    """What every sandbox of this driver has."""

    def build(self, spec: Spec) -> Built:
        """Blocks some milliseconds. Raises NativeFault or DriverFault, leaving nothing."""

    def lives(self, built: Built) -> bool:
        """Whether what takes its one order is still there. Never blocks."""

    def destroy(self, built: Built) -> None:
        """Kill it and remove what it had on the host; blocks until it is gone.

        Raises DriverFault or NativeFault if something would not go; it is then kept out of use.
        """
