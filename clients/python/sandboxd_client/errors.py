"""The tree of errors; nothing else leaves this package.

    SandboxdError
    ├── RequestError       the request is wrong or not allowed (4xx, 507): `code`, `field`, `status`
    ├── Overload           not accepted, try later (429, 503): `retry_after`
    ├── ServerError        the service failed, or answered what this client does not understand
    ├── ConnectionFailed   the service could not be reached, or the connection broke
    └── Timeout            the deadline of this call passed

A program's bad end is a `Result` with a status, never an error.
"""

import json
from collections.abc import Mapping
from typing import Any


class SandboxdError(Exception):
    """Base of every error of this package."""

    code = "error"
    """Machine code, e.g. `unknown_language`; the service's own where it answered."""
    retryable = False
    """Whether the same call may succeed later without any risk of running twice."""

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        field: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.status = status
        """HTTP status, or None if there was no answer."""
        self.field = field
        """Dotted path of the request field at fault, e.g. `limits.memory`."""
        self.retryable = self.retryable if retryable is None else retryable
        self.retry_after = retry_after
        """Seconds after which a retry makes sense, or None."""

    def __str__(self) -> str:
        field = "" if self.field is None else f" ({self.field})"
        return f"{self.detail}{field} [{self.code}]"


class RequestError(SandboxdError):
    """The request is wrong or not allowed (4xx), or more than there is room for (507)."""

    code = "invalid_request"


class Overload(SandboxdError):  # the field's word
    """The service did not accept the request; try again after `retry_after` seconds."""

    code, retryable = "overload", True


class ServerError(SandboxdError):
    """The service failed, or answered what this client does not understand."""

    code = "internal_error"


class ConnectionFailed(SandboxdError):  # the field's word
    """The service could not be reached (`retryable`), or the connection broke later."""

    code = "connection_failed"


class Timeout(SandboxdError):  # the field's word
    """The deadline of this call passed. A submitted run may still be going on."""

    code = "timeout"


def from_answer(status: int, headers: Mapping[str, str], body: bytes) -> SandboxdError:
    """The error that an HTTP answer other than 2xx stands for."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": f"the service answered HTTP {status}", "code": f"http_{status}"}
    after = _seconds(headers.get("retry-after"))
    return from_problem({"retry_after": after, **problem, "status": status})


def from_problem(problem: Mapping[str, Any]) -> SandboxdError:
    """The error that an RFC 9457 problem document stands for."""
    status = problem.get("status")
    status = status if isinstance(status, int) else 500
    retryable = problem.get("retryable")
    return _kind(status)(
        str(problem.get("detail") or problem.get("title") or f"HTTP {status}"),
        code=_text(problem.get("code")),
        status=status,
        field=_text(problem.get("field")),
        retryable=retryable if isinstance(retryable, bool) else None,
        retry_after=_seconds(problem.get("retry_after")),
    )


def _kind(status: int) -> type[SandboxdError]:
    if status in (429, 503):
        return Overload
    return RequestError if 400 <= status < 500 or status == 507 else ServerError


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: object) -> float | None:
    """Non-negative seconds; None for anything else, an HTTP date included."""
    if not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
