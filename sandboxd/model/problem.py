"""A problem as it is stored: everything of a submission that does not change from one to the next."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sandboxd.model.limits import LimitOverrides
from sandboxd.model.submission import Case, Checker, Group, Lines, Program


class JudgeProblem(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    id: str = ""
    title: str = ""
    format: Literal["legacy", "2023-07", "cases"] = "cases"
    """Of the package that it was loaded from."""
    cases: Annotated[list[Case], Meta(max_length=5000)] = []
    checker: Checker = Lines()
    interactor: Program | None = None
    groups: list[Group] = []
    limits: LimitOverrides = LimitOverrides()
    """Of each case."""
    compile_limits: LimitOverrides = LimitOverrides()
    stop_on_failure: bool = False
    created_at: str = ""
    size: int = 0
    """Bytes of its data."""


class ProblemInfo(Struct, frozen=True, kw_only=True):
    """A problem without its cases' data, as `GET /v1/problems/{id}` gives it."""

    id: str
    title: str
    format: Literal["legacy", "2023-07", "cases"]
    cases: int
    groups: list[Group]
    checker: str
    """Its kind."""
    interactive: bool
    limits: LimitOverrides
    stop_on_failure: bool
    size: int
    created_at: str


class ProblemList(Struct, frozen=True, kw_only=True):
    problems: list[ProblemInfo]
    cursor: str | None = None


class StoredFile(Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/files`."""

    digest: str
    size: int
