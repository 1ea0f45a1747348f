"""What every route of `/v1/sandboxes` does with a request: whose it is, its body, its answer."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from sandboxd.errors import InvalidRequest, NotFound
from sandboxd.gateway.bodies import Budget, decode, read_json
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.names import is_process_id, is_sandbox_id

T = TypeVar("T")

JSON = "application/json"
_SMALL = 64 << 10
_encode = msgspec.json.Encoder().encode


class Bodies:
    """Reads JSON bodies, all those of `/v1/sandboxes` within one budget."""

    def __init__(self, gateway: Gateway) -> None:
        self._settings = gateway.settings.gateway
        self._budget = Budget(8 * self._settings.max_body)
        self._decoders: dict[Any, msgspec.json.Decoder[Any]] = {}

    async def small(self, request: Request, kind: type[T]) -> T:
        """Of at most 64 KiB; none at all stands for `{}`. Raises as `read_json` and `decode`."""
        if request.headers.get("content-length") == "0" or not _has_body(request):
            return self.parse(b"{}", kind)
        return await self._read(request, kind, _SMALL)

    async def large(self, request: Request, kind: type[T]) -> T:
        """Of at most `gateway.max_body` bytes."""
        return await self._read(request, kind, self._settings.max_body)

    def parse(self, body: bytes, kind: type[T]) -> T:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(kind)
        found: T = decode(decoder, body)
        return found

    async def _read(self, request: Request, kind: type[T], most: int) -> T:
        with self._budget.share() as share:
            return self.parse(
                await read_json(request, share, most, self._settings.body_timeout), kind
            )


def _has_body(request: Request) -> bool:
    return "content-length" in request.headers or "transfer-encoding" in request.headers


def who(connection: HTTPConnection) -> tuple[str, str]:
    """Tenant and sandbox of a request. Raises NotFound for what is no id."""
    sandbox: str = connection.path_params["id"]
    if not is_sandbox_id(sandbox):
        raise NotFound("there is no such sandbox, or it ended more than a day ago")
    return connection.scope["tenant"], sandbox


def process_of(connection: HTTPConnection) -> str:
    """The process in the path. Raises NotFound for what is no id."""
    process: str = connection.path_params["process"]
    if not is_process_id(process):
        raise NotFound("there is no such process")
    return process


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(body), status, headers, JSON)


def known_query(query: QueryParams, *names: str) -> None:
    """Raises InvalidRequest for a parameter that there is not, or that is given twice."""
    for name in query:
        if name not in names:
            raise InvalidRequest(f"there is no parameter {name!r}", field=name)
        if len(query.getlist(name)) > 1:
            raise InvalidRequest("is given more than once", field=name)


def path_query(query: QueryParams) -> bytes:
    return admission.path(query.get("path"), query.get("path_base64"))


def flag(query: QueryParams, name: str, default: bool) -> bool:
    found = query.get(name)
    if found is None:
        return default
    if found not in ("true", "false"):
        raise InvalidRequest("is true or false", field=name)
    return found == "true"


def number(
    query: QueryParams, name: str, default: int | None, least: int, most: int, base: int = 10
) -> int | None:
    """Raises InvalidRequest unless it is a whole number within bounds."""
    found = query.get(name)
    if found is None:
        return default
    try:
        value = int(found, base) if found.isascii() and found.isalnum() else least - 1
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InvalidRequest(f"is a number from {least} to {most}", field=name)
    return value


def moment(query: QueryParams, name: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time. Raises InvalidRequest unless it is one."""
    found = query.get(name)
    if found is None:
        return None
    try:
        at = datetime.fromisoformat(found)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidRequest("is a time with its zone, as in RFC 3339", field=name)
    return at.timestamp()
