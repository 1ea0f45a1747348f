"""The operations of the judge, for the OpenAPI document."""

from typing import Any

from msgspec import Struct

from sandboxd.errors import InvalidRequest, NotFound, QueueFull
from sandboxd.gateway.ids import PROBLEM_ID, SUBMISSION_ID
from sandboxd.gateway.operations import BODY, GUARDED, JSON, Operation
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

JUDGE_OPERATIONS = (
    Operation(
        path="/v1/submissions",
        method="post",
        id="create_submission",
        summary="Judge a program on cases, and wait for the verdict unless `Prefer` says otherwise",
        request=SubmissionRequest,
        parameters=("Prefer", "Idempotency-Key"),
        answers={200: (JSON, SubmissionResult), 202: (JSON, SubmissionRecord)},
        errors=(*GUARDED, *BODY, QueueFull),
    ),
    Operation(
        path="/v1/submissions/{id}",
        method="get",
        id="read_submission",
        summary="The state of a submission, and its result when it is judged",
        parameters=("submission",),
        answers={200: (JSON, SubmissionRecord)},
        errors=(*GUARDED, NotFound),
    ),
    Operation(
        path="/v1/submissions/{id}",
        method="delete",
        id="cancel_submission",
        summary="Cancel a submission; 202 while its node still ends it, 200 when it is over",
        parameters=("submission",),
        answers={200: (JSON, SubmissionRecord), 202: (JSON, SubmissionRecord)},
        errors=(*GUARDED, NotFound),
    ),
    Operation(
        path="/v1/submissions/{id}/events",
        method="get",
        id="follow_submission",
        summary="Events of a submission, each case as it is judged (server-sent events)",
        parameters=("submission", "Last-Event-ID"),
        answers={200: ("text/event-stream", None)},
        errors=(*GUARDED, NotFound, InvalidRequest),
    ),
    Operation(
        path="/v1/problems",
        method="post",
        id="create_problem",
        summary="Store a problem: as JSON, or as a package in the ICPC/Kattis format",
        request=JudgeProblem,
        also=("application/zip",),
        answers={201: (JSON, ProblemInfo)},
        errors=(*GUARDED, *BODY, QueueFull),
    ),
    Operation(
        path="/v1/problems",
        method="get",
        id="list_problems",
        summary="The tenant's problems, latest first",
        parameters=("limit", "cursor"),
        answers={200: (JSON, ProblemList)},
        errors=(*GUARDED, InvalidRequest),
    ),
    Operation(
        path="/v1/problems/{id}",
        method="get",
        id="read_problem",
        summary="A problem without its data",
        parameters=("problem",),
        answers={200: (JSON, ProblemInfo)},
        errors=(*GUARDED, NotFound),
    ),
    Operation(
        path="/v1/problems/{id}",
        method="delete",
        id="delete_problem",
        summary="Forget a problem and its data",
        parameters=("problem",),
        answers={204: ("", None)},
        errors=(*GUARDED, NotFound),
    ),
    Operation(
        path="/v1/files",
        method="post",
        id="keep_file",
        summary="Keep a file for a while; submissions name it by its digest",
        also=("application/octet-stream",),
        answers={201: (JSON, StoredFile)},
        errors=(*GUARDED, *BODY, QueueFull),
    ),
)


def _path(pattern: str) -> dict[str, Any]:
    return {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": pattern},
    }


JUDGE_PARAMETERS: dict[str, dict[str, Any]] = {
    "submission": _path(SUBMISSION_ID),
    "problem": _path(PROBLEM_ID),
    "limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 0, "maximum": 200},
    },
    "cursor": {
        "name": "cursor",
        "in": "query",
        "description": "`cursor` of the page before.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,6}$"},
    },
}
