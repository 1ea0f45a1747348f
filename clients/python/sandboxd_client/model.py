"""What goes in and what comes back: plain frozen data. Seconds are floats, sizes are bytes."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal, TypeVar

from sandboxd_client.errors import ServerError

T = TypeVar("T")


class Status(StrEnum):
    """The one terminal status of a run."""

    OK = "ok"
    NONZERO_EXIT = "nonzero_exit"
    SIGNALLED = "signalled"
    CPU_TIME_EXCEEDED = "cpu_time_exceeded"
    WALL_TIME_EXCEEDED = "wall_time_exceeded"
    MEMORY_EXCEEDED = "memory_exceeded"
    OUTPUT_EXCEEDED = "output_exceeded"
    DISK_EXCEEDED = "disk_exceeded"
    SECURITY_VIOLATION = "security_violation"
    COMPILE_ERROR = "compile_error"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may use; None keeps the service's default."""

    cpu_time: float | None = None
    """CPU seconds of the whole process group."""
    wall_time: float | None = None
    memory: int | None = None
    pids: int | None = None
    """Processes and threads alive at once."""
    output: int | None = None
    """Bytes of stdout and of stderr, each."""
    disk: int | None = None
    open_files: int | None = None
    stack: int | None = None

    def given(self) -> dict[str, float | int]:
        """The limits that are not None, by name."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in values if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One program's end: the run's own, or its compiler's."""

    status: str
    """One of `Status`, or a newer service's word."""
    exit_code: int | None
    signal: str | None
    """Name such as `SIGSEGV`, or None."""
    stdout: str
    """What is not UTF-8 shows as U+FFFD; `stdout_bytes` is exact."""
    stderr: str
    stdout_bytes: bytes = field(repr=False)
    stderr_bytes: bytes = field(repr=False)
    stdout_truncated: bool
    stderr_truncated: bool
    cpu_time: float
    wall_time: float
    peak_memory: int

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself with exit code 0."""
        return self.status == Status.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Outcome):
    """Answer of a finished run."""

    id: str
    files: dict[str, bytes]
    """The files named in `collect`. Nobody vouches for the names; write them with `save_files`."""
    file_errors: dict[str, str]
    """Why a file named in `collect` is not in `files`, e.g. `not_found`."""
    compile: Outcome | None
    """The compiler's end, or None where nothing was compiled."""
    isolation: tuple[str, ...]
    """The layers that held, e.g. `userns`, `seccomp`."""
    language: str | None
    node: str | None
    reason: str | None
    """Why, where the status alone does not say, e.g. `node_lost`."""
    created_at: str
    """RFC 3339."""
    document: Mapping[str, Any] = field(repr=False, compare=False)
    """The answer as it was sent, with what a newer service adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as the service knows it now."""

    id: str
    state: str
    """`queued`, `leased`, `started` or `finished`."""
    created_at: str
    node: str | None
    attempt: int
    result: Result | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step in a run's life."""

    id: str
    """Pass it as `after` to go on from here."""
    type: str
    """`queued`, `leased`, `started`, `requeued`, `cancel_requested`, `finished`; a newer service
    may add to them."""
    at: str
    """RFC 3339."""
    data: Mapping[str, Any]
    """What belongs to the type, e.g. `node` and `attempt` of `started`."""


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of a running program's output."""

    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    name: str
    title: str
    aliases: tuple[str, ...]
    compiles: bool
    available: bool
    """Whether some live node offers it."""
    limits: Mapping[str, float]
    """What a run gets that names no limits."""
    document: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    ready: bool
    """Whether the service would take a run now."""
    detail: str


def parse(body: bytes | str, build: Callable[[Any], T]) -> T:
    """`build` of a JSON text. Raises ServerError if it is not what the service promises."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ServerError(f"the answer is not JSON: {error}", code="bad_answer") from error
    return built(document, build)


def built(document: Any, build: Callable[[Any], T]) -> T:
    """`build` of a decoded document. Raises ServerError as `parse` does."""
    try:
        return build(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        detail = f"the answer is not understood: {type(error).__name__}: {error}"
        raise ServerError(detail, code="bad_answer") from error


def result_of(document: Mapping[str, Any]) -> Result:
    get = document.get
    compiled = get("compile")
    return Result(
        **_outcome_fields(document),
        id=document["id"],
        files={name: content_of(file) for name, file in get("files", {}).items()},
        file_errors=dict(get("file_errors", {})),
        compile=None if compiled is None else Outcome(**_outcome_fields(compiled)),
        isolation=tuple(get("isolation", ())),
        language=get("language"),
        node=get("node"),
        reason=get("reason"),
        created_at=get("created_at", ""),
        document=document,
    )


def outcome_of(document: Mapping[str, Any]) -> Outcome:
    return Outcome(**_outcome_fields(document))


def record_of(document: Mapping[str, Any]) -> RunRecord:
    result = document.get("result")
    return RunRecord(
        id=document["id"],
        state=document["state"],
        created_at=document.get("created_at", ""),
        node=document.get("node"),
        attempt=document.get("attempt", 0),
        result=None if result is None else result_of(result),
    )


def languages_of(document: Any) -> tuple[Language, ...]:
    return tuple(
        Language(
            name=each["name"],
            title=each.get("title", each["name"]),
            aliases=tuple(each.get("aliases", ())),
            compiles=each.get("compiles", False),
            available=each.get("available", True),
            limits=each.get("limits", {}),
            document=each,
        )
        for each in document["languages"]
    )


def content_of(file: Mapping[str, str | None]) -> bytes:
    """Bytes of `{"text": …}` or `{"base64": …}`. Raises ValueError, KeyError."""
    text = file.get("text")
    return base64.b64decode(file["base64"] or "") if text is None else text.encode()


def content(data: str | bytes) -> dict[str, str]:
    """The shortest of `{"text": …}` and `{"base64": …}` that holds `data`."""
    if isinstance(data, str):
        return {"text": data}
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _outcome_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    get = document.get
    encoded = get("encoding") == "base64"
    out, out_bytes = _output(get("stdout", ""), encoded)
    err, err_bytes = _output(get("stderr", ""), encoded)
    return {
        "status": _status(document["status"]),
        "exit_code": get("exit_code"),
        "signal": get("signal"),
        "stdout": out,
        "stderr": err,
        "stdout_bytes": out_bytes,
        "stderr_bytes": err_bytes,
        "stdout_truncated": get("stdout_truncated", False),
        "stderr_truncated": get("stderr_truncated", False),
        "cpu_time": get("cpu_time", 0.0),
        "wall_time": get("wall_time", 0.0),
        "peak_memory": get("peak_memory", 0),
    }


def _output(value: str, encoded: bool) -> tuple[str, bytes]:
    if not encoded:
        return value, value.encode()
    data = base64.b64decode(value)
    return data.decode(errors="replace"), data


def _status(word: str) -> str:
    return _STATUSES.get(word, word)


_STATUSES: dict[str, str] = {status.value: status for status in Status}
