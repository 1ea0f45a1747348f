"""What gateway and node agent say to each other about sessions: calls, answers, streams.

The agent listens on a unix stream socket (`NodeRecord.address`), the same that live runs use: the
first byte of a connection tells which. Everything is frames: one byte of kind, four bytes of
big-endian payload length, the payload. Payloads are msgpack of the structs below, except data frames,
whose payload is the bytes themselves (`MAX_DATA` at most).

One connection carries one call at a time, and is kept open for the next:

    gateway                                   node
    CALL  one of `Call`            ──▶
    [DATA … END]                   ──▶        calls with input (see below)
    [RESIZE, SIGNAL]               ──▶        during Exec and Attach
                                   ◀──        [EVENT, DATA, STDERR …]   calls with a stream
                                   ◀──        REPLY msgpack of the call's answer | ERROR `Problem`

REPLY or ERROR is always the node's last frame of a call. The gateway then sends nothing more for it; what
was on its way is thrown away until the next CALL, so that the connection can be used again at once. To
give a call up, close the connection: nothing is left half done (an upload is thrown away, a watch ends,
a process is detached from or killed, see `Exec.on_disconnect`). Flow control is the socket's: whoever
does not read, waits.

The node checks tenant and sandbox of every call again. A sandbox that is not this tenant's or not here
is ERROR `not_found`; one that ended, `sandbox_ended`; one that was lost with its node is in the
directory of sessions (`queue.sessions`), which also says which node to ask. The codes of ERROR are
those of `sandboxd.errors` (`errors.known(code)` finds the class). Calls other than Get, Metrics, History,
Processes, Inspect, Extend, Update, Pause, Snapshot, Fork and Kill wake a paused sandbox.

| call | input | stream | REPLY |
|---|---|---|---|
| Create, Get, Pause, Resume, Extend, Update, Kill | | | `Sandbox` |
| Metrics | | | `session.Metrics` |
| History | | | `MetricsHistory` |
| Snapshot | | | `Snapshotted` |
| Fork | | | `Forked` |
| Exec | DATA, END: stdin | EVENT `Process` first, DATA = stdout, STDERR | `ProcessResult` |
| Run | | | `ProcessResult` |
| Start | | | `Process` |
| Attach | DATA, END: stdin | EVENT `Attached` first, DATA, STDERR | `ProcessResult` with empty output |
| Processes | | | `ProcessList` |
| StartContext, RestartContext | | | `Process` |
| Inspect, Signal, Resize, Input | Input: in the call | | `Process` |
| Stat, MakeDirectory, Move, ChangeMode | | | `FileInfo` |
| Remove | | | `Removed` |
| ListFiles | | | `FileList` |
| ReadFile | | EVENT `FileInfo` first, DATA | `Transferred` |
| WriteFile | DATA, END | with `handover` EVENT `Handover` first | `FileInfo` |
| WriteFiles | DATA of all files one after the other, END | | `Written` |
| Connect | DATA, END | EVENT `Connected` first, DATA | `Closed` |
| WaitForPort | | | `PortState` |
| Watch | | EVENT `Watching` first, then EVENT `Changes` | none: until the connection closes |

Exec and Attach: END closes stdin; input for a process without one is thrown away. More than one client
may attach, each sees all output; their input is mixed in order of arrival. On a PTY there is no END:
send the terminal's own end-of-file character. A client that stays behind is not waited for as long as
another client reads: what it missed is lost to it, and it is told by EVENT `Missed` at that place of
the stream. A lone client that does not read holds the process up, as a pipe would.

WriteFile is atomic unless `append` or `offset` is given: the file has its old content until END has
come and every byte is in, then its new. Without END, nothing has changed. With `append` or `offset`
what was received is in the file, and `Stat` says how much: that is how an upload is resumed.
"""

import struct
from enum import IntEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from sandboxd.model.context import ContextRequest
from sandboxd.model.session import (
    FileEvent,
    NetworkChoice,
    Process,
    ProcessRequest,
    PtySize,
    Sandbox,
    SandboxRequest,
    SessionLimits,
)
from sandboxd.model.stored import PoolBounds

