"""What the judge says: of each case, of each group, of the whole."""

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from sandboxd.model.status import Status


class Verdict(StrEnum):
    """How one case, or a whole submission, was judged."""

    ACCEPTED = "AC"
    WRONG_ANSWER = "WA"
    TIME_LIMIT = "TLE"
    MEMORY_LIMIT = "MLE"
    OUTPUT_LIMIT = "OLE"
    RUNTIME_ERROR = "RE"
    COMPILE_ERROR = "CE"
    PRESENTATION_ERROR = "PE"
    INTERNAL_ERROR = "IE"
    """The checker or the interactor failed, or the host did."""


class Line(Struct, frozen=True):
    """A piece of an interaction's transcript."""

    by: Literal["program", "interactor"]
    data: str
    """What is not UTF-8 shows as U+FFFD."""


class Usage(Struct, frozen=True, kw_only=True):
    """How the interactor of a case ended; its own account, apart from the program's."""

    status: Status
    exit_code: int | None
    signal: str | None
    cpu_time: float
    wall_time: float
    peak_memory: int


class CaseResult(Struct, frozen=True, kw_only=True):
    name: str
    group: str | None = None
    verdict: Verdict | None = None
    """None: it was left out."""
    score: float = 0.0
    status: Status | None = None
    """How the program ended."""
    exit_code: int | None = None
    signal: str | None = None
    cpu_time: float = 0.0
    wall_time: float = 0.0
    peak_memory: int = 0
    message: str = ""
    """What the checker or the interactor said, or why the judge failed."""
    stdout: str | None = None
    """None: not asked for, as of stderr."""
    stderr: str | None = None
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    encoding: Literal["utf-8", "base64"] = "utf-8"
    interactor: Usage | None = None
    transcript: list[Line] | None = None


class GroupResult(Struct, frozen=True, kw_only=True):
    name: str
    verdict: Verdict | None
    """None: it was left out, or empty."""
    score: float
    max_score: float


class Judgement(Struct, frozen=True, kw_only=True):
    """What a node found."""

    verdict: Verdict
    score: float
    max_score: float
    cases: list[CaseResult]
    groups: list[GroupResult] = []
    message: str = ""
    """Why, where the verdict is not about the program: the checker's compile errors."""
