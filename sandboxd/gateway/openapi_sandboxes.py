"""The operations of sandboxes that live, for the OpenAPI document; it has no words for WebSockets."""

from typing import Any

from msgspec import Struct

from sandboxd.errors import (
    BodyTooLarge,
    Conflict,
    InvalidRequest,
    MalformedBody,
    NoSpace,
    NotFound,
    QuotaExceeded,
    RequestTimeout,
    SandboxdError,
    SandboxEnded,
    UnsupportedMediaType,
)
from sandboxd.gateway.api.sandbox_lines import EVENTS, NDJSON
from sandboxd.gateway.operations import BODY, GUARDED, JSON, Operation
from sandboxd.gateway.sessions.ranges import RangeNotSatisfiable
from sandboxd.model.agent import Forked, PortState, ProcessList, Removed, Snapshotted, Written
from sandboxd.model.session import (
    PROCESS_ID,
    SANDBOX_ID,
    FileInfo,
    FileList,
    Metrics,
    Process,
    PtySize,
    Sandbox,
    SandboxRequest,
)
from sandboxd.model.session_api import (
    BatchRequest,
    CommandRequest,
    CommandResult,
    DirectoryRequest,
    ExtendRequest,
    ForkRequest,
    InputRequest,
    ModeRequest,
    MoveRequest,
    SandboxList,
    SandboxUpdate,
    SignalRequest,
    SignedUrl,
    SignRequest,
    SnapshotRequest,
)

SANDBOX_TYPES: tuple[type[Struct], ...] = (
    SandboxRequest, Sandbox, SandboxList, SandboxUpdate, ExtendRequest, SnapshotRequest, Snapshotted,
    ForkRequest, Forked, Metrics, CommandRequest, CommandResult, Process, ProcessList, SignalRequest,
    InputRequest, PtySize, FileInfo, FileList, Removed, Written, BatchRequest, DirectoryRequest,
    MoveRequest, ModeRequest, SignRequest, SignedUrl, PortState,
)  # fmt: skip

_ONE = "/v1/sandboxes/{id}"
_PROCESS = f"{_ONE}/processes/{{process}}"
_FILES = f"{_ONE}/files"
_OF_ONE: tuple[type[SandboxdError], ...] = (
    *GUARDED, NotFound, InvalidRequest, RequestTimeout, SandboxEnded, Conflict,
)  # fmt: skip
_WITH_BODY: tuple[type[SandboxdError], ...] = (
    *_OF_ONE, BodyTooLarge, MalformedBody, UnsupportedMediaType, NoSpace,
)  # fmt: skip
_OCTETS = "application/octet-stream"
_TAR = "application/x-tar"


def _life(verb: str, summary: str, request: type[Struct] | None = None) -> Operation:
    return Operation(
        path=f"{_ONE}/{verb}",
        method="post",
        id=f"{verb}_sandbox",
        summary=summary,
        request=request,
        optional=True,
        parameters=("sandbox",),
        answers={200: (JSON, Sandbox)},
        errors=_WITH_BODY if request else _OF_ONE,
    )


def _of_process(verb: str, summary: str, request: type[Struct]) -> Operation:
    return Operation(
        path=f"{_PROCESS}/{verb}",
        method="post",
        id=f"{verb}_process",
        summary=summary,
        request=request,
        parameters=("sandbox", "process"),
        answers={200: (JSON, Process)},
        errors=_WITH_BODY,
    )


def _of_file(verb: str, name: str, summary: str, request: type[Struct]) -> Operation:
    return Operation(
        path=f"{_FILES}/{verb}",
        method="post",
        id=name,
        summary=summary,
        request=request,
        parameters=("sandbox",),
        answers={200: (JSON, FileInfo)},
        errors=_WITH_BODY,
    )


