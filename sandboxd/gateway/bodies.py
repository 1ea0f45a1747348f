"""Reads and decodes request bodies, bounded in size and time while they arrive."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request

from sandboxd.errors import (
    BodyTooLarge,
    InvalidRequest,
    MalformedBody,
    RequestTimeout,
    Unavailable,
    UnsupportedMediaType,
)
from sandboxd.gateway.waiting import ClientGone

T = TypeVar("T")

_UNKNOWN = re.compile(r"unknown field `(?P<name>.*?)`(?: - at `(?P<where>.*)`)?$", re.DOTALL)
_PLACE = re.compile(r" - at `(?P<where>\$.*)`$|`key` in `(?P<key>\$.*)`$", re.DOTALL)


class Budget:
    """Bytes of bodies that the process holds at once: many clients may be large, not all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        share = Share(self)
        try:
            yield share
        finally:
            self._held -= share.size

    def grow(self, share: "Share", size: int) -> None:
        """Raises Unavailable if there is no room."""
        if self._held + size > self._limit:
            raise Unavailable("too many large requests at once", retry_after=1.0)
        self._held += size
        share.size += size


class Share:
    """What one request holds of a Budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def grow(self, size: int) -> None:
        self._budget.grow(self, size)


async def read_json(request: Request, share: Share, max_size: int, timeout: float) -> bytes:
    """The body, accounted to `share`.

    Raises UnsupportedMediaType, BodyTooLarge, RequestTimeout, Unavailable, ClientGone.
    """
    _check_media_type(request.headers)
    return await read_bytes(request, share, max_size, timeout)


async def read_bytes(request: Request, share: Share, max_size: int, timeout: float) -> bytes:
    """The body whatever its type, accounted to `share`. Raises as `read_json`, but for the type."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_size:
        raise BodyTooLarge(f"the body has more than {max_size} bytes")
    try:
        async with asyncio.timeout(timeout):
            return await _read(request, share, max_size)
    except TimeoutError:
        raise RequestTimeout(f"the body took more than {timeout:g} seconds") from None


async def _read(request: Request, share: Share, max_size: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body = message.get("body", b"")
        size += len(body)
        if size > max_size:
            raise BodyTooLarge(f"the body has more than {max_size} bytes")
        share.grow(len(body))
        if not message.get("more_body", False):
            return b"".join([*parts, body]) if parts else body
        parts.append(body)


def _check_media_type(headers: Headers) -> None:
    kind, _, parameters = headers.get("content-type", "").partition(";")
    charset = parameters.replace(" ", "").replace('"', "").lower()
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise UnsupportedMediaType("send application/json in UTF-8")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the body without a content encoding")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The typed body. Raises MalformedBody, or InvalidRequest naming the field."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"not JSON: {error}") from None
    except RecursionError:
        raise MalformedBody("the JSON is nested too deeply") from None


def _invalid(text: str) -> InvalidRequest:
    """msgspec says `… - at `$.limits.memory``; we say `…` and the field `limits.memory`."""
    unknown = _UNKNOWN.search(text)
    if unknown is not None:
        where = _dotted(unknown["where"] or "$")
        name = unknown["name"]
        return InvalidRequest(
            f"there is no field {name!r}", field=f"{where}.{name}" if where else name
        )
    place = _PLACE.search(text)
    if place is None:
        return InvalidRequest(text)
    detail = text[: place.start()].removesuffix(" - at ").replace("`", "")
    return InvalidRequest(detail, field=_dotted(place["where"] or place["key"]) or None)


def _dotted(path: str) -> str:
    """`$.files[...].text` -> `files.*.text`, `$.args[1]` -> `args.1`."""
    return path.replace("[...]", ".*").replace("[", ".").replace("]", "").lstrip("$").lstrip(".")
