"""What the OpenAPI document says of one method of one path."""

from msgspec import Struct

from sandboxd.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    MalformedBody,
    RequestTimeout,
    SandboxdError,
    SystemFault,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)

JSON = "application/json"
EVERYWHERE: tuple[type[SandboxdError], ...] = (Forbidden, SystemFault)
GUARDED = (Unauthorized, Unavailable)
BODY = (BodyTooLarge, MalformedBody, UnsupportedMediaType, RequestTimeout, InvalidRequest)


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    path: str
    method: str
    id: str
    summary: str
    answers: dict[int, tuple[str, type[Struct] | None]]
    """Status -> media type (empty: no body) and schema (None: text)."""
    errors: tuple[type[SandboxdError], ...] = GUARDED
    parameters: tuple[str, ...] = ()
    request: type[Struct] | None = None
    optional: bool = False
    """The body may be left out."""
    also: tuple[str, ...] = ()
    """Media types of a body that may also be sent, as bytes."""
    open: bool = False
