"""What happens to sandboxes, as it happens: `GET /v1/sandboxes/events`, and of one `…/{id}/events`.

`GET /v1/sandboxes/{id}/metrics/stream` is what one uses, every `interval` seconds.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.api.sandbox_lines import EVENTS, Document, Lines, accepted
from sandboxd.gateway.api.sandbox_requests import known_query, number, who
from sandboxd.gateway.context import Gateway
from sandboxd.model import agent
from sandboxd.model.session import Metrics, SandboxState
from sandboxd.model.session_event import SandboxEvent

_WAIT = 10.0
_encode = msgspec.json.Encoder().encode
_POSITION = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")


class SandboxEvents:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sandboxes = gateway.sandboxes

    async def all(self, request: Request) -> ASGIApp:
        """Of the tenant's sandboxes; from now on, or after `Last-Event-ID`."""
        known_query(request.query_params)
        after = last_seen(request, str(int(time.time() * 1000)))
        documents = self._events(request.scope["tenant"], None, after)
        return Lines(self._gateway, documents, accepted(request) or EVENTS, eager=True)

    async def of_one(self, request: Request) -> ASGIApp:
        """From its beginning, or after `Last-Event-ID`, to its end."""
        tenant, sandbox = who(request)
        known_query(request.query_params)
        await self._sandboxes.entry(tenant, sandbox)
        documents = self._events(tenant, sandbox, last_seen(request, "0"))
        return Lines(self._gateway, documents, accepted(request) or EVENTS, eager=True)

    async def _events(
        self, tenant: str, sandbox: str | None, after: str
    ) -> AsyncIterator[Document]:
        directory = self._sandboxes.directory
        while True:
            over = False
            if sandbox is not None:
                # Looked at before the events: an end that comes between is among them.
                found = await directory.find(tenant, sandbox)
                over = found is None or found.sandbox.state is SandboxState.ENDED
            batch = await directory.events(tenant, after=after, wait=0 if over else _WAIT)
            for event in batch:
                after = event.id
                if sandbox is None or event.sandbox == sandbox:
                    yield _document(event)
                    if sandbox is not None and event.type == "ended":
                        return
            if over and not batch:
                return

    async def metrics(self, request: Request) -> ASGIApp:
        tenant, sandbox = who(request)
        known_query(request.query_params, "interval")
        interval = number(request.query_params, "interval", 5, 1, 3600) or 5
        call = agent.Metrics(tenant=tenant, sandbox=sandbox)
        return Lines(self._gateway, self._used(call, interval), accepted(request) or EVENTS)

    async def _used(self, call: agent.Metrics, interval: int) -> AsyncIterator[Document]:
        while True:
            metrics = await self._sandboxes.ask(call, Metrics)
            yield Document(
                "metrics", _encode({"type": "metrics", **msgspec.structs.asdict(metrics)})
            )
            await asyncio.sleep(interval)


def _document(event: SandboxEvent) -> Document:
    return Document(event.type, _encode(event), event.id)


def last_seen(request: Request, default: str) -> str:
    """The `Last-Event-ID` of a client that comes back. Raises InvalidRequest."""
    after = request.headers.get("last-event-id", default)
    if after != default and not _POSITION.fullmatch(after):
        raise InvalidRequest("not an id of this stream", field="Last-Event-ID")
    return after