MAX_DATA = 256 << 10
MAX_CALL = 4 << 20
MAX_ANSWER = 160 << 20
"""Bytes of one REPLY: a result's kept output, twice 64 MiB, or a page of files."""

Path = Annotated[bytes, Meta(min_length=1, max_length=4095)]
"""A path inside: absolute, or relative to /work. Bytes without NUL; links in it are followed within
the sandbox, but where the last part is the thing that is acted on (Remove, Move, Stat with
`follow=False`)."""

_HEAD = struct.Struct(">BI")


class Kind(IntEnum):
    CALL = 32
    REPLY = 33
    ERROR = 34
    DATA = 35
    """stdin, or bytes of a file; from the node: stdout, or bytes of a file."""
    STDERR = 36
    END = 37
    """No more DATA of this call."""
    EVENT = 38
    RESIZE = 39
    """msgpack of `PtySize`."""
    SIGNAL = 40
    """msgpack of the number."""


class _Call(Struct, frozen=True, kw_only=True, tag_field="call", forbid_unknown_fields=True):
    tenant: str
    sandbox: str


class Create(_Call, frozen=True, kw_only=True):
    """`sandbox` is the id that the gateway chose; a second Create of it gives the first's."""

    request: SandboxRequest
    limits: SessionLimits
    """The request's, held against the operator's maximum; None where the template's hold."""
    pool: PoolBounds | None = None
    """How many sandboxes of the request's image are kept built ahead; None: by what is asked for."""


class Get(_Call, frozen=True, kw_only=True):
    pass


class Pause(_Call, frozen=True, kw_only=True):
    """The answer comes when everything in it stands still."""


class Resume(_Call, frozen=True, kw_only=True):
    pass


class Extend(_Call, frozen=True, kw_only=True):
    """Keep it alive: its time to live starts again, and so does its idle time."""

    timeout: float | None = None
    """A new time to live from now; None: the one it has."""


class Update(_Call, frozen=True, kw_only=True):
    """Change what may be changed while it lives; None leaves a thing as it is."""

    limits: SessionLimits | None = None
    metadata: dict[str, str] | None = None
    idle_timeout: float | None = None
    """0 takes it away."""
    on_timeout: Literal["kill", "pause"] | None = None
    network: NetworkChoice | None = None


class Kill(_Call, frozen=True, kw_only=True):
    """The answer is the record of its end; also of one that has ended."""


class Metrics(_Call, frozen=True, kw_only=True):
    pass


class History(_Call, frozen=True, kw_only=True):
    """What it has used over time."""

    after: float = 0.0
    """Only what is later; seconds since the epoch."""


class Snapshot(_Call, frozen=True, kw_only=True):
    """Its file system becomes an image; processes are not part of it."""

    name: str | None = None
    """Of the image, among the tenant's own; None: its sandbox and the time."""


class Snapshotted(Struct, frozen=True):
    image: str
    """Digest, to be given as `image` of a sandbox."""
    size: int
    """Bytes of the new layer; 0 for an untouched file system."""


class Fork(_Call, frozen=True, kw_only=True):
    """Start a sandbox per id in `children`, all from one frozen instant of this one's file system."""

    children: Annotated[list[str], Meta(min_length=1, max_length=64)]


class Forked(Struct, frozen=True):
    sandboxes: list[Sandbox]


class Exec(_Call, frozen=True, kw_only=True):
    """Start a process and follow it to its end."""

    id: str
    """Chosen by the gateway."""
    process: ProcessRequest
    on_disconnect: Literal["keep", "kill"] = "keep"


class Run(_Call, frozen=True, kw_only=True):
    """Start a process and wait for its end; it is killed if the connection closes."""

    id: str
    process: ProcessRequest
    input: bytes = b""
    """All of its stdin."""


class Start(_Call, frozen=True, kw_only=True):
    """Start a process and leave it alone."""

    id: str
    process: ProcessRequest


