"""`/healthz`, `/readyz`, `/metrics`: for supervisors, load balancers and Prometheus."""

import msgspec
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from sandboxd.errors import Unavailable
from sandboxd.gateway.context import Gateway
from sandboxd.model import NodeRecord
from sandboxd.queue import Stats


class Health(Struct, frozen=True, kw_only=True):
    status: str
    nodes: int | None = None
    """Live nodes, of /readyz."""


class Probes:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def alive(self, request: Request) -> Response:
        return _json(Health(status="alive"))

    async def ready(self, request: Request) -> Response:
        """Raises Unavailable, saying what is missing."""
        await self._gateway.queue.ping()
        nodes = await self._gateway.queue.nodes()
        if not nodes:
            raise Unavailable("no node is alive", retry_after=1.0)
        return _json(Health(status="ready", nodes=len(nodes)))

    async def metrics(self, request: Request) -> Response:
        """Answers during an outage of the queue too, then with `sandboxd_queue_up 0`."""
        stats: Stats | None = None
        nodes: list[NodeRecord] = []
        try:
            stats = await self._gateway.queue.stats()
            nodes = await self._gateway.queue.nodes()
        except Unavailable:
            stats = None
        body = self._gateway.metrics.exposition(stats, nodes)
        return Response(body, headers={"content-type": CONTENT_TYPE_LATEST})


def _json(body: Health) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