_LIFE = (
    Operation(
        path="/v1/sandboxes",
        method="post",
        id="create_sandbox",
        summary="Open a sandbox; 200 with the one that `key` has, or that an earlier request made",
        request=SandboxRequest,
        parameters=("Idempotency-Key",),
        answers={200: (JSON, Sandbox), 201: (JSON, Sandbox)},
        errors=(*GUARDED, *BODY, NotFound, Conflict, QuotaExceeded),
    ),
    Operation(
        path="/v1/sandboxes",
        method="get",
        id="list_sandboxes",
        summary="The tenant's sandboxes, the newest first; `metadata.NAME=VALUE` filters by pairs",
        parameters=("state", "sandboxes_limit", "sandboxes_cursor"),
        answers={200: (JSON, SandboxList)},
        errors=(*GUARDED, InvalidRequest),
    ),
    Operation(
        path="/v1/sandboxes/events",
        method="get",
        id="follow_sandboxes",
        summary="What happens to the tenant's sandboxes, as it happens",
        parameters=("Last-Event-ID",),
        answers={200: (EVENTS, None)},
        errors=(*GUARDED, InvalidRequest),
    ),
    Operation(
        path=_ONE,
        method="get",
        id="read_sandbox",
        summary="A sandbox; one that ended says why for a day",
        parameters=("sandbox",),
        answers={200: (JSON, Sandbox)},
        errors=(*GUARDED, NotFound),
    ),
    Operation(
        path=_ONE,
        method="patch",
        id="update_sandbox",
        summary="Change limits, metadata, idle timeout, fate or network while it lives",
        request=SandboxUpdate,
        parameters=("sandbox",),
        answers={200: (JSON, Sandbox)},
        errors=_WITH_BODY,
    ),
    Operation(
        path=_ONE,
        method="delete",
        id="kill_sandbox",
        summary="End a sandbox with everything in it; also one that has ended",
        parameters=("sandbox",),
        answers={200: (JSON, Sandbox)},
        errors=_OF_ONE,
    ),
    _life("extend", "Its time to live starts again", ExtendRequest),
    _life("pause", "Everything in it stands still, until a request needs it"),
    _life("resume", "It goes on"),
    Operation(
        path=f"{_ONE}/snapshot",
        method="post",
        id="snapshot_sandbox",
        summary="Its files become an image; processes are not part of it",
        request=SnapshotRequest,
        optional=True,
        parameters=("sandbox",),
        answers={201: (JSON, Snapshotted)},
        errors=_WITH_BODY,
    ),
    Operation(
        path=f"{_ONE}/fork",
        method="post",
        id="fork_sandbox",
        summary="New sandboxes with the files that this one has at one instant",
        request=ForkRequest,
        optional=True,
        parameters=("sandbox",),
        answers={201: (JSON, Forked)},
        errors=(*_WITH_BODY, QuotaExceeded),
    ),
    Operation(
        path=f"{_ONE}/metrics",
        method="get",
        id="sandbox_metrics",
        summary="What it uses now",
        parameters=("sandbox",),
        answers={200: (JSON, Metrics)},
        errors=_OF_ONE,
    ),
    Operation(
        path=f"{_ONE}/metrics/stream",
        method="get",
        id="follow_metrics",
        summary="What it uses, every `interval` seconds",
        parameters=("sandbox", "interval"),
        answers={200: (EVENTS, None)},
        errors=_OF_ONE,
    ),
    Operation(
        path=f"{_ONE}/events",
        method="get",
        id="follow_sandbox",
        summary="What happened and happens to it, to its end",
        parameters=("sandbox", "Last-Event-ID"),
        answers={200: (EVENTS, None)},
        errors=(*GUARDED, NotFound, InvalidRequest),
    ),
)

