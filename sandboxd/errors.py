"""The one tree of errors.

    SandboxdError
    ├── RequestError      their fault, 4xx
    │   ├── InvalidRequest, UnknownLanguage, UnknownTemplate, LimitAboveMaximum
    │   ├── MalformedBody, BodyTooLarge, UnsupportedMediaType, RequestTimeout
    │   ├── InvalidImage, InvalidDockerfile, BuildFailed, UnknownImage
    │   ├── Unauthorized, Forbidden, NotFound, Conflict
    │   ├── SandboxEnded, and what a sandbox's file system answers: PathNotFound, PathExists,
    │   │   PathDenied, WrongFileType, NoSpace, FileProblem; PortClosed
    ├── Overload          try later, 429/503 with retry_after
    │   ├── QueueFull, QuotaExceeded, Unavailable
    └── SystemFault       ours, 500
        ├── NativeFault   a set-up stage of the native core failed
        ├── DriverFault   a host driver failed
        └── SandboxLost   a sandbox vanished under us

Each is raised where the fault is seen and translated once, at the border (`gateway/problems.py`).
A job's bad end is a result with a status, never one of these.
"""

import errno as errno_names
import os
from typing import Any, ClassVar


class SandboxdError(Exception):
    """Base of every error. `code` is the machine code, `status` the HTTP status."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, detail: str, *, field: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        """Dotted path of the request field at fault, e.g. `limits.memory`."""
        self.retry_after = retry_after
        """Seconds after which a retry makes sense, or None."""


class RequestError(SandboxdError):
    code, status, title = "invalid_request", 400, "Bad request"


class MalformedBody(RequestError):
    code, status, title = "malformed_body", 400, "The body is not well-formed"


class InvalidRequest(RequestError):
    code, status, title = "invalid_request", 422, "The request is not valid"


class UnknownLanguage(InvalidRequest):
    code, title = "unknown_language", "No such language"


class UnknownTemplate(InvalidRequest):
    code, title = "unknown_template", "No such template"


class LimitAboveMaximum(InvalidRequest):
    code, title = "limit_above_maximum", "A limit is above the operator's maximum"


class InvalidImage(InvalidRequest):
    """An image, layer or archive breaks a rule; the text names the part and the rule."""

    code, title = "invalid_image", "The image is not valid"


class InvalidDockerfile(InvalidRequest):
    """`line` of the Dockerfile, from 1, and what is wrong with it."""

    code, title = "invalid_dockerfile", "The Dockerfile is not valid"

    def __init__(self, detail: str, line: int = 0, **more: Any) -> None:
        super().__init__(f"line {line}: {detail}" if line else detail, **more)
        self.line = line


class BuildFailed(InvalidRequest):
    """A step of a build ended badly; its output was in the build's events."""

    code, title = "build_failed", "A step of the build failed"

    def __init__(self, detail: str, line: int = 0, **more: Any) -> None:
        super().__init__(f"line {line}: {detail}" if line else detail, **more)
        self.line = line


class Unauthorized(RequestError):
    code, status, title = "unauthorized", 401, "A valid API key is required"


class Forbidden(RequestError):
    code, status, title = "forbidden", 403, "Not allowed from there"


class NotFound(RequestError):
    code, status, title = "not_found", 404, "Not found"


class UnknownImage(NotFound):
    code, title = "unknown_image", "No such image"


class RequestTimeout(RequestError):
    code, status, title = "request_timeout", 408, "The request took too long to arrive"


class Conflict(RequestError):
    code, status, title = "conflict", 409, "Not possible in this state"


class SandboxEnded(RequestError):
    code, status, title = "sandbox_ended", 410, "The sandbox has ended"


class PathNotFound(NotFound):
    code, title = "path_not_found", "No such file or directory"


class PathExists(Conflict):
    code, title = "path_exists", "There is something already"


class PathDenied(Forbidden):
    code, title = "path_denied", "Not allowed to the sandbox's user"


class PortClosed(Conflict):
    code, title = "port_closed", "Nobody listens on this port of the sandbox"


class WrongFileType(Conflict):
    """A directory where a file is needed, or the reverse, or neither (FIFO, socket, device)."""

    code, title = "wrong_file_type", "Not possible with a file of this type"


class NoSpace(RequestError):
    code, status, title = "no_space", 507, "The sandbox's disk is full"


class FileProblem(InvalidRequest):
    code, title = "file_problem", "The sandbox's file system refused"


class BodyTooLarge(RequestError):
    code, status, title = "body_too_large", 413, "The body is too large"


class UnsupportedMediaType(RequestError):
    code, status, title = "unsupported_media_type", 415, "The media type is not supported"


class Overload(SandboxdError):
    code, status, title, retryable = "overload", 503, "Try again later", True


class QueueFull(Overload):
    code, status, title = "queue_full", 429, "The queue is full"


class QuotaExceeded(Overload):
    code, status, title = "quota_exceeded", 429, "The tenant's quota is used up"


class Unavailable(Overload):
    code, title = "unavailable", "The service cannot take requests now"


class SystemFault(SandboxdError):
    code, title = "internal_error", "Internal error"


class NativeFault(SystemFault):
    """A stage of the native core failed: `stage` names it, `errno` is the kernel's answer."""

    code = "native_fault"

    def __init__(self, stage: str, errno: int, index: int = 0) -> None:
        name = errno_names.errorcode.get(errno, str(errno))
        super().__init__(f"stage {stage}[{index}]: {name} ({os.strerror(errno)})")
        self.stage, self.errno, self.index = stage, errno, index


class DriverFault(SystemFault):
    code = "driver_fault"

    def __init__(self, driver: str, operation: str, cause: str) -> None:
        super().__init__(f"{driver}: {operation}: {cause}")
        self.driver, self.operation = driver, operation


class SandboxLost(SystemFault):
    code = "sandbox_lost"


def known(code: str) -> type[SandboxdError]:
    """The class of a machine code, for an error that came from another process; SystemFault if none
    can be made of text alone."""
    return _BY_CODE.get(code, SystemFault)


def _descendants(kind: type[SandboxdError]) -> list[type[SandboxdError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _descendants(child))]


_BY_CODE = {
    kind.code: kind
    for kind in reversed(_descendants(SandboxdError))
    if kind not in (RequestError, NativeFault, DriverFault)
}
