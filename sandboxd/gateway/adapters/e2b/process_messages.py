"""What clients say to `process.Process`."""

from typing import Annotated

from msgspec import Meta, Struct


class Config(Struct, frozen=True):
    cmd: Annotated[str, Meta(min_length=1)]
    args: list[str] = []
    envs: dict[str, str] = {}
    cwd: str | None = None


class Size(Struct, frozen=True):
    cols: Annotated[int, Meta(ge=1, le=1000)] = 80
    rows: Annotated[int, Meta(ge=1, le=1000)] = 24


class Pty(Struct, frozen=True):
    size: Size = Size()


class Start(Struct, frozen=True):
    process: Config
    pty: Pty | None = None
    tag: str | None = None
    stdin: bool | None = None
    """Older clients do not say: then it is open."""


class Selector(Struct, frozen=True):
    pid: int | None = None
    tag: str | None = None


class Selected(Struct, frozen=True):
    process: Selector


class Input(Struct, frozen=True):
    stdin: bytes | None = None
    pty: bytes | None = None

    @property
    def data(self) -> bytes:
        return (self.stdin if self.stdin is not None else self.pty) or b""


class SendInput(Struct, frozen=True):
    process: Selector
    input: Input


class InputData(Struct, frozen=True):
    input: Input


class InputEvent(Struct, frozen=True):
    """One of a stream: the first says which process, the others what it is to read."""

    start: Selected | None = None
    data: InputData | None = None


class SendSignal(Struct, frozen=True):
    process: Selector
    signal: str | int


class Update(Struct, frozen=True):
    process: Selector
    pty: Pty | None = None


class Nothing(Struct, frozen=True):
    pass