class Attach(_Call, frozen=True, kw_only=True):
    process: str
    history: bool = True
    """First what is kept of its output so far."""


class Attached(Struct, frozen=True):
    process: Process
    stdout_dropped: int = 0
    """Bytes of stdout that came before those that follow and are kept no more (`truncated`)."""
    stderr_dropped: int = 0


class Missed(Struct, frozen=True, tag="missed"):
    """This client was too slow: so many bytes are not coming."""

    stdout: int = 0
    stderr: int = 0


class StartContext(_Call, frozen=True, kw_only=True):
    """Start the interpreter of a context: a process with this id, with its program on its way and stdin
    open for what `kernels.protocol` says; `tag` of the process is the language."""

    id: str
    context: ContextRequest


class RestartContext(_Call, frozen=True, kw_only=True):
    """End a context's interpreter, if it has not ended, and start another in its place."""

    id: str


class Processes(_Call, frozen=True, kw_only=True):
    pass


class ProcessList(Struct, frozen=True):
    processes: list[Process]
    """Those that run, and the last hundred that ended; oldest first."""


class Inspect(_Call, frozen=True, kw_only=True):
    process: str


class Signal(_Call, frozen=True, kw_only=True):
    """To the process and its process group."""

    process: str
    signal: Annotated[int, Meta(ge=1, le=64)]


class Resize(_Call, frozen=True, kw_only=True):
    process: str
    size: PtySize


class Input(_Call, frozen=True, kw_only=True):
    """Write to stdin without a stream; the answer comes when all of it is in the pipe."""

    process: str
    data: bytes
    eof: bool = False


class _FileCall(_Call, frozen=True, kw_only=True):
    root: bool = False
    """With the rights of the sandbox's root, if it has one, and not of its user."""


Attribute = Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00\n]*\Z")]


class Stat(_FileCall, frozen=True, kw_only=True):
    path: Path
    follow: bool = True
    attributes: bool = False
    """Tell them too."""


class ListFiles(_FileCall, frozen=True, kw_only=True):
    path: Path
    depth: Annotated[int, Meta(ge=1, le=64)] = 1
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    cursor: str | None = None
    attributes: bool = False
    """Tell them too."""


class MakeDirectory(_FileCall, frozen=True, kw_only=True):
    """With its parents; one that exists is no error."""

    path: Path
    mode: Annotated[int, Meta(ge=0, le=0o1777)] = 0o755


class Move(_FileCall, frozen=True, kw_only=True):
    source: Path
    target: Path
    overwrite: bool = True


class ChangeMode(_FileCall, frozen=True, kw_only=True):
    path: Path
    mode: Annotated[int, Meta(ge=0, le=0o1777)]


class Remove(_FileCall, frozen=True, kw_only=True):
    path: Path
    recursive: bool = False


class Removed(Struct, frozen=True):
    entries: int
    """How many files and directories."""


class ReadFile(_FileCall, frozen=True, kw_only=True):
    path: Path
    offset: Annotated[int, Meta(ge=0)] = 0
    length: Annotated[int, Meta(ge=0)] | None = None
    """None: to its end, as it was when it was opened."""
    inline: int | None = None
    """If there are more bytes than that, none of them come."""
    handover: bool = False
    """None come, but a descriptor of the file comes with the EVENT."""


class Transferred(Struct, frozen=True):
    bytes: int
    """That were sent: fewer than were announced if the file became shorter meanwhile."""


class WriteFile(_FileCall, frozen=True, kw_only=True):
    path: Path
    mode: Annotated[int, Meta(ge=0, le=0o777)] | None = None
    """None: that of the file which is there, 0644 for a new one."""
    append: bool = False
    offset: Annotated[int, Meta(ge=0)] | None = None
    """Write into the file from here on, which may not be beyond its end."""
    parents: bool = True
    """Make the directories that are missing."""
    attributes: Annotated[dict[str, Attribute], Meta(max_length=64)] = {}
    """Of the `user` kind, without that word: what a file that is replaced shall have."""
    handover: bool = False
    """Its content goes into a pipe that comes with an EVENT `Handover`, not by DATA; END says that it is
    whole, once the pipe is closed."""


