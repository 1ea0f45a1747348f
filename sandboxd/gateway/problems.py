"""Errors become `application/problem+json` (RFC 9457) here, once, and nowhere else.

What the caller can act on is said; what is ours alone is logged under an id, and the body carries
only that id.
"""

import logging
import math
import secrets

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sandboxd.errors import NotFound, Overload, RequestError, RequestTimeout, Unauthorized

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_encoder = msgspec.json.Encoder()


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of every answer that is an error."""

    type: str
    """A URN that is one with `code`."""
    title: str
    status: int
    code: str
    """What a program should look at."""
    detail: str
    retryable: bool
    """The same request may succeed later."""
    field: str | None = None
    """Dotted path of the request field at fault."""
    retry_after: float | None = None
    """Seconds; also in the header Retry-After, rounded up."""


def problem(error: Exception) -> Problem:
    """What the caller is told about `error`. Logs it if it is our fault."""
    if isinstance(error, RequestError | Overload):
        return Problem(
            type=_urn(error.code),
            title=error.title,
            status=error.status,
            code=error.code,
            detail=error.detail,
            retryable=error.retryable,
            field=error.field,
            retry_after=_retry_after(error),
        )
    if isinstance(error, HTTPException):
        return _of_routing(error)
    fault = secrets.token_hex(8)
    log.error("fault %s", fault, exc_info=error)
    return Problem(
        type=_urn("internal_error"),
        title="Internal error",
        status=500,
        code="internal_error",
        detail=f"the log has the details under {fault}",
        retryable=False,
    )


def headers(error: Exception, body: Problem) -> dict[str, str]:
    """Headers that go with the answer `body` to `error`."""
    found: dict[str, str] = {}
    if body.retry_after is not None:
        found["retry-after"] = str(math.ceil(body.retry_after))
    if isinstance(error, Unauthorized):
        found["www-authenticate"] = "Bearer"
    if isinstance(error, RequestTimeout):
        found["connection"] = "close"
    if isinstance(error, HTTPException) and error.headers:
        found |= error.headers
    return found


def encode(body: Problem) -> bytes:
    return _encoder.encode(body)


def response(error: Exception) -> Response:
    body = problem(error)
    return Response(encode(body), body.status, headers(error, body), MEDIA_TYPE)


def _urn(code: str) -> str:
    return f"urn:sandboxd:problem:{code}"


def _retry_after(error: RequestError | Overload) -> float | None:
    if error.retry_after is not None:
        return max(error.retry_after, 0.0)
    return 1.0 if isinstance(error, Overload) else None


def _of_routing(error: HTTPException) -> Problem:
    """The router knows two faults: no such path, and not this method."""
    code, title = (NotFound.code, NotFound.title)
    if error.status_code == 405:
        code, title = "method_not_allowed", "The resource does not know this method"
    return Problem(
        type=_urn(code),
        title=title,
        status=error.status_code,
        code=code,
        detail=error.detail,
        retryable=False,
    )
