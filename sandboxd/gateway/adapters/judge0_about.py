"""Judge0's routes that speak of the service and not of a submission."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sandboxd.gateway.adapters import judge0_tables as tables
from sandboxd.gateway.adapters.jobs import json
from sandboxd.gateway.adapters.judge0_counts import Counts
from sandboxd.gateway.context import Gateway


class About:
    """Handlers."""

    def __init__(self, gateway: Gateway, counts: Counts) -> None:
        self._gateway, self._counts = gateway, counts

    async def _offered(self) -> set[str]:
        return {name for node in await self._gateway.queue.nodes() for name in node.languages}

    async def languages(self, request: Request) -> Response:
        return json(tables.languages(self._gateway.policies, await self._offered()))

    async def all_languages(self, request: Request) -> Response:
        """Ids of Judge0 that are not installed here are archived."""
        return json(tables.all_languages(self._gateway.policies, await self._offered()))

    async def language(self, request: Request) -> Response:
        found = tables.language(
            self._gateway.policies, await self._offered(), request.path_params["id"]
        )
        return json(found) if found is not None else Response(status_code=404)

    async def statuses(self, request: Request) -> Response:
        return json([{"id": n, "description": text} for n, text in tables.STATUSES.items()])

    async def config(self, request: Request) -> Response:
        return json(tables.config(self._gateway.policies, self._gateway.settings))

    async def system(self, request: Request) -> Response:
        """The machine is not the client's business."""
        return json({"Architecture": "x86_64"})

    async def workers(self, request: Request) -> Response:
        stats = await self._gateway.queue.stats()
        nodes = await self._gateway.queue.nodes()
        room = sum(node.cpu_capacity // 1000 for node in nodes)
        working = min(stats.started, room)
        return json(
            [
                {
                    "queue": "default", "size": stats.queued, "available": room,
                    "idle": room - working, "working": working, "paused": 0, "failed": 0,
                }
            ]
        )  # fmt: skip

    async def statistics(self, request: Request) -> Response:
        """Of the tenant's submissions. Their ends and the database are not counted."""
        return json(await self._counts.statistics(request.scope["tenant"]))

    async def about(self, request: Request) -> Response:
        return json(
            {
                "version": tables.VERSION,
                "homepage": "https://github.com/judge0/judge0",
                "source_code": "https://github.com/judge0/judge0",
                "maintainer": "sandboxd",
            }
        )

    async def version(self, request: Request) -> Response:
        return PlainTextResponse(tables.VERSION)

    async def license(self, request: Request) -> Response:
        return PlainTextResponse("This service is sandboxd, under the Apache License 2.0.\n")

    async def isolate(self, request: Request) -> Response:
        return PlainTextResponse("The sandboxes are sandboxd's own.\n")

    async def authenticated(self, request: Request) -> Response:
        """Who came so far has a key, or needs none."""
        return Response(status_code=200)

    async def forbidden(self, request: Request) -> Response:
        """As Judge0 without an AUTHZ_TOKEN."""
        return Response(status_code=403)
