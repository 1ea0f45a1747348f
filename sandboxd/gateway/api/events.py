"""Events of a run or a submission as they happen: `GET /v1/runs/{id}/events` (server-sent events)."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable

import msgspec
from msgspec.structs import replace
from starlette.requests import HTTPConnection, Request
from starlette.types import Receive, Scope, Send

from sandboxd.errors import InvalidRequest, Unavailable
from sandboxd.gateway.api.runs import owned_record
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone, disconnected, unless
from sandboxd.model import RunRecord, RunState
from sandboxd.queue import Event

EVENT_ID = r"^[0-9]{1,19}(-[0-9]{1,19})?$"
_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Events:
    """An ASGI application."""

    def __init__(
        self,
        gateway: Gateway,
        keep_alive: float = 15.0,
        owned: Callable[[Gateway, HTTPConnection], Awaitable[RunRecord]] = owned_record,
    ) -> None:
        """`owned` finds the job in the path, if it is the caller's."""
        self._gateway, self._owned = gateway, owned
        self._keep_alive = keep_alive
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        after = request.headers.get("last-event-id", "0")
        if not _ID.fullmatch(after):
            raise InvalidRequest("not an id of this stream", field="Last-Event-ID")
        record = await self._owned(self._gateway, request)
        with self._gateway.slots.take():
            # An outage before the head of the answer is still a 503; later it ends the stream,
            # and the client resumes by the last id.
            batch = await self._gateway.queue.events(record.id, after)
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if request.method == "HEAD":
                batch, record = [], replace(record, state=RunState.FINISHED)
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(self._gateway.settings.gateway.total_timeout):
                    tail = self._tail(record, batch, after, send)
                    await unless(disconnected(receive), ClientGone(), tail)
            await send({"type": "http.response.body", "body": b""})

    async def _tail(self, record: RunRecord, batch: list[Event], after: str, send: Send) -> None:
        """Send events until `finished` was sent, or the run's record is gone."""
        queue = self._gateway.queue
        over = record.state is RunState.FINISHED
        while True:
            if batch:
                after = batch[-1].id
                over = over or batch[-1].type == "finished"
                await _write(send, b"".join(map(self._frame, batch)))
            if over:
                return
            batch = await self._gateway.unless_closing(
                queue.events(record.id, after, block=self._keep_alive)
            )
            if not batch:
                await _write(send, b": keep-alive\n\n")
                found = await queue.record(record.id)
                over = found is None or found[1].state is RunState.FINISHED
                batch = await queue.events(record.id, after)

    def _frame(self, event: Event) -> bytes:
        data = self._encoder.encode(event)
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.type.encode(), data)


async def _write(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
