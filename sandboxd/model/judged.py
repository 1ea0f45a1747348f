"""A submission as its client gets it back."""

from typing import Literal

from msgspec import Struct

from sandboxd.model.judgement import CaseResult, GroupResult, Verdict
from sandboxd.model.run import Outcome, RunState


class SubmissionResult(Struct, frozen=True, kw_only=True):
    """Answer of a finished submission."""

    id: str
    status: Literal["judged", "cancelled", "internal_error"]
    verdict: Verdict | None = None
    """None: cancelled."""
    score: float = 0.0
    max_score: float = 0.0
    cases: list[CaseResult] = []
    groups: list[GroupResult] = []
    message: str = ""
    compile: Outcome | None = None
    cpu_time: float = 0.0
    """The largest of a case, as is `peak_memory`; the slowest case decides in a contest."""
    wall_time: float = 0.0
    peak_memory: int = 0
    isolation: list[str] = []
    language: str | None = None
    node: str | None = None
    reason: str | None = None
    created_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class SubmissionRecord(Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/submissions/{id}` and of an asynchronous POST."""

    id: str
    state: RunState
    created_at: str
    node: str | None = None
    attempt: int = 0
    result: SubmissionResult | None = None
