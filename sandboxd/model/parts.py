"""Several commands as one job, joined by pipes. Only adapters ask for it."""

from msgspec import Struct

from sandboxd.model.limits import Limits
from sandboxd.model.run import RunRequest


class Part(Struct, frozen=True, kw_only=True):
    """One of the commands."""

    request: RunRequest
    limits: Limits


class Pipe(Struct, frozen=True, kw_only=True):
    """stdout of one part is stdin of another, or its own. Each part's stream is in one pipe at most."""

    writer: int
    reader: int
    """Index of the part."""
    drained: bool = False
    """The writer never hears that its reader has left: what it still writes is taken and thrown away."""
    name: str = ""
    """Of a drained pipe: under it, what went through is among the writer's files."""
    room: int = 0
    """Bytes of it that are kept."""


class Together(Struct, frozen=True, kw_only=True):
    parts: list[Part]
    pipes: list[Pipe]
