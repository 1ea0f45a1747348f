"""`/v1/sandboxes/{id}/contexts`: interpreters that keep their state, and code for them.

`run` streams events where the client accepts NDJSON or server-sent events, else it answers with all of
them put together. A client that leaves has its run interrupted; the context stays.
"""

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from sandboxd.errors import NotFound
from sandboxd.gateway.api.sandbox_lines import Document, Lines, accepted
from sandboxd.gateway.api.sandbox_requests import Bodies, answer, known_query, who
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions.collecting import Collected
from sandboxd.gateway.sessions.names import is_context_id
from sandboxd.gateway.waiting import ClientGone, disconnected, unless
from sandboxd.model.context import (
    CodeEvent,
    CodeRequest,
    CodeResult,
    ContextList,
    ContextRequest,
)

_encode = msgspec.json.Encoder().encode


class Contexts:
    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway, self._bodies = gateway, bodies
        self._contexts = gateway.contexts

    async def all(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        known_query(request.query_params)
        if request.method == "POST":
            wanted = await self._bodies.small(request, ContextRequest)
            with self._gateway.slots.take():
                work = self._gateway.unless_closing(self._contexts.create(tenant, sandbox, wanted))
                made = await unless(disconnected(request.receive), ClientGone(), work)
            return answer(made, 201)
        return answer(ContextList(contexts=await self._contexts.list(tenant, sandbox)))

    async def one(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        context = _context_of(request)
        known_query(request.query_params)
        if request.method == "DELETE":
            return answer(await self._contexts.remove(tenant, sandbox, context))
        return answer(await self._contexts.get(tenant, sandbox, context))

    async def restart(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        work = self._contexts.restart(tenant, sandbox, _context_of(request))
        with self._gateway.slots.take():
            return answer(await self._gateway.unless_closing(work))

    async def interrupt(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        return answer(await self._contexts.interrupt(tenant, sandbox, _context_of(request)))

    async def run(self, request: Request) -> ASGIApp:
        tenant, sandbox = who(request)
        context = _context_of(request)
        known_query(request.query_params)
        wanted = await self._bodies.large(request, CodeRequest)
        events = self._contexts.run(tenant, sandbox, context, wanted)
        kind = accepted(request)
        if kind is not None:
            return Lines(self._gateway, _documents(events), kind)
        with self._gateway.slots.take():
            work = self._gateway.unless_closing(_collected(events))
            return answer(await unless(disconnected(request.receive), ClientGone(), work))


async def _documents(events: AsyncIterator[CodeEvent]) -> AsyncIterator[Document]:
    try:
        async for event in events:
            kind: str = type(event).__struct_config__.tag  # type: ignore[assignment]
            yield Document(kind, _encode(event))
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def _collected(events: AsyncIterator[CodeEvent]) -> CodeResult:
    collected = Collected()
    try:
        async for event in events:
            collected.add(event)
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    return collected.result()


def _context_of(request: Request) -> str:
    context: str = request.path_params["context"]
    if not is_context_id(context):
        raise NotFound("there is no such context")
    return context
