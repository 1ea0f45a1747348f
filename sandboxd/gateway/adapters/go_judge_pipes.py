"""go-judge's `pipeMapping`: which command's stdout is which one's stdin. Pure."""

from typing import Any

from sandboxd.gateway.adapters.go_judge_words import Bad, WorkerError
from sandboxd.model.parts import Pipe

_STDIN, _STDOUT = 0, 1


def pipes(given: Any, commands: int) -> list[Pipe]:
    """Raises Bad. `in` is the end that is written to, `out` the end that is read from."""
    if not isinstance(given, list):
        raise Bad("pipeMapping: a list is required")
    return [_pipe(each, commands) for each in given]


def taken(pipes: list[Pipe], index: int) -> frozenset[int]:
    """The descriptors of that command that pipes take."""
    return frozenset(
        {_STDOUT for each in pipes if each.writer == index}
        | {_STDIN for each in pipes if each.reader == index}
    )


def names(pipes: list[Pipe], index: int) -> list[str]:
    """What that command wrote to is collected under these."""
    return [each.name for each in pipes if each.writer == index and each.name]


def _pipe(given: Any, commands: int) -> Pipe:
    if not isinstance(given, dict):
        raise Bad("pipeMapping: an object is required")
    proxied = bool(given.get("proxy"))
    room = given.get("max") or 0
    if isinstance(room, bool) or not isinstance(room, int) or room < 0:
        raise Bad("pipeMapping: max: a number is required")
    return Pipe(
        writer=_end(given, "in", _STDOUT, commands),
        reader=_end(given, "out", _STDIN, commands),
        drained=proxied,
        name=str(given.get("name") or "") if proxied else "",
        room=room,
    )


def _end(given: dict[str, Any], side: str, descriptor: int, commands: int) -> int:
    end = given.get(side)
    if not isinstance(end, dict):
        raise Bad(f"pipeMapping: {side}: an object is required")
    index, fd = end.get("index", 0), end.get("fd", 0)
    if not isinstance(index, int) or not isinstance(fd, int):
        raise Bad(f"pipeMapping: {side}: numbers are required")
    if not 0 <= index < commands:
        raise WorkerError(f"pipe index out of range {index}")
    if fd != descriptor:
        raise Bad(f"pipeMapping: {side}: only descriptor {descriptor} can be")
    return index
