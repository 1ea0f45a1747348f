"""Reads what E2B's clients send, within bounds."""

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sandboxd.errors import InvalidRequest, UnsupportedMediaType
from sandboxd.gateway.adapters.e2b.errors import JSON
from sandboxd.gateway.bodies import Budget, decode, read_bytes
from sandboxd.gateway.context import Gateway

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Bodies:
    def __init__(self, gateway: Gateway) -> None:
        self._settings = gateway.settings.gateway
        self._budget = Budget(8 * self._settings.max_body)
        self._decoders: dict[Any, msgspec.json.Decoder[Any]] = {}

    async def json(self, request: Request, kind: type[T]) -> T:
        """None at all stands for `{}`. Raises MalformedBody, InvalidRequest, BodyTooLarge,
        UnsupportedMediaType."""
        with self._budget.share() as share:
            body = await read_bytes(
                request, share, self._settings.max_body, self._settings.body_timeout
            )
        if not body:
            return self.parse(b"{}", kind)
        # A web page can send anything but this without asking first.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise UnsupportedMediaType(f"send {JSON}")
        return self.parse(body, kind)

    def parse(self, body: bytes, kind: type[T]) -> T:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(kind)
        found: T = decode(decoder, body)
        return found


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(body), status, headers, JSON)


def nothing(status: int = 204) -> Response:
    return Response(status_code=status)


def number(text: str | None, default: int, name: str) -> int:
    """Of a query. Raises InvalidRequest."""
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise InvalidRequest("is a whole number", field=name)
    return int(text)
