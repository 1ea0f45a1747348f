"""What go-judge's requests and results say, in our words and back. Pure."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from sandboxd.model import FileContent, LimitOverrides, Limits, Result, RunRequest, Status

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
    """Answered 400 with its text."""


class Label(Struct, frozen=True):
    """What is known of a kept file besides its bytes."""

    name: str
    digest: str


class Asked(Struct, frozen=True, kw_only=True):
    """One command: the run, and what its answer is to hold."""

    request: RunRequest
    streams: dict[str, int]
    """Name under which stdout or stderr is collected -> descriptor."""
    returned: list[str]
    cached: list[str]
    optional: frozenset[str]


def file_ids(commands: list[Any]) -> Iterator[str]:
    """Kept files that commands name. Raises Bad."""
    for command in commands:
        if not isinstance(command, dict):
            raise Bad("cmd: not an object")
        files = [*(command.get("files") or []), *(command.get("copyIn") or {}).values()]
        for file in files:
            if isinstance(file, dict) and file.get("fileId") is not None:
                yield str(file["fileId"])


def ask(command: dict[str, Any], contents: Mapping[str, bytes], maximum: Limits) -> Asked:
    """Raises Bad."""
    args = command.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(x, str) for x in args):
        raise Bad("args: a list of strings is required")
    if command.get("tty"):
        raise Bad("tty is not supported")
    stdin, streams, output = _files(command.get("files") or [], contents)
    out = [str(name) for name in command.get("copyOut") or []]
    cached = [str(name) for name in command.get("copyOutCached") or []]
    optional = frozenset(name[:-1] for name in (*out, *cached) if name.endswith("?"))
    out, cached = ([name.removesuffix("?") for name in names] for names in (out, cached))
    collect = [name for name in dict.fromkeys((*out, *cached)) if name not in streams]
    return Asked(
        request=RunRequest(
            template="default",
            command=[str(word) for word in args],
            stdin=FileContent.of(stdin) if stdin else "",
            env=_environment(command.get("env") or []),
            files={
                str(name): FileContent.of(_content(file, contents, str(name)))
                for name, file in (command.get("copyIn") or {}).items()
            },
            collect=collect,
            limits=_limits(command, output, maximum),
        ),
        streams=streams,
        returned=out,
        cached=cached,
        optional=optional,
    )


def _files(
    given: list[Any], contents: Mapping[str, bytes]
) -> tuple[bytes, dict[str, int], int | None]:
    """stdin's bytes, which streams are collected, and the largest of their caps."""
    stdin, streams, output = b"", {}, None
    for descriptor, file in enumerate(given):
        if file is None:
            continue
        if not isinstance(file, dict):
            raise Bad(f"file type is not valid for cmd: {descriptor}")
        if "name" in file:
            if descriptor not in (1, 2):
                raise Bad(f"file type is not valid for cmd: collecting descriptor {descriptor}")
            streams[str(file["name"])] = descriptor
            output = max(output or 0, _whole(file.get("max", 0), "max"))
        elif descriptor == 0:
            stdin = _content(file, contents, "stdin")
        else:
            raise Bad(f"file type is not valid for cmd: descriptor {descriptor}")
    return stdin, streams, output


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


def answer(asked: Asked, result: Result) -> dict[str, Any]:
    """One Result of go-judge, without the ids of the files that are kept."""
    status = _STATUS[result.status]
    files = _returned(asked, result)
    errors = _errors(asked, result)
    if errors and status == "Accepted":
        status = "File Error"
    found: dict[str, Any] = {
        "status": status,
        "exitStatus": _exit_status(result),
        "time": round(result.cpu_time * _NANO),
        "runTime": round(result.wall_time * _NANO),
        "memory": result.peak_memory,
    }
    if status == "Output Limit Exceeded":
        found["error"] = status
    elif result.reason:
        found["error"] = result.reason
    if files:
        found["files"] = files
    if errors:
        found["fileError"] = errors
    return found


def _returned(asked: Asked, result: Result) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in asked.returned:
        if name in asked.streams:
            files[name] = _stream(result, asked.streams[name])
        elif name in result.files:
            files[name] = result.files[name].data().decode(errors="replace")
    return files


def _errors(asked: Asked, result: Result) -> list[dict[str, str]]:
    errors: list[dict[str, str]] = []
    for name in dict.fromkeys((*asked.returned, *asked.cached)):
        why = result.file_errors.get(name)
        if why is not None and not (why == "not_found" and name in asked.optional):
            errors.append({"name": name, "type": _FILE_ERRORS[why], "message": why})
    for name, descriptor in asked.streams.items():
        if (result.stdout_truncated, result.stderr_truncated)[descriptor - 1]:
            message = f"{name}: collected more than its limit"
            errors.append({"name": name, "type": "CollectSizeExceeded", "message": message})
    return errors


def _stream(result: Result, descriptor: int) -> str:
    text: str = getattr(result, _STREAMS[descriptor - 1])
    if result.encoding == "base64":
        return base64.b64decode(text).decode(errors="replace")
    return text


def _exit_status(result: Result) -> int:
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