_PROCESSES = (
    Operation(
        path=f"{_ONE}/exec",
        method="post",
        id="execute",
        summary="Run a command to its end; streams where `Accept` names NDJSON or server-sent events",
        request=CommandRequest,
        parameters=("sandbox",),
        answers={200: (JSON, CommandResult)},
        errors=_WITH_BODY,
    ),
    Operation(
        path=f"{_ONE}/processes",
        method="get",
        id="list_processes",
        summary="Those that run, and the last hundred that ended",
        parameters=("sandbox",),
        answers={200: (JSON, ProcessList)},
        errors=_OF_ONE,
    ),
    Operation(
        path=f"{_ONE}/processes",
        method="post",
        id="start_process",
        summary="Start a command in the background",
        request=CommandRequest,
        parameters=("sandbox",),
        answers={201: (JSON, Process)},
        errors=_WITH_BODY,
    ),
    Operation(
        path=_PROCESS,
        method="get",
        id="read_process",
        summary="A process; with `wait`, when it has ended or so many seconds have passed",
        parameters=("sandbox", "process", "wait"),
        answers={200: (JSON, Process)},
        errors=_OF_ONE,
    ),
    Operation(
        path=f"{_PROCESS}/output",
        method="get",
        id="follow_process",
        summary="Its output so far and to come, to its end",
        parameters=("sandbox", "process", "history"),
        answers={200: (NDJSON, None)},
        errors=_OF_ONE,
    ),
    _of_process("signal", "Send a signal to it and its process group", SignalRequest),
    _of_process("stdin", "Write to its stdin, or close that", InputRequest),
    _of_process("resize", "Another size of its terminal", PtySize),
    Operation(
        path=f"{_ONE}/ports/{{port}}",
        method="get",
        id="read_port",
        summary="Whether a server listens inside; with `wait`, as soon as one does",
        parameters=("sandbox", "port", "wait"),
        answers={200: (JSON, PortState)},
        errors=_OF_ONE,
    ),
)

_FILE = (
    Operation(
        path=_FILES,
        method="get",
        id="list_files",
        summary="What is below a directory",
        parameters=(
            "sandbox", "path", "path_base64", "depth", "files_limit", "files_cursor",
        ),
        answers={200: (JSON, FileList)},
        errors=_OF_ONE,
    ),
    Operation(
        path=_FILES,
        method="delete",
        id="remove_file",
        summary="Remove a file, or with `recursive` a directory",
        parameters=("sandbox", "path", "path_base64", "recursive"),
        answers={200: (JSON, Removed)},
        errors=_OF_ONE,
    ),
    Operation(
        path=f"{_FILES}/stat",
        method="get",
        id="stat_file",
        summary="What there is to say of a file",
        parameters=("sandbox", "path", "path_base64", "follow"),
        answers={200: (JSON, FileInfo)},
        errors=_OF_ONE,
    ),
    Operation(
        path=f"{_FILES}/content",
        method="get",
        id="read_file",
        summary="A file, or the part of it that `Range` names",
        parameters=("sandbox", "path", "path_base64", "Range", "If-Range"),
        answers={200: (_OCTETS, None), 206: (_OCTETS, None)},
        errors=(*_OF_ONE, RangeNotSatisfiable),
    ),
    Operation(
        path=f"{_FILES}/content",
        method="put",
        id="write_file",
        summary="The body becomes the file, whole or not at all; `append` and `offset` write into it",
        also=(_OCTETS,),
        parameters=(
            "sandbox", "path", "path_base64", "mode", "append", "offset", "parents",
        ),
        answers={200: (JSON, FileInfo)},
        errors=(*_OF_ONE, NoSpace),
    ),
    Operation(
        path=f"{_FILES}/archive",
        method="get",
        id="read_archive",
        summary="A directory as tar",
        parameters=("sandbox", "path", "path_base64"),
        answers={200: (_TAR, None)},
        errors=_OF_ONE,
    ),
    Operation(
        path=f"{_FILES}/archive",
        method="put",
        id="write_archive",
        summary="Unpack a tar into a directory",
        also=(_OCTETS,),
        parameters=("sandbox", "path", "path_base64"),
        answers={204: ("", None)},
        errors=(*_OF_ONE, NoSpace),
    ),
    Operation(
        path=f"{_FILES}/batch",
        method="post",
        id="write_files",
        summary="Many small files in one request",
        request=BatchRequest,
        parameters=("sandbox",),
        answers={200: (JSON, Written)},
        errors=_WITH_BODY,
    ),
    _of_file("directory", "make_directory", "Make a directory and its parents", DirectoryRequest),
    _of_file("move", "move_file", "Move or rename", MoveRequest),
    _of_file("mode", "change_mode", "Change permission bits", ModeRequest),
    Operation(
        path=f"{_FILES}/sign",
        method="post",
        id="sign_file",
        summary="An address that reads or writes one file without a key, until it expires",
        request=SignRequest,
        parameters=("sandbox",),
        answers={201: (JSON, SignedUrl)},
        errors=_WITH_BODY,
    ),
    Operation(
        path=f"{_FILES}/watch",
        method="get",
        id="watch_files",
        summary="Changes below a directory, as they happen",
        parameters=("sandbox", "path", "path_base64", "recursive"),
        answers={200: (NDJSON, None)},
        errors=_OF_ONE,
    ),
    Operation(
        path="/v1/signed/{token}",
        method="get",
        id="read_signed",
        summary="The file of a signed address",
        parameters=("token", "Range", "If-Range"),
        answers={200: (_OCTETS, None), 206: (_OCTETS, None)},
        errors=(*_OF_ONE, RangeNotSatisfiable),
        open=True,
    ),
    Operation(
        path="/v1/signed/{token}",
        method="put",
        id="write_signed",
        summary="The body becomes the file of a signed address",
        also=(_OCTETS,),
        parameters=("token",),
        answers={200: (JSON, FileInfo)},
        errors=(*_OF_ONE, NoSpace),
        open=True,
    ),
)  # fmt: skip

