"""What the keeper holds for a sandbox beside its descriptors: enough for another node to go on."""

from msgspec import Struct

from sandboxd.drivers.network.slots import KeptSlot
from sandboxd.model.session import NetworkChoice, ProcessRequest, SandboxRequest, SessionLimits
from sandboxd.native import Exited, Failed


class Identity(Struct, frozen=True, kw_only=True):
    """What does not change while a sandbox lives."""

    id: str
    tenant: str
    node: str
    template: str
    image: str
    network: NetworkChoice
    created_at: float
    """Seconds since the epoch."""
    key: str | None = None
    forked_from: str | None = None


class KeptSession(Struct, frozen=True, kw_only=True):
    """Its descriptors: control, pidfd, scratch and network namespace."""

    abi: int
    """Of its sandbox-init."""
    identity: Identity
    request: SandboxRequest
    """With what has been changed since."""
    limits: SessionLimits
    expires_at: float
    """Seconds since the epoch."""
    paused_at: float | None
    numbers: int
    """Of processes that init has been asked for so far, at least."""
    name: str
    """Of its control group."""
    image: str
    """Digest of what it is on; empty for the host's own."""
    uid: int
    pid: int
    layers: list[str]
    """That sandbox-init reported."""
    group_limits: tuple[int, int]
    disk: int
    slot: KeptSlot | None = None
    """Of its network, if it has one."""


class KeptProcess(Struct, frozen=True, kw_only=True):
    id: str
    number: int
    pid: int
    request: ProcessRequest
    """Without its environment."""
    started_at: float
    open: tuple[bool, bool, bool]
    """Which of stdout, stderr and stdin come along."""
    exited: Exited | None
    exited_at: float
    timed_out: bool
    failed: Failed | None
