"""A submission: one program judged on many cases. What a client asks, and what a node needs.

`SubmissionRequest` is what a client sends; admission makes a `Submission` of it, in which every limit,
program and case is resolved. A case's data is inline or a digest that the store knows.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sandboxd.model.callback import Callback
from sandboxd.model.limits import LimitOverrides, Limits
from sandboxd.model.run import Arg, FileContent, Name, SandboxPath

Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Label = Annotated[str, Meta(min_length=1, max_length=256)]
Points = Annotated[float, Meta(ge=-1e9, le=1e9)]
Tolerance = Annotated[float, Meta(ge=0, le=1e300)]


class CaseData(
    FileContent, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Exactly one of `text`, `base64` and `digest`."""

    digest: Digest | None = None
    """Content that was uploaded before."""
    problem: str = ""
    """Id of the stored problem that `digest` belongs to; empty: a file of the tenant."""


Content = str | CaseData


class Exact(Struct, frozen=True, forbid_unknown_fields=True, tag="exact"):
    """Every byte. Output that agrees word by word is a presentation error."""


class Lines(Struct, frozen=True, forbid_unknown_fields=True, tag="lines"):
    """Line by line, without white space at the ends of lines and of the text."""


class Tokens(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="tokens"
):
    """Word by word."""

    case_sensitive: bool = True
    space_sensitive: bool = False
    """White space between words must agree too."""


class Floats(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="floats"
):
    """Word by word; where the answer's word is a number, within one of the tolerances."""

    absolute: Tolerance = 1e-9
    relative: Tolerance = 1e-9
    case_sensitive: bool = True
    space_sensitive: bool = False


class SortedLines(Struct, frozen=True, forbid_unknown_fields=True, tag="sorted"):
    """As `lines`, in any order."""


class Program(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="program"
):
    """A checker or an interactor of one's own. It runs in a sandbox like any other program.

    `testlib`: checker `input output answer`, interactor `input output answer`; exit code 0 accepts, 1
    rejects, 2 and 8 say presentation error, 7 gives points. `icpc`: `input answer feedback_dir args`,
    the output on stdin; 42 accepts, 43 rejects. Any other end is an internal error.
    """

    language: Name
    source: str | None = None
    files: Annotated[dict[SandboxPath, FileContent], Meta(max_length=200)] = {}
    compile_args: Annotated[list[Arg], Meta(max_length=64)] = []
    args: Annotated[list[Arg], Meta(max_length=256)] = []
    convention: Literal["testlib", "icpc"] = "testlib"
    scoring: bool = False
    """`icpc`: score.txt in the feedback directory is the case's score, not a fraction of it."""
    limits: LimitOverrides = LimitOverrides()


Builtin = Exact | Lines | Tokens | Floats | SortedLines
CheckerName = Literal["exact", "lines", "tokens", "floats", "sorted"]
Checker = Builtin | Program


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    name: Annotated[str, Meta(max_length=256)] = ""
    """Empty: its number, counted from 1."""
    input: Content = ""
    answer: Content | None = None
    """None: any output is right that the checker takes; a built-in one takes all."""
    group: Label | None = None
    points: Points | None = None
    """What an accepted case is worth; None: 1, or an equal share of what its group is worth."""
    args: Annotated[list[Arg], Meta(max_length=256)] = []
    """Appended to the program's arguments."""
    checker_args: Annotated[list[Arg], Meta(max_length=256)] = []


class Group(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Cases (and groups) that are scored together."""

    name: Label
    parent: Label | None = None
    aggregate: Literal["sum", "min", "max", "avg"] = "min"
    """Of the scores of what it holds."""
    points: Points | None = None
    """What each of its cases is worth that does not say (`min`, `max`, `avg`), or all of them
    together (`sum`)."""
    stop: bool | None = None
    """Leave out the rest after a failure. None: yes for `min`."""
    requires: Annotated[list[Label], Meta(max_length=100)] = []
    """Groups that must have been accepted in whole; otherwise this one is left out, scored 0."""
    ignored: bool = False
    """Judged and shown; neither the verdict nor the score depends on it."""


Outputs = Literal["none", "failed", "all"]


class SubmissionRequest(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Body of `POST /v1/submissions`."""

    language: Name
    source: str | None = None
    files: Annotated[dict[SandboxPath, FileContent], Meta(max_length=1000)] = {}
    compile_args: Annotated[list[Arg], Meta(max_length=64)] = []
    args: Annotated[list[Arg], Meta(max_length=256)] = []
    env: Annotated[dict[str, Arg], Meta(max_length=256)] = {}
    problem: str | None = None
    """Id of a stored problem; what is given below takes the place of what the problem says."""
    cases: Annotated[list[Case], Meta(max_length=5000)] = []
    limits: LimitOverrides = LimitOverrides()
    """Of each case."""
    compile_limits: LimitOverrides = LimitOverrides()
    checker: CheckerName | Checker | None = None
    """None: `lines`."""
    interactor: Program | None = None
    groups: Annotated[list[Group], Meta(max_length=1000)] = []
    stop_on_failure: bool = False
    parallel: Annotated[int, Meta(ge=1, le=64)] | None = None
    """Cases that may run at once; None: what the operator set."""
    outputs: Outputs = "none"
    """Which cases' outputs to return."""
    outputs_max: Annotated[int, Meta(ge=0, le=1 << 20)] = 16_384
    """Bytes of each returned stream and transcript."""
    transcript: bool = False
    """Record what the program and its interactor said."""
    callback: Callback | None = None


class Submission(Struct, frozen=True, kw_only=True):
    """What a node judges, beside the program in `Job.request` and its limits in `Job.limits`."""

    cases: list[Case]
    checker: Checker
    checker_limits: Limits
    checker_compile_limits: Limits | None
    interactor: Program | None = None
    interactor_limits: Limits | None = None
    interactor_compile_limits: Limits | None = None
    groups: list[Group] = []
    stop_on_failure: bool = False
    parallel: int = 1
    outputs: Outputs = "none"
    outputs_max: int = 16_384
    transcript: bool = False
