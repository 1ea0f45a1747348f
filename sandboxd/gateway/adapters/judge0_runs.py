"""What a Judge0 submission runs: one run, or, if it is to run several times, a judged submission of as
many equal cases, which stops as Judge0 does at the first that is not accepted. Pure."""

import base64
import binascii
import shlex

from msgspec import UnsetType
from msgspec.structs import replace

from sandboxd.gateway.adapters import judge0_tables as tables
from sandboxd.gateway.adapters.judge0_words import Attributes, Invalid
from sandboxd.judge.archive import PackageError, Rules, from_zip
from sandboxd.model import FileContent, LimitOverrides, Result, RunRequest, Status, Verdict
from sandboxd.model.judgement import CaseResult
from sandboxd.model.submission import Case, CaseData, Lines, SubmissionRequest
from sandboxd.policy import Policies

_TEMPLATE = "default"
_OUTPUT_MAX = 1 << 20


def request_of(attrs: Attributes, policies: Policies) -> RunRequest:
    """One run of a submission. Raises Invalid."""
    arguments = _words(attrs.command_line_arguments, "command_line_arguments")
    files = _additional(attrs.additional_files)
    stdin = FileContent(base64=attrs.stdin or "")
    content = FileContent(base64=attrs.source_code or "")
    special = tables.SPECIAL.get(attrs.language_id)
    if special is not None:
        return RunRequest(
            template=_TEMPLATE,
            command=list(special.command),
            args=arguments,
            files={**files, special.source: content},
            stdin=stdin,
            limits=tables.limits(attrs.limits, LimitOverrides()),
        )
    language = policies.language(tables.language_name(policies, attrs.language_id) or "")
    assert language is not None
    if attrs.language_id != tables.MULTI_FILE:
        files[language.source] = content
    elif language.source not in files:
        raise Invalid({"additional_files": [f"there is no file {language.source} in it"]})
    options = _words(attrs.compiler_options, "compiler_options")
    return RunRequest(
        language=language.name,
        files=files,
        compile_args=options if language.compile is not None else [],
        args=arguments,
        stdin=stdin,
        limits=tables.limits(attrs.limits, language.limits),
    )


def repeated(attrs: Attributes, run: RunRequest) -> SubmissionRequest:
    """The same as `number_of_runs` cases, one after the other. Raises Invalid."""
    if run.language is None:
        raise Invalid({"number_of_runs": ["must be equal to 1"]})
    case = Case(
        input=CaseData(base64=attrs.stdin or ""),
        answer=None if attrs.expected_output is None else CaseData(base64=attrs.expected_output),
    )
    return SubmissionRequest(
        language=run.language,
        files=run.files,
        compile_args=run.compile_args,
        args=run.args,
        cases=[case] * attrs.number_of_runs,
        limits=run.limits,
        checker=Lines(),
        stop_on_failure=True,
        parallel=1,
        outputs="all",
        outputs_max=_OUTPUT_MAX,
    )


def averaged(result: Result) -> Result:
    """The result of one run; of several their average, and for the rest the last one's."""
    judgement = result.judgement
    if isinstance(judgement, UnsetType):
        return result
    if judgement.verdict is Verdict.COMPILE_ERROR:
        return replace(result, status=Status.COMPILE_ERROR)
    ran = [case for case in judgement.cases if case.status is not None]
    if not ran:
        return replace(result, status=Status.INTERNAL_ERROR, reason=judgement.message)
    last = ran[-1]
    return replace(
        result,
        status=last.status or Status.INTERNAL_ERROR,
        exit_code=last.exit_code,
        signal=last.signal,
        stdout=last.stdout or "",
        stderr=last.stderr or "",
        stdout_truncated=last.stdout_truncated,
        stderr_truncated=last.stderr_truncated,
        encoding=last.encoding,
        cpu_time=_average(ran, "cpu_time"),
        wall_time=_average(ran, "wall_time"),
        peak_memory=round(_average(ran, "peak_memory")),
    )


def _average(cases: list[CaseResult], name: str) -> float:
    return sum(float(getattr(case, name)) for case in cases) / len(cases)


def _words(text: str | None, field: str) -> list[str]:
    try:
        return shlex.split(text or "")
    except ValueError as error:
        raise Invalid({field: [str(error)]}) from None


def _additional(data: str | None) -> dict[str, FileContent]:
    if not data:
        return {}
    try:
        tree = from_zip(base64.b64decode(data), Rules(total=10 << 20, file=10 << 20, files=500))
    except (PackageError, binascii.Error) as error:
        raise Invalid({"additional_files": [str(error)]}) from None
    return {name: FileContent.of(content) for name, content in tree.items()}
