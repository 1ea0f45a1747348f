"""What a sandbox that lives is made of: plain frozen data. Seconds are floats, sizes are bytes."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal, TypedDict

Command = str | Sequence[str]
"""argv; a string is a script for the sandbox's /bin/sh, taken as it is."""


class SandboxState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Of a whole sandbox; None keeps the template's."""

    memory: int | None = None
    pids: int | None = None
    """Processes and threads alive at once."""
    cpus: float | None = None
    """Cores that it may use at once."""
    disk: int | None = None
    open_files: int | None = None

    def given(self) -> dict[str, float | int]:
        """The limits that are not None, by name."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in values if value is not None}


class SandboxOptions(TypedDict, total=False):
    """What a new sandbox is."""

    template: str
    """`session` unless it is given."""
    image: str
    """An image or snapshot instead of the template's."""
    volumes: Sequence[Mapping[str, Any]]
    """`{"name", "path", "read_only"}` each; shared with whoever else has them, forks too."""
    data: Sequence[Mapping[str, Any]]
    """`{"digest", "path"}` each: the files of an image of one layer, read-only."""
    key: str
    """While there is a live sandbox of this key, that one is the answer."""
    metadata: Mapping[str, str]
    env: Mapping[str, str]
    """Of every process in it."""
    timeout: float
    """Seconds until it ends, or pauses; 3600 unless it is given."""
    idle_timeout: float
    """Seconds without a request or a running command after which it ends or pauses."""
    on_timeout: Literal["kill", "pause"]
    limits: SandboxLimits | Mapping[str, float]
    network: str | Mapping[str, Any]
    """`none`, the name of one of the operator's policies, or `{"policy", "allow", "group", "hostname"}`:
    what of it, and with which of the tenant's sandboxes."""
    callback: Mapping[str, Any]
    """A webhook: `url`, `secret`, `events`."""


class CommandOptions(TypedDict, total=False):
    """How a command is run."""

    env: Mapping[str, str]
    cwd: str
    """/work unless it is given."""
    user: str
    """`sandbox`, unless it is given; or `root`, where the sandbox's template has one: uid 0 inside."""
    keep_output: int
    """Bytes of the newest output that are kept, stdout and stderr each; 1 MiB unless it is given."""
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxEnd:
    reason: str
    """`killed`, `timeout`, `idle_timeout`, `memory_exceeded`, `crashed`, `node_stopped`, `node_lost`."""
    at: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxInfo:
    """A sandbox as the service knows it now. Times are RFC 3339."""

    id: str
    state: str
    template: str
    image: str
    volumes: tuple[Mapping[str, Any], ...]
    data: tuple[Mapping[str, Any], ...]
    key: str | None
    metadata: Mapping[str, str]
    limits: SandboxLimits
    network: str | Mapping[str, Any]
    node: str
    isolation: tuple[str, ...]
    created_at: str
    expires_at: str
    timeout: float
    idle_timeout: float | None
    on_timeout: str
    paused_at: str | None
    forked_from: str | None
    end: SandboxEnd | None
    document: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """A command in a sandbox, with what it used when it has ended."""

    id: str
    pid: int | None
    command: tuple[str, ...]
    cwd: str
    tag: str
    pty: bool
    state: str
    """`running` or `exited`."""
    started_at: str
    exited_at: str | None
    exit_code: int | None
    signal: str | None
    timed_out: bool
    error: str | None
    """Why it could not be started: `not_found`, `denied`, `bad_cwd`, or the stage that failed."""
    cpu_time: float
    peak_memory: int
    wall_time: float
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def ok(self) -> bool:
        """It has ended by itself with exit code 0."""
        return self.exit_code == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended, and the newest of its output."""

    process: ProcessInfo
    stdout: str
    """What is not UTF-8 shows as U+FFFD; `stdout_bytes` is exact."""
    stderr: str
    stdout_bytes: bytes = field(repr=False)
    stderr_bytes: bytes = field(repr=False)
    stdout_truncated: bool
    stderr_truncated: bool

    @property
    def exit_code(self) -> int | None:
        return self.process.exit_code

    @property
    def ok(self) -> bool:
        return self.process.ok

    @property
    def timed_out(self) -> bool:
        return self.process.timed_out

    @property
    def cpu_time(self) -> float:
        return self.process.cpu_time

    @property
    def peak_memory(self) -> int:
        return self.process.peak_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    path: bytes | str
    """Text where it is UTF-8, else the bytes themselves. Nobody vouches for what it says."""
    type: str
    """`file`, `directory`, `symlink`, `fifo`, `socket` or `device`."""
    size: int
    mode: int
    """Permission bits."""
    modified_at: float
    """Seconds since the epoch."""
    target: bytes | str | None
    """Of a symbolic link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvent:
    """A change below a watched directory."""

    change: str
    """`created`, `modified`, `removed`, `moved_from`, `moved_to`, `attributes`, `overflow`."""
    path: bytes | str
    directory: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a sandbox uses at one moment."""

    at: str
    cpu_time: float
    memory: int
    peak_memory: int
    memory_limit: int
    pids: int
    pids_limit: int
    disk: int
    disk_limit: int
    processes: int
    oom_kills: int
    rx_bytes: int
    tx_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSample:
    """What a sandbox had used at one moment; CPU and network since its creation."""

    at: str
    cpu_time: float
    memory: int
    pids: int
    disk: int
    processes: int
    rx_bytes: int
    tx_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsHistory:
    interval: float
    """Seconds between samples; there are none of the time during which it was paused."""
    samples: tuple[MetricsSample, ...]
    """The oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    image: str
    """Give it as `image` of a new sandbox."""
    size: int
    """Bytes of the new layer; 0 where nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxEvent:
    id: str
    """Pass it as `after` to go on from here."""
    type: str
    sandbox: str
    at: str
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """One thing that a sandbox asked of its network."""

    id: str
    at: str
    kind: str
    """`name`, `connection`, `refused`, `ended` (a connection past the proxy), `gap` (some are lost)."""
    verdict: str
    """`allowed`, or why not."""
    name: str = ""
    protocol: str = ""
    address: str = ""
    port: int = 0
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUrl:
    """Reads or writes one file without a key, until it expires."""

    url: str
    method: str
    expires_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLink:
    """Opens one port of one sandbox without a key, until it expires."""

    url: str
    token: str
    """The secret in it: also good as the header `X-Sandboxd-Token` at the port's own host name."""
    expires_at: str


