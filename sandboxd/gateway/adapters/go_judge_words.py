"""What go-judge's requests and results say, in our words and back. Pure."""

import base64
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from sandboxd.gateway.adapters.jobs import stream
from sandboxd.model import (
    FileContent,
    LimitOverrides,
    Limits,
    PartOutcome,
    Result,
    RunRequest,
    Status,
)

_NANO = 1e9
_STREAMS = ("stdout", "stderr")
_STATUS = {
    Status.OK: "Accepted",
    Status.NONZERO_EXIT: "Nonzero Exit Status",
    Status.SIGNALLED: "Signalled",
    Status.SECURITY_VIOLATION: "Dangerous Syscall",
    Status.MEMORY_EXCEEDED: "Memory Limit Exceeded",
    Status.CPU_TIME_EXCEEDED: "Time Limit Exceeded",
    Status.WALL_TIME_EXCEEDED: "Time Limit Exceeded",
    Status.OUTPUT_EXCEEDED: "Output Limit Exceeded",
    Status.DISK_EXCEEDED: "Output Limit Exceeded",
    Status.CANCELLED: "Internal Error",
    Status.INTERNAL_ERROR: "Internal Error",
}
_FILE_ERRORS = {
    "not_found": "CopyOutOpen",
    "denied": "CopyOutOpen",
    "not_regular": "CopyOutNotRegularFile",
    "too_large": "CopyOutSizeExceeded",
}
_SIGNALS = {
    "SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7,
    "SIGFPE": 8, "SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13,
    "SIGALRM": 14, "SIGTERM": 15, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGSYS": 31,
}  # fmt: skip


class Bad(ValueError):
    """Answered with its text and this status."""

    status = 400


class WorkerError(Bad):
    """What go-judge finds out only when it runs the request."""

    status = 500


class Label(Struct, frozen=True):
    """What is known of a kept file besides its bytes."""

    name: str
    digest: str


class Asked(Struct, frozen=True, kw_only=True):
    """One command: the run, and what its answer is to hold."""

    request: RunRequest
    wiring: "Wiring"
    returned: list[str]
    cached: list[str]
    optional: frozenset[str]
    copy_out_max: int | None = None
    """Bytes of one file that is brought back."""
    truncate: bool = False
    """Cut what is larger, and complain of nothing."""
    terminal: bool = False
    """A terminal is all of its streams."""


class Wiring(Struct, frozen=True, kw_only=True):
    """What a command's three streams are."""

    stdin: bytes = b""
    streams: dict[str, list[int]] = {}
    """Name under which stdout or stderr or both are collected -> descriptors."""
    output: int | None = None
    """The largest of their caps."""
    live_in: bool = False
    live_out: frozenset[int] = frozenset()
    """Descriptors that the client has as they come, of `/stream`."""


def file_ids(commands: list[Any]) -> Iterator[str]:
    """Kept files that commands name. Raises Bad."""
    for command in commands:
        if not isinstance(command, dict):
            raise Bad("cmd: not an object")
        files = [*(command.get("files") or []), *(command.get("copyIn") or {}).values()]
        for file in files:
            if isinstance(file, dict) and file.get("fileId") is not None:
                yield str(file["fileId"])


