"""Submissions: one program judged on many cases. What goes in, what comes back, and the flow between."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from sandboxd_client.core import Core, EventReader, Flow
from sandboxd_client.deadline import Deadline
from sandboxd_client.errors import ServerError
from sandboxd_client.model import Limits, Outcome, content, outcome_of, parse

PATIENCE = 900.0
"""Seconds that a submission may take, where the call does not say."""


class JudgeOptions(TypedDict, total=False):
    """What a submission is; see docs/judges.md. `problem`, or `cases` and what belongs to them."""

    language: str
    source: str
    files: Mapping[str, str | bytes]
    compile_args: Sequence[str]
    args: Sequence[str]
    env: Mapping[str, str]
    problem: str
    """Id of a stored problem."""
    cases: Sequence[Mapping[str, Any]]
    """`input`, `answer` (text or bytes), `name`, `group`, `points`, `args`, `checker_args`."""
    limits: Limits | Mapping[str, float]
    compile_limits: Limits | Mapping[str, float]
    checker: str | Mapping[str, Any]
    interactor: Mapping[str, Any]
    groups: Sequence[Mapping[str, Any]]
    stop_on_failure: bool
    parallel: int
    outputs: Literal["none", "failed", "all"]
    outputs_max: int
    transcript: bool
    callback: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    name: str
    group: str | None
    verdict: str | None
    """None: the case was left out."""
    score: float
    cpu_time: float
    wall_time: float
    peak_memory: int
    message: str = ""
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Everything that the service said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a submission was judged."""

    id: str
    status: str
    """`judged`, `cancelled` or `internal_error`."""
    verdict: str | None
    score: float
    max_score: float
    cases: tuple[CaseResult, ...]
    compile: Outcome | None
    message: str
    cpu_time: float
    peak_memory: int
    document: Mapping[str, Any] = field(repr=False)

    @property
    def accepted(self) -> bool:
        return self.verdict == "AC"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionRecord:
    id: str
    state: str
    result: Judgement | None


def case_of(document: Mapping[str, Any]) -> CaseResult:
    """Of a result, or of the event that tells of it."""
    return CaseResult(
        name=document["name"],
        group=document.get("group"),
        verdict=document.get("verdict"),
        score=document.get("score", 0.0),
        cpu_time=document.get("cpu_time", 0.0),
        wall_time=document.get("wall_time", 0.0),
        peak_memory=document.get("peak_memory", 0),
        message=document.get("message", ""),
        document=document,
    )


def judgement_of(document: Mapping[str, Any]) -> Judgement:
    compiled = document.get("compile")
    return Judgement(
        id=document["id"],
        status=document["status"],
        verdict=document.get("verdict"),
        score=document.get("score", 0.0),
        max_score=document.get("max_score", 0.0),
        cases=tuple(map(case_of, document.get("cases", ()))),
        compile=None if compiled is None else outcome_of(compiled),
        message=document.get("message", ""),
        cpu_time=document.get("cpu_time", 0.0),
        peak_memory=document.get("peak_memory", 0),
        document=document,
    )


def record_of(document: Mapping[str, Any]) -> SubmissionRecord:
    result = document.get("result")
    return SubmissionRecord(
        id=document["id"],
        state=document["state"],
        result=None if result is None else judgement_of(result),
    )


_KNOWN = frozenset(JudgeOptions.__annotations__)


def encode(options: JudgeOptions) -> bytes:
    """The JSON body. Raises TypeError for an unknown option."""
    unknown = options.keys() - _KNOWN
    if unknown:
        raise TypeError(f"no such option of a submission: {', '.join(sorted(unknown))}")
    given = {name: value for name, value in options.items() if value is not None}
    return json.dumps(given, default=_plain, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Limits):
        return value.given()
    if isinstance(value, bytes | bytearray | memoryview):
        return content(bytes(value))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a submission")


class JudgeCore(Core):
    """The operations on submissions of one service."""

    path = "/v1/submissions"

    def judge(
        self,
        options: JudgeOptions,
        key: str | None,
        deadline: Deadline,
        on_case: Callable[[CaseResult], None] | None,
    ) -> Flow[Judgement]:
        """Submits, follows the cases, and gives the result; a broken connection is resumed."""
        body = _with_contents(options)
        request = self._post_body(encode(body), key, [(b"Prefer", b"respond-async")])
        answer = yield from self._call(request, deadline, safe=False)
        submission = parse(answer.body, record_of).id
        reader = EventReader(self, submission, None)
        while (event := (yield from reader.next(deadline))) is not None:
            if event.type == "case" and on_case is not None:
                on_case(case_of(event.data))
        found = yield from self._call(self._get(f"{self.path}/{submission}"), deadline, safe=True)
        result = parse(found.body, record_of).result
        if result is None:
            raise ServerError(f"{submission} is finished without a result", code="bad_answer")
        return result


def _with_contents(options: JudgeOptions) -> JudgeOptions:
    """Files as the service wants them; texts of cases may stay texts."""
    if "files" not in options:
        return options
    files = {path: content(data) for path, data in options["files"].items()}
    return {**options, "files": files}  # type: ignore[typeddict-item]
