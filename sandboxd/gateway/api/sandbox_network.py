"""`GET /v1/sandboxes/{id}/network`: what a sandbox asked of its network, in pages, or as it happens.

Also of one that has ended. A client that accepts server-sent events or NDJSON gets a stream from the
beginning, or after `Last-Event-ID`, to the sandbox's end.
"""

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from sandboxd.gateway.api.sandbox_events import last_seen
from sandboxd.gateway.api.sandbox_lines import Document, Lines, accepted
from sandboxd.gateway.api.sandbox_requests import answer, known_query, number, who
from sandboxd.gateway.context import Gateway
from sandboxd.model.network_use import NetworkPage
from sandboxd.model.session import SandboxState

_PAGE, _PAGE_MAX = 100, 1_000
_WAIT = 5.0
_encode = msgspec.json.Encoder().encode


class NetworkRecordings:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sandboxes = gateway.sandboxes

    async def read(self, request: Request) -> ASGIApp:
        tenant, sandbox = who(request)
        await self._sandboxes.entry(tenant, sandbox)
        kind = accepted(request)
        if kind is not None:
            known_query(request.query_params)
            documents = self._follow(tenant, sandbox, last_seen(request, "0"))
            return Lines(self._gateway, documents, kind, eager=True)
        query = request.query_params
        known_query(query, "limit", "cursor")
        limit = number(query, "limit", _PAGE, 1, _PAGE_MAX) or _PAGE
        found = await self._sandboxes.records.read(
            sandbox, after=query.get("cursor", "0"), limit=limit
        )
        more = found[-1].id if len(found) == limit else None
        return answer(NetworkPage(records=found, next_cursor=more))

    async def _follow(self, tenant: str, sandbox: str, after: str) -> AsyncIterator[Document]:
        over = False
        while True:
            batch = await self._sandboxes.records.read(
                sandbox, after=after, wait=0 if over else _WAIT
            )
            for record in batch:
                after = record.id
                yield Document("network", _encode(record), record.id)
            if batch:
                continue
            if over:
                return
            # Read once more after its end was seen: the last are written about then.
            entry = await self._sandboxes.directory.find(tenant, sandbox)
            over = entry is None or entry.sandbox.state is SandboxState.ENDED
