"""Limits of one run: what a job may use before it is stopped."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Size = Annotated[int, Meta(ge=4_096, le=1 << 40)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every limit, resolved. Seconds are floats, sizes are bytes."""

    cpu_time: Seconds = 10.0
    """CPU seconds of the whole process group (user + system)."""
    wall_time: Seconds = 30.0
    """Seconds from exec to the end."""
    memory: Size = 256 << 20
    """Bytes of memory of the whole group, its files in the scratch file system included."""
    pids: Annotated[int, Meta(ge=1, le=32_768)] = 64
    """Processes and threads alive at once."""
    output: Annotated[int, Meta(ge=0, le=1 << 30)] = 1 << 20
    """Bytes kept of stdout and of stderr, each; one byte more ends the run."""
    disk: Size = 64 << 20
    """Bytes of the scratch file system (/work, /tmp, /dev/shm together)."""
    open_files: Annotated[int, Meta(ge=8, le=1 << 20)] = 256
    """RLIMIT_NOFILE."""
    stack: Annotated[int, Meta(ge=65_536, le=1 << 40)] = 64 << 20
    """RLIMIT_STACK, bytes."""


class LimitOverrides(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits a request names; None keeps the template's or language's."""

    cpu_time: Seconds | None = None
    wall_time: Seconds | None = None
    memory: Size | None = None
    pids: Annotated[int, Meta(ge=1, le=32_768)] | None = None
    output: Annotated[int, Meta(ge=0, le=1 << 30)] | None = None
    disk: Size | None = None
    open_files: Annotated[int, Meta(ge=8, le=1 << 20)] | None = None
    stack: Annotated[int, Meta(ge=65_536, le=1 << 40)] | None = None

    def given(self) -> dict[str, float | int]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def merge(base: Limits, *overrides: LimitOverrides | None) -> Limits:
    """`base` with the given overrides applied from left to right."""
    for override in overrides:
        if override is not None and (given := override.given()):
            base = replace(base, **given)
    return base


def above_maximum(limits: Limits, maximum: Limits) -> str | None:
    """The first limit of `limits` that is above `maximum`, or None."""
    ceiling = asdict(maximum)
    return next((name for name, value in asdict(limits).items() if value > ceiling[name]), None)
