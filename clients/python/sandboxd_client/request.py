"""The body of `POST /v1/runs` from keyword arguments, and how long its answer may take."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from sandboxd_client.model import Limits, content

ASSUMED_WALL_TIME = 60.0
"""Seconds for each program whose wall-time limit the request leaves to the service."""
MARGIN = 30.0
"""Seconds for queueing and transport on top of the limits."""


class RunOptions(TypedDict, total=False):
    """What a run is: `language` + `source` (or `files`), or `template` + `command`."""

    language: str
    source: str
    """Text of the main file."""
    compile_args: Sequence[str]
    template: str
    command: Sequence[str]
    """argv, run in /work."""
    image: str
    """Run `command` in this image."""
    volumes: Sequence[Mapping[str, Any]]
    """`{"name", "path", "read_only"}` each."""
    data: Sequence[Mapping[str, Any]]
    """`{"digest", "path"}` each: the files of an image of one layer, read-only."""
    args: Sequence[str]
    """Appended to the program's command."""
    stdin: str | bytes
    env: Mapping[str, str]
    files: Mapping[str, str | bytes]
    """Path relative to /work -> content."""
    collect: Sequence[str]
    """Paths of the files to bring back."""
    limits: Limits | Mapping[str, float]
    compile_limits: Limits | Mapping[str, float]
    network: str | dict[str, Any]
    interactive: bool
    """stdin comes from `Run.stream()`; for `submit` only."""
    retry: Literal["never", "safe"]
    """`safe`: the service may start the run again if it loses the node it runs on."""
    callback: Mapping[str, Any]
    """A webhook that is told the result: `url`, `secret`."""


_KNOWN = frozenset(RunOptions.__annotations__)


def encode(options: RunOptions) -> bytes:
    """The JSON body. Raises TypeError for an unknown option or a value of a wrong type."""
    unknown = options.keys() - _KNOWN
    if unknown:
        raise TypeError(f"no such run option: {', '.join(sorted(unknown))}")
    body: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None:
            body[name] = _plain(name, value)
    return json.dumps(body, separators=(",", ":")).encode()


def patience(options: RunOptions) -> float:
    """Seconds that an answer may take: the wall-time limits and a margin."""
    seconds = MARGIN + _wall_time(options.get("limits"))
    if options.get("language") is not None:
        seconds += _wall_time(options.get("compile_limits"))
    return seconds


def _plain(name: str, value: Any) -> Any:
    match name:
        case "limits" | "compile_limits":
            return _limits(value)
        case "files":
            return {path: content(data) for path, data in value.items()}
        case "stdin":
            return value if isinstance(value, str) else _stdin(bytes(value))
        case "args" | "compile_args" | "command" | "collect":
            if isinstance(value, str):
                raise TypeError(f"{name} is a list of strings, not one string")
            return list(value)
        case "env":
            return dict(value)
        case "volumes" | "data":
            return [dict(mount) for mount in value]
        case _:
            return value


def _stdin(data: bytes) -> str | dict[str, str]:
    """As text where it is text, which every version of the service reads."""
    form = content(data)
    return form.get("text", form)


def _limits(limits: Limits | Mapping[str, float]) -> dict[str, float]:
    return limits.given() if isinstance(limits, Limits) else dict(limits)


def _wall_time(limits: Limits | Mapping[str, float] | None) -> float:
    if limits is None:
        return ASSUMED_WALL_TIME
    given = _limits(limits).get("wall_time")
    return ASSUMED_WALL_TIME if given is None else given
