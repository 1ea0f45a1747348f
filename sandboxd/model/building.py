"""What a build, a pull or a push says while it goes on: one event a line, the last says how it ended."""

from typing import Literal

from msgspec import Struct


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event of a long operation on images."""

    type: Literal["step", "output", "transfer", "done", "error"]
    step: int = 0
    """Which instruction begins, of `steps`; with `step`."""
    steps: int = 0
    line: int = 0
    """Of the Dockerfile, from 1; with `step`, and with `error` if a line is at fault."""
    text: str = ""
    """The instruction, or output of it."""
    cached: bool = False
    """What the instruction makes was there already."""
    blob: str = ""
    """Digest of what is transferred; with `transfer`."""
    done_bytes: int = 0
    total_bytes: int = 0
    digest: str = ""
    """Of the image; with `done`."""
    name: str = ""
    code: str = ""
    """Machine code of the problem; with `error`, as is `detail`."""
    detail: str = ""
    status: int = 0
    """What the problem's HTTP status would have been."""
