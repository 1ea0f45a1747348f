"""What comes of a process while it is followed: an Exec or Attach, frame by frame."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
from msgspec import Struct

from sandboxd.errors import DriverFault
from sandboxd.gateway.sessions.line import Line, decoded
from sandboxd.gateway.sessions.sandboxes import Sandboxes
from sandboxd.model.agent import Attach, Attached, Exec, Kind, Missed
from sandboxd.model.session import Process, ProcessResult
from sandboxd.model.session_api import CommandResult


class Started(Struct, frozen=True, tag="started"):
    """The first of all: the process, and how much of its output is gone for good."""

    process: Process
    stdout_dropped: int = 0
    stderr_dropped: int = 0


class Output(Struct, frozen=True):
    stream: Literal["stdout", "stderr"]
    data: bytes


class Exit(Struct, frozen=True, tag="exit"):
    """The last of all."""

    process: Process
    stdout_truncated: bool = False
    stderr_truncated: bool = False


Item = Started | Output | Missed | Exit


@asynccontextmanager
async def followed(
    sandboxes: Sandboxes, call: Exec | Attach
) -> AsyncIterator[tuple[Line, AsyncIterator[Item]]]:
    """The line of a call, for what goes in, and what comes of it. Raises as `Sandboxes.open`."""
    async with sandboxes.open(call) as (line, first):
        yield line, _follow(line, first, Attached if isinstance(call, Attach) else Process)


async def _follow(
    line: Line, first: tuple[Kind, bytes], opening: type[Process] | type[Attached]
) -> AsyncIterator[Item]:
    """Everything from Started to Exit. Raises what `Line.next` does."""
    if first[0] is not Kind.EVENT:
        raise DriverFault("agent", "follow", f"{first[0].name} where EVENT was to come")
    if opening is Attached:
        attached = decoded(first[1], Attached)
        yield Started(attached.process, attached.stdout_dropped, attached.stderr_dropped)
    else:
        yield Started(decoded(first[1], Process))
    while True:
        kind, payload = await line.next()
        if kind is Kind.DATA:
            yield Output("stdout", payload)
        elif kind is Kind.STDERR:
            yield Output("stderr", payload)
        elif kind is Kind.EVENT:
            yield decoded(payload, Missed)
        elif kind is Kind.REPLY:
            result = decoded(payload, ProcessResult)
            yield Exit(result.process, result.stdout_truncated, result.stderr_truncated)
            return
        else:
            raise DriverFault("agent", "follow", f"{kind.name} in a stream")


def command_result(result: ProcessResult) -> CommandResult:
    """As clients see it: text, or base64 of both streams where one is not UTF-8."""
    try:
        out, err = result.stdout.decode(), result.stderr.decode()
        encoding: Literal["utf-8", "base64"] = "utf-8"
    except UnicodeDecodeError:
        out, err = (_base64(data) for data in (result.stdout, result.stderr))
        encoding = "base64"
    return CommandResult(
        process=result.process,
        stdout=out,
        stderr=err,
        stdout_truncated=result.stdout_truncated,
        stderr_truncated=result.stderr_truncated,
        encoding=encoding,
    )


def _base64(data: bytes) -> str:
    text: str = msgspec.to_builtins(data)
    return text
