"""What the OpenAPI document says of one method of one path, and how tables of that are written."""

import re
from typing import Any

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
Errors = tuple[type[SandboxdError], ...]
EVERYWHERE: Errors = (Forbidden, SystemFault)
GUARDED: Errors = (Unauthorized, Unavailable)
BODY: Errors = (BodyTooLarge, MalformedBody, UnsupportedMediaType, RequestTimeout, InvalidRequest)

Schema = type[Struct] | None
_IN_PATH = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    path: str
    method: str
    id: str
    summary: str
    answers: dict[int, tuple[str, Schema]]
    """Status -> media type (empty: no body) and schema (None: text)."""
    errors: Errors = GUARDED
    parameters: tuple[str, ...] = ()
    request: Schema = None
    optional: bool = False
    """The body may be left out."""
    also: tuple[str, ...] = ()
    """Media types of a body that may also be sent, as bytes."""
    open: bool = False


class Operations(Struct, frozen=True):
    """Writes operations that may fail in the same ways."""

    errors: Errors = GUARDED
    """Of those that take no body."""
    with_body: Errors = (*GUARDED, *BODY)
    open: bool = False
    """No key is asked for."""

    def __call__(
        self,
        call: str,
        id: str,
        summary: str,
        answer: Schema | dict[int, Schema] = None,
        *errors: type[SandboxdError],
        status: int = 200,
        media: str | None = None,
        parameters: tuple[str, ...] = (),
        request: Schema = None,
        optional: bool = False,
        also: tuple[str, ...] = (),
    ) -> Operation:
        """The operation of a call such as `GET /v1/things/{id:thing}`.

        `thing` is the key of the parameter `id`, or left out where they are the same word.
        An answer without schema and media type has no body. `errors` are those beside the shared ones.
        """
        method, path = call.split()
        answers = answer if isinstance(answer, dict) else {status: answer}
        shared = self.with_body if request or also else self.errors
        return Operation(
            path=_IN_PATH.sub(r"{\1}", path),
            method=method.lower(),
            id=id,
            summary=summary,
            answers={
                code: (media if media is not None else JSON if schema else "", schema)
                for code, schema in answers.items()
            },
            errors=(*shared, *errors),
            parameters=(*(key or name for name, key in _IN_PATH.findall(path)), *parameters),
            request=request,
            optional=optional,
            also=also,
            open=self.open,
        )


def parameter(name: str, where: str, text: str = "", **schema: Any) -> dict[str, Any]:
    """A parameter in `path`, `query` or `header`; a string unless the schema has another `type`."""
    return {
        "name": name,
        "in": where,
        **({"required": True} if where == "path" else {}),
        **({"description": text} if text else {}),
        "schema": {"type": "string", **schema},
    }


def number(name: str, where: str, text: str, least: int, most: int) -> dict[str, Any]:
    """An integer parameter within bounds, both included."""
    return parameter(name, where, text, type="integer", minimum=least, maximum=most)


def flag(name: str, text: str) -> dict[str, Any]:
    """A parameter of the query that is true or false."""
    return parameter(name, "query", text, type="boolean")