SANDBOX_OPERATIONS = (*_LIFE, *_PROCESSES, *_FILE)


def _in_path(name: str, pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": text,
        "schema": schema or {"type": "string"},
    }


def _in_header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}


def _count(name: str, text: str, least: int, most: int) -> dict[str, Any]:
    return _in_query(name, text, type="integer", minimum=least, maximum=most)


def _flag(name: str, text: str) -> dict[str, Any]:
    return _in_query(name, text, type="boolean")


SANDBOX_PARAMETERS: dict[str, dict[str, Any]] = {
    "sandbox": _in_path("id", SANDBOX_ID),
    "process": _in_path("process", PROCESS_ID),
    "port": {
        "name": "port",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 1, "maximum": 65_535},
    },
    "token": _in_path("token", "^[A-Za-z0-9_-]+$"),
    "state": _in_query("state", "Only those.", type="string", enum=["running", "paused", "ended"]),
    "sandboxes_limit": _count("limit", "Of one page.", 1, 200),
    "sandboxes_cursor": _in_query("cursor", "`next_cursor` of the page before."),
    "interval": _count("interval", "Seconds.", 1, 3600),
    "wait": _count("wait", "Seconds.", 0, 3600),
    "history": _flag("history", "First what is kept of the output so far."),
    "path": _in_query("path", "Absolute, or relative to /work.", type="string", minLength=1),
    "path_base64": _in_query("path_base64", "The path, where it is not UTF-8; instead of `path`."),
    "depth": _count("depth", "Levels of directories.", 1, 64),
    "files_limit": _count("limit", "Of one page.", 1, 10_000),
    "files_cursor": _in_query("cursor", "`next_cursor` of the page before."),
    "recursive": _flag("recursive", "Everything below too."),
    "follow": _flag("follow", "What a symbolic link points at, not the link."),
    "append": _flag("append", "Write at the end of the file; not atomic."),
    "parents": _flag("parents", "Make the directories that are missing."),
    "offset": _count("offset", "Write into the file from here on; not atomic.", 0, 1 << 62),
    "mode": _in_query("mode", "Permission bits, octal.", type="string", pattern="^[0-7]{1,3}$"),
    "Range": _in_header("Range", "RFC 9110: one range of bytes."),
    "If-Range": _in_header("If-Range", "The ETag of what has come already."),
}
"""Key of an operation -> the parameter; the name in it is what is sent."""
