"""Reads and decodes request bodies, bounded in size and time while they arrive."""

import asyncio
import re
from typing import TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request

from sandboxd.errors import (
    BodyTooLarge,
    InvalidRequest,
    MalformedBody,
    RequestTimeout,
    UnsupportedMediaType,
)
from sandboxd.gateway.waiting import ClientGone

T = TypeVar("T")

_UNKNOWN = re.compile(r"unknown field `(?P<name>.*?)`(?: - at `(?P<where>.*)`)?$", re.DOTALL)
_PLACE = re.compile(r" - at `(?P<where>\$.*)`$|`key` in `(?P<key>\$.*)`$", re.DOTALL)


async def read_json(request: Request, max_size: int, timeout: float) -> bytes:
    """The body. Raises UnsupportedMediaType, BodyTooLarge, RequestTimeout, ClientGone."""
    headers = request.headers
    _check_media_type(headers)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_size:
        raise BodyTooLarge(f"the body has more than {max_size} bytes")
    try:
        async with asyncio.timeout(timeout):
            return await _read(request, max_size)
    except TimeoutError:
        raise RequestTimeout(f"the body took more than {timeout:g} seconds") from None


async def _read(request: Request, max_size: int) -> bytes:
    body = b""
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
