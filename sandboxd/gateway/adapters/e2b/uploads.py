"""The bodies of uploads, piece by piece: whole, compressed, or as the parts of a form."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from sandboxd.errors import MalformedBody, RequestTimeout, UnsupportedMediaType
from sandboxd.gateway.waiting import ClientGone

_PIECE = 256 << 10
_HEAD_MAX = 16 << 10


async def body(request: Request, stall: float) -> AsyncIterator[bytes]:
    """The body as it comes. Raises RequestTimeout when nothing does for `stall` seconds, ClientGone,
    UnsupportedMediaType."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise UnsupportedMediaType("bodies may be sent as they are, or with gzip")
    raw = _raw(request, stall)
    async for piece in raw if coding == "identity" else _inflated(raw):
        yield piece


async def _raw(request: Request, stall: float) -> AsyncIterator[bytes]:
    patient = request.scope.get("sandboxd.patient")
    if patient is not None:
        patient()  # from here on the time is ours to watch
    while True:
        try:
            async with asyncio.timeout(stall):
                received = await request.receive()
        except TimeoutError:
            raise RequestTimeout(f"nothing of the body came for {stall:g} seconds") from None
        if received["type"] == "http.disconnect":
            raise ClientGone
        if piece := received.get("body", b""):
            yield piece
        if not received.get("more_body", False):
            return


async def _inflated(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Never more than a piece at a time, whatever it was packed from."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        async for piece in pieces:
            while piece:
                if inflater.eof:
                    inflater = zlib.decompressobj(wbits=31)  # another member
                if data := inflater.decompress(piece, _PIECE):
                    yield data
                piece = inflater.unconsumed_tail or (inflater.unused_data if inflater.eof else b"")
    except zlib.error as error:
        raise MalformedBody(f"the body is not gzip: {error}") from None
    if not inflater.eof:
        raise MalformedBody("the body ends before its gzip does")


class Head(Struct, frozen=True):
    """A file of a form begins; its bytes come next."""

    filename: str | None


class End(Struct, frozen=True):
    """The file is whole."""


Event = Head | bytes | End


async def files(request: Request, pieces: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The parts called `file` of a form, in order: Head, bytes, End. Raises MalformedBody."""
    _, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedBody("the form has no boundary")
    form = _Form(boundary)
    async for piece in pieces:
        for event in form.feed(piece):
            yield event
    if not form.ended:
        raise MalformedBody("the form breaks off")


class _Form:
    """The parser's callbacks, as a list of events."""

    def __init__(self, boundary: bytes) -> None:
        self.ended = False
        self._events: list[Event] = []
        self._name, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._wanted = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_head,
                "on_part_data": self._on_data,
                "on_part_end": self._on_end,
                "on_end": self._on_all,
            },
        )

    def feed(self, piece: bytes) -> list[Event]:
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise MalformedBody(f"not a form: {error}") from None
        events, self._events = self._events, []
        return events

    def _on_begin(self) -> None:
        self._disposition = b""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check()

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check()

    def _check(self) -> None:
        if len(self._name) + len(self._value) > _HEAD_MAX:
            raise MalformedBody(f"a field of a part has more than {_HEAD_MAX} bytes")

    def _on_header(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _on_head(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._wanted = options.get(b"name") == b"file"
        if self._wanted:
            name = options.get(b"filename")
            self._events.append(Head(None if name is None else name.decode(errors="replace")))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._events.append(data[start:end])

    def _on_end(self) -> None:
        if self._wanted:
            self._events.append(End())

    def _on_all(self) -> None:
        self.ended = True
