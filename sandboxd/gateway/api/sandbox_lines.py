"""Streams for simple HTTP clients: a JSON document a line (NDJSON), or server-sent events.

Each document has a `type`; what a client does not know it may skip. An error after the head of the
answer is the last document: `{"type": "error", "problem": …}`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from sandboxd.gateway import problems
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone, disconnected, unless

NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
KEEP_ALIVE = 15.0
_encode = msgspec.json.Encoder().encode


def accepted(request: Request) -> str | None:
    """The kind of stream that the client wants, or None for one answer at the end."""
    for wanted in request.headers.get("accept", "").split(","):
        kind = wanted.partition(";")[0].strip().lower()
        if kind in (NDJSON, EVENTS):
            return kind
    return None


class Document(msgspec.Struct, frozen=True):
    """One line: its type, its JSON, and where it stands in a stream that can be resumed."""

    type: str
    body: bytes
    id: str = ""


class Lines:
    """An ASGI response: documents as they come, with a sign of life between them."""

    def __init__(
        self,
        gateway: Gateway,
        documents: AsyncIterator[Document],
        kind: str,
        *,
        eager: bool = False,
    ) -> None:
        """An error that comes before the first document is answered as any other, unless `eager`:
        then the head is sent at once, since the first may be long in coming."""
        self._gateway, self._documents = gateway, documents
        self._kind, self._eager = kind, eager
        self._began = self._spoke = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gateway.slots.take():
            try:
                work = self._gateway.unless_closing(self._send_all(send, scope["method"] == "HEAD"))
                await unless(disconnected(receive), ClientGone(), work)
            finally:
                close = getattr(self._documents, "aclose", None)
                if close is not None:
                    await close()

    async def _send_all(self, send: Send, bare: bool) -> None:
        """`bare`: what GET would begin with, and nothing of it."""
        lock = asyncio.Lock()
        alive = asyncio.create_task(self._keep_alive(send, lock))
        try:
            if self._eager:
                await self._begin(send)
                if bare:
                    return await send({"type": "http.response.body", "body": b""})
            async for document in self._documents:
                if not self._began:
                    await self._begin(send)
                if bare:
                    break
                async with lock:
                    await _write(send, self._line(document))
                self._spoke = True
        except Exception as error:
            if not self._began:
                raise
            body = _encode({"type": "error", "problem": problems.problem(error)})
            async with lock:
                await _write(send, self._line(Document("error", body)))
        finally:
            alive.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await alive
        await send({"type": "http.response.body", "body": b""})

    async def _begin(self, send: Send) -> None:
        headers = [
            (b"content-type", self._kind.encode()),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._began = True

    async def _keep_alive(self, send: Send, lock: asyncio.Lock) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE)
            if self._began and not self._spoke:
                async with lock:
                    await _write(send, b": keep-alive\n\n" if self._kind == EVENTS else b"\n")
            self._spoke = False

    def _line(self, document: Document) -> bytes:
        if self._kind == NDJSON:
            return document.body + b"\n"
        head = b"id: %b\n" % document.id.encode() if document.id else b""
        return head + b"event: %b\ndata: %b\n\n" % (document.type.encode(), document.body)


async def _write(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
