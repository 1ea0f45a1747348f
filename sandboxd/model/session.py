"""Sandboxes that live: what a client asks for and sees of a session, its processes and its files.

Seconds are floats, sizes are bytes, times are RFC 3339. A name in a sandbox is any bytes: where one
is not UTF-8, `path` shows it with replacement characters and `path_base64` is the name itself.
"""

import base64
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from sandboxd.model.callback import SandboxCallback
from sandboxd.model.egress import SandboxNetwork
from sandboxd.model.language import ImageName
from sandboxd.model.mounts import DataMount, VolumeMount
from sandboxd.model.run import Arg, Name

Lifetime = Annotated[float, Meta(gt=0, le=30 * 86_400)]
Text = Annotated[str, Meta(max_length=1024)]
NetworkChoice = Annotated[str, Meta(max_length=64)] | SandboxNetwork
SANDBOX_ID = r"^sbx_[a-z2-7]{26}$"
PROCESS_ID = r"^prc_[a-z2-7]{26}$"


class SandboxState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    """Frozen: it holds its memory and files, and uses no CPU."""
    ENDED = "ended"
    """`end` says why and when; remembered for a day."""


class EndReason(StrEnum):
    KILLED = "killed"
    """By request."""
    TIMEOUT = "timeout"
    """Its time to live was over."""
    IDLE_TIMEOUT = "idle_timeout"
    MEMORY_EXCEEDED = "memory_exceeded"
    """All of it is ended, not one process (cgroup `memory.oom.group`)."""
    CRASHED = "crashed"
    """Its init ended without being told."""
    NODE_STOPPED = "node_stopped"
    NODE_LOST = "node_lost"
    """The node died or was restarted, and could not take the sandbox over."""


class End(Struct, frozen=True, kw_only=True):
    reason: EndReason
    at: str
    detail: str = ""


class SessionLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the whole sandbox. In a request, None keeps the template's; in a record all are set."""

    memory: Annotated[int, Meta(ge=16 << 20, le=1 << 40)] | None = None
    pids: Annotated[int, Meta(ge=8, le=32_768)] | None = None
    cpus: Annotated[float, Meta(ge=0.01, le=1024)] | None = None
    """Cores it may use at once."""
    disk: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] | None = None
    """Bytes of its writable file system; counted into memory where that is a tmpfs."""
    open_files: Annotated[int, Meta(ge=8, le=1 << 20)] | None = None
    """RLIMIT_NOFILE of processes started from then on."""