def ask(
    command: dict[str, Any],
    contents: Mapping[str, bytes],
    maximum: Limits,
    piped: frozenset[int] = frozenset(),
    pipe_names: Collection[str] = (),
    *,
    live: bool = False,
) -> Asked:
    """`piped` are the descriptors that a pipe takes, `pipe_names` under what is collected from them;
    `live` that the client may be at the other end of some. Raises Bad."""
    args = command.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(x, str) for x in args):
        raise Bad("args: a list of strings is required")
    wiring = _wiring(command.get("files") or [], contents, live=live)
    terminal = bool(command.get("tty"))
    if terminal:
        _check_terminal(command, wiring)
    _check_free(command.get("files") or [], piped)
    out = [str(name) for name in command.get("copyOut") or []]
    cached = [str(name) for name in command.get("copyOutCached") or []]
    optional = frozenset(name[:-1] for name in (*out, *cached) if name.endswith("?"))
    out, cached = ([name.removesuffix("?") for name in names] for names in (out, cached))
    streams = {*wiring.streams, *pipe_names}
    collect = [name for name in dict.fromkeys((*out, *cached)) if name not in streams]
    return Asked(
        request=RunRequest(
            template="default",
            command=[str(word) for word in args],
            stdin=FileContent.of(wiring.stdin) if wiring.stdin else "",
            env=_environment(command.get("env") or []),
            files={
                str(name): FileContent.of(_content(file, contents, str(name)))
                for name, file in (command.get("copyIn") or {}).items()
            },
            collect=collect,
            limits=_limits(command, wiring.output, maximum),
            interactive=wiring.live_in,
        ),
        wiring=wiring,
        # Streams that are collected come back though nobody asked for them again.
        returned=[
            name
            for name in dict.fromkeys((*wiring.streams, *pipe_names, *out))
            if name not in cached
        ],
        cached=cached,
        optional=optional,
        copy_out_max=_whole(command.get("copyOutMax") or 0, "copyOutMax") or None,
        truncate=bool(command.get("copyOutTruncate")),
        terminal=terminal,
    )


def _wiring(given: list[Any], contents: Mapping[str, bytes], *, live: bool) -> Wiring:
    stdin, output, streams = b"", None, dict[str, list[int]]()
    live_in, live_out = False, set[int]()
    for descriptor, file in enumerate(given):
        if file is None:
            continue
        if not isinstance(file, dict) or descriptor > 2:
            raise Bad(f"file type is not valid for cmd: descriptor {descriptor}")
        if file.get("streamIn") and live and descriptor == 0:
            live_in = True
        elif file.get("streamOut") and live and descriptor != 0:
            live_out.add(descriptor)
        elif "name" in file and descriptor != 0:
            streams.setdefault(str(file["name"]), []).append(descriptor)
            output = max(output or 0, _whole(file.get("max", 0), "max"))
        elif descriptor == 0:
            stdin = _content(file, contents, "stdin")
        else:
            raise Bad(f"file type is not valid for cmd: descriptor {descriptor}")
    # One cap serves both streams; the client takes what it sees of the other without one.
    return Wiring(
        stdin=stdin, streams=streams, output=None if live_out else output,
        live_in=live_in, live_out=frozenset(live_out),
    )  # fmt: skip


def _check_terminal(command: dict[str, Any], wiring: Wiring) -> None:
    """The client sits at it, and nothing else is to be had of its sandbox."""
    if not wiring.live_in or 1 not in wiring.live_out or wiring.streams:
        raise Bad("tty is only supported on a stream, with streamIn and streamOut")
    if any(command.get(name) for name in ("copyIn", "copyOut", "copyOutCached")):
        raise Bad("copyIn and copyOut are not supported with tty")


def _check_free(files: list[Any], piped: frozenset[int]) -> None:
    for descriptor in sorted(piped):
        if descriptor < len(files) and files[descriptor] is not None:
            raise WorkerError(f"pipe fd have been occupied {descriptor}")


def _content(file: Any, contents: Mapping[str, bytes], name: str) -> bytes:
    if not isinstance(file, dict):
        raise Bad(f"file type is not valid for cmd: {name}")
    if "src" in file:
        raise Bad(f"file ({str(file['src'])[:200]}) does not under ([])")
    if "content" in file:
        return str(file["content"]).encode(errors="replace")
    if "fileId" in file:
        return contents[str(file["fileId"])]
    raise Bad(f"file type is not valid for cmd: {name}")


def _environment(given: list[Any]) -> dict[str, str]:
    found = {}
    for entry in given:
        name, separator, value = str(entry).partition("=")
        if not separator:
            raise Bad(f"env: {name[:80]} is not NAME=value")
        found[name] = value
    return found