class Handover(Struct, frozen=True):
    """A descriptor comes with this, which only a connection of its own can take (`SCM_RIGHTS`)."""


class NewFile(Struct, frozen=True):
    path: Path
    size: Annotated[int, Meta(ge=0)]
    mode: Annotated[int, Meta(ge=0, le=0o777)] = 0o644


class WriteFiles(_FileCall, frozen=True, kw_only=True):
    """Many small files at once, each atomic by itself, in this order."""

    files: Annotated[list[NewFile], Meta(max_length=10_000)]


class Written(Struct, frozen=True):
    files: int
    bytes: int


class Watch(_FileCall, frozen=True, kw_only=True):
    path: Path
    recursive: bool = True


class Watching(Struct, frozen=True):
    """The watch stands: every later change is told."""

    directories: int


class Changes(Struct, frozen=True):
    events: list[FileEvent]


class Connect(_Call, frozen=True, kw_only=True):
    """A TCP connection to a server in the sandbox, on its loopback. END closes our direction; the
    REPLY comes when the server has closed its own, ERROR `port_closed` where nobody listens."""

    port: Annotated[int, Meta(ge=1, le=65_535)]


class Connected(Struct, frozen=True):
    port: int


class Closed(Struct, frozen=True):
    sent: int
    """Bytes to the server."""
    received: int


class WaitForPort(_Call, frozen=True, kw_only=True):
    """Until somebody listens there."""

    port: Annotated[int, Meta(ge=1, le=65_535)]
    timeout: Annotated[float, Meta(gt=0, le=3600)] = 30.0


class PortState(Struct, frozen=True):
    port: int
    open: bool
    """False if nobody listened within the timeout."""


Call = (
    Create
    | Get
    | Pause
    | Resume
    | Extend
    | Update
    | Kill
    | Metrics
    | History
    | Snapshot
    | Fork
    | Exec
    | Run
    | Start
    | Attach
    | StartContext
    | RestartContext
    | Processes
    | Inspect
    | Signal
    | Resize
    | Input
    | Stat
    | ListFiles
    | MakeDirectory
    | Move
    | ChangeMode
    | Remove
    | ReadFile
    | WriteFile
    | WriteFiles
    | Watch
    | Connect
    | WaitForPort
)


class Problem(Struct, frozen=True, kw_only=True):
    """An error of `sandboxd.errors`, by its machine code."""

    code: str
    detail: str
    field: str | None = None
    retry_after: float | None = None


class FrameError(ValueError):
    """The peer sent something that is not a frame of this protocol."""


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


def head(kind: Kind, length: int) -> bytes:
    """The head alone, for a payload that is sent by itself."""
    return _HEAD.pack(kind, length)


def message(kind: Kind, value: object) -> bytes:
    return frame(kind, _encode(value))


_encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Call).decode
_CEILING = {
    Kind.CALL: MAX_CALL,
    Kind.REPLY: MAX_ANSWER,
    Kind.EVENT: MAX_CALL,
    Kind.DATA: MAX_DATA,
    Kind.STDERR: MAX_DATA,
}
_SMALL = 65_536


class Decoder:
    """Feed it bytes as they come; it gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Frames completed by `data`. Raises FrameError on an unknown kind or excessive length."""
        frames: list[tuple[Kind, bytes]] = []
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            number, length = _HEAD.unpack_from(self._buffer, at)
            try:
                kind = Kind(number)
            except ValueError:
                raise FrameError(f"unknown frame kind {number}") from None
            if length > _CEILING.get(kind, _SMALL):
                raise FrameError(f"{kind.name} of {length} bytes")
            end = at + _HEAD.size + length
            if len(self._buffer) < end:
                break
            with memoryview(self._buffer) as view:
                frames.append((kind, bytes(view[at + _HEAD.size : end])))
            at = end
        del self._buffer[:at]
        return frames