class SandboxRequest(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Body of `POST /v1/sandboxes`."""

    template: Name | None = None
    """None: `session`."""
    image: ImageName | None = None
    """An image or snapshot of the node's store instead of the template's."""
    volumes: Annotated[list[VolumeMount], Meta(max_length=8)] = []
    """Shared with whoever else has them, forks too; never part of a snapshot."""
    data: Annotated[list[DataMount], Meta(max_length=4)] = []
    """Files of images of one layer, read-only."""
    key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """`get_or_create`: while the tenant has a live sandbox of this key, that one is the answer."""
    metadata: Annotated[dict[Annotated[str, Meta(max_length=128)], Text], Meta(max_length=64)] = {}
    env: Annotated[dict[str, Arg], Meta(max_length=256)] = {}
    """Of every process, unless that says otherwise."""
    timeout: Lifetime = 3600.0
    """Seconds until it ends (or pauses), counted from creation or the last `extend`."""
    idle_timeout: Lifetime | None = None
    """Seconds without a request or a running foreground process after which it ends or pauses."""
    on_timeout: Literal["kill", "pause"] = "kill"
    limits: SessionLimits = SessionLimits()
    network: NetworkChoice = "none"
    """`none`, the name of an egress policy, or what of one, and with whom."""
    callback: SandboxCallback | None = None
    """Tell what happens to it, and to those that are forked from it."""


class Sandbox(Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/sandboxes/{id}`."""

    id: str
    state: SandboxState
    template: str
    image: str
    volumes: list[VolumeMount] = []
    data: list[DataMount] = []
    key: str | None = None
    metadata: dict[str, str] = {}
    limits: SessionLimits
    network: NetworkChoice
    node: str
    isolation: list[str]
    """The layers that hold."""
    created_at: str
    expires_at: str
    """When its time to live is over; a paused one that was paused by it lives on."""
    timeout: float
    idle_timeout: float | None = None
    on_timeout: Literal["kill", "pause"]
    paused_at: str | None = None
    forked_from: str | None = None
    end: End | None = None


class Entry(Struct, frozen=True, kw_only=True):
    """A sandbox in the directory of sessions: whose it is and who has it. Never shown to clients."""

    tenant: str
    address: str
    """Of the node's agent, as in its `NodeRecord`."""
    sandbox: Sandbox


class PtySize(Struct, frozen=True, forbid_unknown_fields=True):
    rows: Annotated[int, Meta(ge=1, le=1000)] = 24
    cols: Annotated[int, Meta(ge=1, le=1000)] = 80


class ProcessRequest(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A command to run in an open sandbox."""

    command: Annotated[list[Arg], Meta(min_length=1, max_length=1024)]
    """argv; the first word is looked up in PATH. A shell is one only if it is named."""
    env: Annotated[dict[str, Arg], Meta(max_length=256)] = {}
    cwd: Annotated[str, Meta(max_length=4096)] = "/work"
    user: Literal["sandbox", "root"] = "sandbox"
    """The sandbox's own user (uid 1000), or its root, where its template has one: uid 0 inside, nobody
    outside."""
    pty: PtySize | None = None
    """A terminal instead of three pipes: its output is all stdout."""
    stdin: bool = False
    """stdin is kept open for `stdin` frames until it is closed; else it is empty."""
    timeout: Annotated[float, Meta(gt=0, le=30 * 86_400)] | None = None
    """Seconds after which it is killed (`timed_out`); None: as long as the sandbox."""
    keep_output: Annotated[int, Meta(ge=0, le=64 << 20)] = 1 << 20
    """Bytes of the newest output that are kept for who attaches later, stdout and stderr each."""
    tag: Annotated[str, Meta(max_length=128)] = ""
    """A name of the client's for it."""


class ProcessState(StrEnum):
    RUNNING = "running"
    EXITED = "exited"


class Process(Struct, frozen=True, kw_only=True):
    id: str
    pid: int | None = None
    """Inside the sandbox; None until it is known."""
    command: list[str]
    cwd: str
    tag: str = ""
    pty: bool = False
    state: ProcessState
    started_at: str
    exited_at: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    """Name such as `SIGKILL`, or None."""
    timed_out: bool = False
    error: str | None = None
    """Why it could not be started: `not_found`, `denied`, `bad_cwd`, or the stage that failed."""
    cpu_time: float = 0.0
    """Seconds, with that of the children it has waited for; set when it has exited."""
    peak_memory: int = 0
    """Resident bytes of the largest of them; set when it has exited."""
    wall_time: float = 0.0
    stdout_bytes: int = 0
    """Written so far; the newest of them are kept."""
    stderr_bytes: int = 0


class ProcessResult(Struct, frozen=True, kw_only=True):
    """Answer of a command that was run to its end."""

    process: Process
    stdout: bytes
    """The newest bytes, at most `keep_output`; the gateway shows text, or base64 where it is none."""
    stderr: bytes
    stdout_truncated: bool = False
    """Earlier bytes were dropped."""
    stderr_truncated: bool = False


class FileType(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    DEVICE = "device"


class FileInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    path: str
    """Absolute, or as it was asked for; see the head of this module."""
    type: FileType
    size: int = 0
    mode: int = 0
    """Permission bits."""
    modified_at: float = 0.0
    """Seconds since the epoch."""
    uid: int = 0
    gid: int = 0
    target: str | UnsetType = UNSET
    """Of a symbolic link."""
    attributes: dict[str, str] = {}
    """Extended attributes of the `user` kind, without that word, where they were asked for."""
    path_base64: str | UnsetType = UNSET
    target_base64: str | UnsetType = UNSET


class FileList(Struct, frozen=True, kw_only=True):
    entries: list[FileInfo]
    next_cursor: str | None = None
    """Give it back for the entries after these."""


class FileChange(StrEnum):
    CREATED = "created"
    MODIFIED = "modified"
    REMOVED = "removed"
    MOVED_FROM = "moved_from"
    MOVED_TO = "moved_to"
    ATTRIBUTES = "attributes"
    OVERFLOW = "overflow"
    """Changes were lost: look for yourself."""


class FileEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    change: FileChange
    path: str
    directory: bool = False
    path_base64: str | UnsetType = UNSET


class Metrics(Struct, frozen=True, kw_only=True):
    """What a sandbox uses at one moment, from its control groups and file system."""

    at: str
    cpu_time: float
    """Seconds since it was created."""
    memory: int
    peak_memory: int
    memory_limit: int
    pids: int
    pids_limit: int
    disk: int
    disk_limit: int
    processes: int
    """That were started through the API and run."""
    oom_kills: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0


def shown(name: bytes) -> tuple[str, str | UnsetType]:
    """A name as clients see it: text, and base64 of the bytes where they are not UTF-8."""
    try:
        return name.decode(), UNSET
    except UnicodeDecodeError:
        return name.decode("utf-8", "replace"), base64.b64encode(name).decode()