def _limits(command: dict[str, Any], output: int | None, maximum: Limits) -> LimitOverrides:
    """go-judge takes any limit; what is above the operator's maximum is cut to it."""
    cpu = _whole(command.get("realCpuLimit") or command.get("cpuLimit") or 0, "cpuLimit") / _NANO
    wall = _whole(command.get("clockLimit") or 0, "clockLimit") / _NANO or cpu
    memory = _whole(command.get("memoryLimit") or 0, "memoryLimit")
    processes = _whole(command.get("procLimit") or 0, "procLimit")
    stack = _whole(command.get("stackLimit") or 0, "stackLimit")
    return LimitOverrides(
        cpu_time=min(cpu, maximum.cpu_time) if cpu else None,
        wall_time=min(wall, maximum.wall_time) if wall else None,
        memory=min(max(memory, 4096), maximum.memory) if memory else None,
        pids=min(processes, maximum.pids) if processes else None,
        stack=min(max(stack, 65_536), maximum.stack) if stack else None,
        output=min(output, maximum.output) if output is not None else None,
    )


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise Bad(f"{name}: a number is required")
    return int(value)


def answer(asked: Asked, of: Result | PartOutcome, piped: Collection[str] = ()) -> dict[str, Any]:
    """One Result of go-judge, without the ids of the files that are kept. `piped` are the names of the
    pipes that it wrote to."""
    status = _STATUS[of.status]
    files, errors = _returned(asked, of, piped), _errors(asked, of)
    if errors and status == "Accepted":
        status = "File Error"
    found: dict[str, Any] = {
        "status": status,
        "exitStatus": _exit_status(of),
        "time": round(of.cpu_time * _NANO),
        "runTime": round(of.wall_time * _NANO),
        "memory": of.peak_memory,
    }
    if status == "Output Limit Exceeded":
        found["error"] = status
    elif of.reason:
        found["error"] = of.reason
    if files:
        found["files"] = files
    if errors:
        found["fileError"] = errors
    return found


def kept(asked: Asked, of: Result | PartOutcome) -> Iterator[tuple[str, bytes]]:
    """What is to be kept in the file store, by name."""
    for name in asked.cached:
        data = _content_of(asked, of, name)
        if data is not None:
            yield name, data


def _returned(asked: Asked, of: Result | PartOutcome, piped: Collection[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in (*asked.returned, *piped):
        data = _content_of(asked, of, name)
        if data is not None:
            files[name] = data.decode(errors="replace")
    return files


def _content_of(asked: Asked, of: Result | PartOutcome, name: str) -> bytes | None:
    if name in asked.wiring.streams:
        return b"".join(stream(of, _STREAMS[n - 1]) for n in asked.wiring.streams[name])
    if name not in of.files:
        return None
    data = of.files[name].data()
    if asked.copy_out_max is None or len(data) <= asked.copy_out_max:
        return data
    return data[: asked.copy_out_max] if asked.truncate else None


def _errors(asked: Asked, of: Result | PartOutcome) -> list[dict[str, str]]:
    errors: list[dict[str, str]] = []
    for name in dict.fromkeys((*asked.returned, *asked.cached)):
        why = of.file_errors.get(name)
        if why is None and name in of.files and _content_of(asked, of, name) is None:
            why = "too_large"
        if why is not None and not (why == "not_found" and name in asked.optional):
            errors.append({"name": name, "type": _FILE_ERRORS[why], "message": why})
    for name, descriptors in asked.wiring.streams.items():
        if any((of.stdout_truncated, of.stderr_truncated)[n - 1] for n in descriptors):
            message = f"{name}: collected more than its limit"
            errors.append({"name": name, "type": "CollectSizeExceeded", "message": message})
    return errors


def _exit_status(result: Result | PartOutcome) -> int:
    if result.exit_code is not None:
        return result.exit_code
    if result.status is Status.OUTPUT_EXCEEDED:
        return 0
    return _SIGNALS.get(result.signal or "", 0)


def new_file_id(random: bytes) -> str:
    """Eight characters for five random bytes."""
    return base64.b32encode(random).decode()


def quoted(name: str) -> str:
    return json.dumps(name.encode("ascii", "replace").decode().replace("\\", "_"))


def message(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    return found if isinstance(found, dict) else {}
