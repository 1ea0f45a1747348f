"""Our errors in the three dialects that E2B's clients read.

The control plane and plain HTTP of a sandbox answer `{"code": 404, "message": …}`; its RPC answers
Connect's `{"code": "not_found", "message": …}`. Clients tell a sandbox that is gone by the words "was not
found" in a 502, whatever they asked for.
"""

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sandboxd.errors import (
    Conflict,
    FileProblem,
    Forbidden,
    InvalidRequest,
    NoSpace,
    NotFound,
    Overload,
    PathDenied,
    PathExists,
    PathNotFound,
    PortClosed,
    RequestError,
    RequestTimeout,
    SandboxEnded,
    Unauthorized,
    UnknownImage,
    UnknownTemplate,
    WrongFileType,
)
from sandboxd.gateway import problems

JSON = "application/json"
_encode = msgspec.json.Encoder().encode


class NoProcess(NotFound):
    """There is no such process; the sandbox is there."""


class NoContext(NotFound):
    """There is no such context of the code interpreter; the sandbox is there."""


class NoWatcher(NotFound):
    """There is no such watcher; the sandbox is there."""


class NotOffered(RequestError):
    """Something of E2B's that has no counterpart here; the text says what."""

    code, status, title = "not_offered", 400, "Not offered by this service"


class SandboxGone(RequestError):
    """No such sandbox, or none that runs."""

    code, status, title = "sandbox_gone", 502, "No such sandbox"


_STATUS: dict[type[Exception], int] = {
    UnknownTemplate: 404,
    UnknownImage: 404,
    SandboxEnded: 404,
}
"""Of the control plane, where it is not our own."""
_CONNECT: tuple[tuple[type[Exception], str, int], ...] = (
    (Unauthorized, "unauthenticated", 401),
    (PathNotFound, "not_found", 404),
    (NoProcess, "not_found", 404),
    (NoWatcher, "not_found", 404),
    (PathExists, "already_exists", 409),
    (PathDenied, "permission_denied", 403),
    (Forbidden, "permission_denied", 403),
    (WrongFileType, "invalid_argument", 400),
    (FileProblem, "invalid_argument", 400),
    (NoSpace, "resource_exhausted", 429),
    (RequestTimeout, "deadline_exceeded", 504),
    (NotOffered, "unimplemented", 501),
    (PortClosed, "unavailable", 503),
    (Conflict, "failed_precondition", 400),
    (InvalidRequest, "invalid_argument", 400),
    (NotFound, "not_found", 404),
    (RequestError, "invalid_argument", 400),
)
_FILES: dict[type[Exception], int] = {
    PathNotFound: 404,
    NoContext: 404,
    PathExists: 409,
    NoSpace: 507,
}


def plain(status: int, message: str, **more: Any) -> Response:
    """What both HTTP dialects look like."""
    return Response(_encode({"code": status, "message": message} | more), status, media_type=JSON)


def control(error: Exception) -> Response:
    """Of the control plane. Logs what is our fault."""
    told = problems.problem(error)
    status = _STATUS.get(type(error), 400 if told.status == 422 else told.status)
    response = plain(status, _words(told), error_code=told.code)
    return _retryable(response, error)


def of_sandbox(error: Exception) -> Response:
    """Of plain HTTP in a sandbox, and of RPC when it is the sandbox that is missing."""
    if isinstance(error, SandboxGone):
        return plain(502, error.detail)
    if isinstance(error, HTTPException):
        return plain(error.status_code, error.detail)
    told = problems.problem(error)
    status = told.status
    if isinstance(error, RequestError) and not isinstance(error, Unauthorized):
        status = _FILES.get(type(error), 413 if status == 413 else 400)
    return _retryable(plain(status, _words(told)), error)


def connect(error: Exception) -> tuple[int, dict[str, str]]:
    """Status and body of an RPC's failure. Logs what is our fault."""
    if isinstance(error, HTTPException):
        return error.status_code, {"code": "unimplemented", "message": error.detail}
    told = problems.problem(error)
    if isinstance(error, Overload):
        code, status = ("unavailable", 503) if told.status == 503 else ("resource_exhausted", 429)
        return status, {"code": code, "message": _words(told)}
    for kind, code, status in _CONNECT:
        if isinstance(error, kind):
            return status, {"code": code, "message": _words(told)}
    return 500, {"code": "internal", "message": _words(told)}


def _words(told: problems.Problem) -> str:
    return f"{told.field}: {told.detail}" if told.field else told.detail


def _retryable(response: Response, error: Exception) -> Response:
    """Clients repeat on their own only what the header allows."""
    if isinstance(error, Overload):
        response.headers["should-retry"] = "true" if error.retryable else "false"
        if error.retry_after is not None:
            response.headers["retry-after"] = str(max(1, round(error.retry_after)))
    return response
