"""Admission of submissions: what the client asked for, and its problem, become a job. Pure."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.admission import admit
from sandboxd.judge.scoring import Scheme, ScoringError
from sandboxd.model import Job, LimitOverrides, Limits, RunRequest, Submission
from sandboxd.model.problem import JudgeProblem
from sandboxd.model.submission import (
    Case,
    CaseData,
    Checker,
    Exact,
    Floats,
    Lines,
    Program,
    SortedLines,
    SubmissionRequest,
    Tokens,
)
from sandboxd.policy import Policies
from sandboxd.settings import JudgeSettings

_NAMED: dict[str, Checker] = {
    "exact": Exact(),
    "lines": Lines(),
    "tokens": Tokens(),
    "floats": Floats(),
    "sorted": SortedLines(),
}


def admit_submission(
    request: SubmissionRequest,
    problem: JudgeProblem | None,
    policies: Policies,
    settings: JudgeSettings,
    *,
    room: Sequence[tuple[int, int]],
    tenant: str,
    submission_id: str,
    created_at: str,
    reply_to: str | None = None,
) -> Job:
    """The job for `request`; `room` is what each node can hold, see `Offers.room`.

    Raises InvalidRequest (or a kind of it) naming the field at fault.
    """
    given = complete(request, problem or JudgeProblem())
    _check_text(given)
    job = admit(
        RunRequest(
            language=given.language, source=given.source, files=given.files,
            compile_args=given.compile_args, args=given.args, env=given.env,
            limits=given.limits, compile_limits=given.compile_limits, retry="safe",
        ),
        policies, tenant=tenant, run_id=submission_id, created_at=created_at, reply_to=reply_to,
    )  # fmt: skip
    _check_cases(given, settings)
    submission = _submission(given, job.limits, policies, settings)
    slot = _slot(job, submission)
    parallel = min(given.parallel or settings.parallel, len(given.cases))
    # What no node can hold would wait for ever, and hold up what is behind it.
    most = max((min(cpu // slot[0], memory // slot[1]) for cpu, memory in room), default=1)
    parallel = max(1, min(parallel, most))
    return replace(
        job,
        submission=replace(submission, parallel=parallel),
        reserve_cpu=slot[0] * parallel,
        reserve_memory=max(slot[1] * parallel, *_compiling(job, submission), 0),
    )


def complete(request: SubmissionRequest, problem: JudgeProblem) -> SubmissionRequest:
    """The request with what its problem says where it is silent."""
    return replace(
        request,
        cases=request.cases or problem.cases,
        groups=request.groups or ([] if request.cases else problem.groups),
        checker=request.checker if request.checker is not None else problem.checker,
        interactor=request.interactor or problem.interactor,
        limits=_either(request.limits, problem.limits),
        compile_limits=_either(request.compile_limits, problem.compile_limits),
        stop_on_failure=request.stop_on_failure or problem.stop_on_failure,
    )


def references(cases: Sequence[Case]) -> Iterator[CaseData]:
    """What cases take from the store."""
    for case in cases:
        for content in (case.input, case.answer):
            if isinstance(content, CaseData) and content.digest is not None:
                yield content


def _either(first: LimitOverrides, second: LimitOverrides) -> LimitOverrides:
    return LimitOverrides(**{**second.given(), **first.given()})  # type: ignore[arg-type]


def _check_text(request: SubmissionRequest) -> None:
    """Every text has to be stored as UTF-8."""
    try:
        msgspec.json.encode(request)
    except UnicodeEncodeError:
        raise InvalidRequest("every text must be valid Unicode") from None


def _check_cases(request: SubmissionRequest, settings: JudgeSettings) -> None:
    if not request.cases:
        raise InvalidRequest("give cases, or a problem that has some", field="cases")
    if len(request.cases) > settings.cases_max:
        raise InvalidRequest(f"there are more than {settings.cases_max} cases", field="cases")
    for index, case in enumerate(request.cases):
        _check_content(case.input, f"cases.{index}.input")
        _check_content(case.answer, f"cases.{index}.answer")
        if any("\0" in word for word in (*case.args, *case.checker_args)):
            raise InvalidRequest("must not contain NUL", field=f"cases.{index}.args")
    try:
        Scheme(request.cases, request.groups)
    except ScoringError as error:
        raise InvalidRequest(str(error), field="groups") from None


def _check_content(content: object, field: str) -> None:
    if not isinstance(content, CaseData):
        return
    if content.digest is not None:
        if content.text is not None or content.base64 is not None:
            raise InvalidRequest("give exactly one of text, base64 and digest", field=field)
        return
    try:
        content.data()
    except ValueError as error:
        raise InvalidRequest(str(error), field=field) from None


def _submission(
    request: SubmissionRequest, limits: Limits, policies: Policies, settings: JudgeSettings
) -> Submission:
    named = request.checker
    checker: Checker = _NAMED[named] if isinstance(named, str) else named or Lines()
    made = Submission(
        cases=request.cases,
        checker=checker,
        checker_limits=Limits(),
        checker_compile_limits=None,
        groups=request.groups,
        stop_on_failure=request.stop_on_failure,
        outputs=request.outputs,
        outputs_max=request.outputs_max,
        transcript=request.transcript,
    )
    if isinstance(checker, Program):
        tool = _tool(checker, "checker", policies, settings, LimitOverrides())
        made = replace(
            made,
            checker=replace(checker, language=tool.request.language or checker.language),
            checker_limits=tool.limits,
            checker_compile_limits=tool.compile_limits,
        )
    if request.interactor is None:
        return made
    if request.interactor.convention == "icpc" and isinstance(checker, Program):
        raise InvalidRequest("an icpc interactor is the checker too", field="checker")
    maximum = policies.limits.maximum
    longer = LimitOverrides(
        cpu_time=min(maximum.cpu_time, limits.cpu_time + settings.checker_time),
        wall_time=min(maximum.wall_time, limits.wall_time + settings.checker_time),
    )
    tool = _tool(request.interactor, "interactor", policies, settings, longer)
    return replace(
        made,
        interactor=replace(
            request.interactor, language=tool.request.language or request.interactor.language
        ),
        interactor_limits=tool.limits,
        interactor_compile_limits=tool.compile_limits,
    )


def _tool(
    program: Program,
    field: str,
    policies: Policies,
    settings: JudgeSettings,
    default: LimitOverrides,
) -> Job:
    """A judging program, admitted like any other: its limits, and whether it makes sense."""
    language = policies.language(program.language)
    own = language.limits if language is not None else LimitOverrides()
    usual = LimitOverrides(
        cpu_time=settings.checker_time,
        memory=own.memory or settings.checker_memory,
    )
    request = RunRequest(
        language=program.language, source=program.source, files=program.files,
        compile_args=program.compile_args, args=program.args,
        limits=_either(program.limits, _either(default, usual)),
    )  # fmt: skip
    try:
        return admit(request, policies, tenant="", run_id="", created_at="")
    except InvalidRequest as error:
        error.field = f"{field}.{error.field}" if error.field else field
        raise


def _slot(job: Job, submission: Submission) -> tuple[int, int]:
    """Thousandths of a core and bytes that one case at a time needs."""
    checking = submission.checker_limits.memory if isinstance(submission.checker, Program) else 0
    together, cores = job.limits.memory, 1
    if submission.interactor_limits is not None:
        together, cores = together + submission.interactor_limits.memory, 2
    return job.reserve_cpu * cores, max(together, checking)


def _compiling(job: Job, submission: Submission) -> list[int]:
    """Bytes that each compiler needs; they run before the cases, one after the other."""
    limits = (
        job.compile_limits,
        submission.checker_compile_limits,
        submission.interactor_compile_limits,
    )
    return [each.memory for each in limits if each is not None]