def sandbox_of(document: Mapping[str, Any]) -> SandboxInfo:
    get = document.get
    end = get("end")
    return SandboxInfo(
        id=document["id"],
        state=document["state"],
        template=get("template", ""),
        image=get("image", ""),
        volumes=tuple(get("volumes", ())),
        data=tuple(get("data", ())),
        key=get("key"),
        metadata=dict(get("metadata", {})),
        limits=_known(SandboxLimits, get("limits", {})),
        network=get("network", "none"),
        node=get("node", ""),
        isolation=tuple(get("isolation", ())),
        created_at=get("created_at", ""),
        expires_at=get("expires_at", ""),
        timeout=get("timeout", 0.0),
        idle_timeout=get("idle_timeout"),
        on_timeout=get("on_timeout", "kill"),
        paused_at=get("paused_at"),
        forked_from=get("forked_from"),
        end=None
        if end is None
        else SandboxEnd(reason=end["reason"], at=end["at"], detail=end.get("detail", "")),
        document=document,
    )


def process_of(document: Mapping[str, Any]) -> ProcessInfo:
    get = document.get
    return ProcessInfo(
        id=document["id"],
        pid=get("pid"),
        command=tuple(get("command", ())),
        cwd=get("cwd", ""),
        tag=get("tag", ""),
        pty=get("pty", False),
        state=document["state"],
        started_at=get("started_at", ""),
        exited_at=get("exited_at"),
        exit_code=get("exit_code"),
        signal=get("signal"),
        timed_out=get("timed_out", False),
        error=get("error"),
        cpu_time=get("cpu_time", 0.0),
        peak_memory=get("peak_memory", 0),
        wall_time=get("wall_time", 0.0),
        document=document,
    )


def command_result_of(document: Mapping[str, Any]) -> CommandResult:
    out, err = document["stdout"], document["stderr"]
    if document.get("encoding") == "base64":
        out_bytes, err_bytes = base64.b64decode(out), base64.b64decode(err)
    else:
        out_bytes, err_bytes = out.encode(), err.encode()
    return command_result(
        process_of(document["process"]), out_bytes, err_bytes,
        document.get("stdout_truncated", False), document.get("stderr_truncated", False),
    )  # fmt: skip


def command_result(
    process: ProcessInfo, out: bytes, err: bytes, out_truncated: bool, err_truncated: bool
) -> CommandResult:
    return CommandResult(
        process=process,
        stdout=out.decode(errors="replace"),
        stderr=err.decode(errors="replace"),
        stdout_bytes=out,
        stderr_bytes=err,
        stdout_truncated=out_truncated,
        stderr_truncated=err_truncated,
    )


def file_of(document: Mapping[str, Any]) -> FileInfo:
    get = document.get
    return FileInfo(
        path=_name(document, "path") or "",
        type=document["type"],
        size=get("size", 0),
        mode=get("mode", 0),
        modified_at=get("modified_at", 0.0),
        target=_name(document, "target"),
    )


def change_of(document: Mapping[str, Any]) -> FileEvent:
    return FileEvent(
        change=document["change"],
        path=_name(document, "path") or "",
        directory=document.get("directory", False),
    )


def metrics_of(document: Mapping[str, Any]) -> Metrics:
    return Metrics(
        at=document["at"],
        **{each.name: document.get(each.name, 0) for each in fields(Metrics) if each.name != "at"},
    )


def history_of(document: Mapping[str, Any]) -> MetricsHistory:
    return MetricsHistory(
        interval=document["interval"],
        samples=tuple(_known(MetricsSample, each) for each in document["samples"]),
    )


def record_of(document: Mapping[str, Any]) -> NetworkRecord:
    found: NetworkRecord = _known(NetworkRecord, document)
    return found


def event_of(document: Mapping[str, Any]) -> SandboxEvent:
    return SandboxEvent(
        id=document["id"],
        type=document["type"],
        sandbox=document["sandbox"],
        at=document.get("at", ""),
        data=dict(document.get("data", {})),
    )


def _known(kind: Any, document: Mapping[str, Any]) -> Any:
    """Of a document that a newer service may have added to."""
    names = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in document.items() if name in names})


def _name(document: Mapping[str, Any], name: str) -> bytes | str | None:
    exact = document.get(f"{name}_base64")
    if exact is not None:
        return base64.b64decode(exact)
    text: str | None = document.get(name)
    return text
