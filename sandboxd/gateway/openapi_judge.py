"""The operations of the judge, for the OpenAPI document."""

from typing import Any

from msgspec import Struct

from sandboxd.errors import InvalidRequest, NotFound, QueueFull
from sandboxd.gateway.api.sandbox_lines import EVENTS
from sandboxd.gateway.ids import PROBLEM_ID, SUBMISSION_ID
from sandboxd.gateway.operations import Operations, number, parameter
from sandboxd.model.judged import SubmissionRecord, SubmissionResult
from sandboxd.model.problem import JudgeProblem, ProblemInfo, ProblemList, StoredFile
from sandboxd.model.submission import SubmissionRequest

JUDGE_TYPES: tuple[type[Struct], ...] = (
    SubmissionRequest,
    SubmissionRecord,
    SubmissionResult,
    JudgeProblem,
    ProblemInfo,
    ProblemList,
    StoredFile,
)

_call = Operations()

JUDGE_OPERATIONS = (
    _call(
        "POST /v1/submissions",
        "create_submission",
        "Judge a program on cases, and wait for the verdict unless `Prefer` says otherwise",
        {200: SubmissionResult, 202: SubmissionRecord},
        QueueFull,
        parameters=("Prefer", "Idempotency-Key"),
        request=SubmissionRequest,
    ),
    _call(
        "GET /v1/submissions/{id:submission}",
        "read_submission",
        "The state of a submission, and its result when it is judged",
        SubmissionRecord,
        NotFound,
    ),
    _call(
        "DELETE /v1/submissions/{id:submission}",
        "cancel_submission",
        "Cancel a submission; 202 while its node still ends it, 200 when it is over",
        {200: SubmissionRecord, 202: SubmissionRecord},
        NotFound,
    ),
    _call(
        "GET /v1/submissions/{id:submission}/events",
        "follow_submission",
        "Events of a submission, each case as it is judged (server-sent events)",
        None,
        NotFound,
        InvalidRequest,
        media=EVENTS,
        parameters=("Last-Event-ID",),
    ),
    _call(
        "POST /v1/problems",
        "create_problem",
        "Store a problem: as JSON, or as a package in the ICPC/Kattis format",
        ProblemInfo,
        QueueFull,
        status=201,
        request=JudgeProblem,
        also=("application/zip",),
    ),
    _call(
        "GET /v1/problems",
        "list_problems",
        "The tenant's problems, latest first",
        ProblemList,
        InvalidRequest,
        parameters=("limit", "cursor"),
    ),
    _call(
        "GET /v1/problems/{id:problem}",
        "read_problem",
        "A problem without its data",
        ProblemInfo,
        NotFound,
    ),
    _call(
        "DELETE /v1/problems/{id:problem}",
        "delete_problem",
        "Forget a problem and its data",
        None,
        NotFound,
        status=204,
    ),
    _call(
        "POST /v1/files",
        "keep_file",
        "Keep a file for a while; submissions name it by its digest",
        StoredFile,
        QueueFull,
        status=201,
        also=("application/octet-stream",),
    ),
)


JUDGE_PARAMETERS: dict[str, dict[str, Any]] = {
    "submission": parameter("id", "path", pattern=SUBMISSION_ID),
    "problem": parameter("id", "path", pattern=PROBLEM_ID),
    "limit": number("limit", "query", "", 0, 200),
    "cursor": parameter("cursor", "query", "`cursor` of the page before.", pattern="^[0-9]{1,6}$"),
}
