"""`/v1/sandboxes`: the life of a sandbox, from its creation to its end."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.api.sandbox_requests import Bodies, answer, known_query, moment, number, who
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.preferences import idempotency_key
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.names import new_sandbox_id
from sandboxd.gateway.sessions.opening import opened
from sandboxd.model import agent
from sandboxd.model.session import Metrics, Sandbox, SandboxRequest, SandboxState
from sandboxd.model.session_api import (
    ExtendRequest,
    ForkRequest,
    SandboxList,
    SandboxUpdate,
    SnapshotRequest,
)
from sandboxd.model.session_metrics import MetricsHistory

_COPYING = 600.0
"""Seconds that a snapshot or fork of a large file system may take."""
_PAGE = 50
_PAGE_MAX = 200
_METADATA = "metadata."


class Sandboxes:
    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway, self._bodies = gateway, bodies
        self._sandboxes = gateway.sandboxes

    async def create(self, request: Request) -> Response:
        """201 with a new one; 200 with the one that the key has, or an earlier request made."""
        key = idempotency_key(request.headers)
        wanted = await self._bodies.large(request, SandboxRequest)
        made, new = await opened(self._gateway, request.scope["tenant"], wanted, key)
        return answer(made, 201 if new else 200, {"location": f"/v1/sandboxes/{made.id}"})

    async def list(self, request: Request) -> Response:
        """`state`, `limit`, `cursor`, and `metadata.NAME` for each pair that must be there."""
        query = request.query_params
        metadata = {}
        for name, value in query.multi_items():
            if name.startswith(_METADATA):
                metadata[name.removeprefix(_METADATA)] = value
            elif name not in ("state", "limit", "cursor"):
                raise InvalidRequest(f"there is no parameter {name!r}", field=name)
        page = await self._sandboxes.directory.page(
            request.scope["tenant"],
            state=_state(query.get("state")),
            metadata=metadata,
            limit=number(query, "limit", _PAGE, 1, _PAGE_MAX) or _PAGE,
            cursor=query.get("cursor"),
        )
        return answer(SandboxList(sandboxes=page.sandboxes, next_cursor=page.next_cursor))

    async def one(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        if request.method == "DELETE":
            return await self._kill(tenant, sandbox)
        if request.method == "PATCH":
            return await self._update(request, tenant, sandbox)
        return answer((await self._sandboxes.entry(tenant, sandbox)).sandbox)

    async def _kill(self, tenant: str, sandbox: str) -> Response:
        """200 with the record of its end, also of one that ended before."""
        entry = await self._sandboxes.entry(tenant, sandbox)
        if entry.sandbox.state is SandboxState.ENDED:
            return answer(entry.sandbox)
        ended = await self._sandboxes.ask(agent.Kill(tenant=tenant, sandbox=sandbox), Sandbox)
        return answer(ended)

    async def _update(self, request: Request, tenant: str, sandbox: str) -> Response:
        wanted = await self._bodies.large(request, SandboxUpdate)
        cpus = max((room[0] / 1000 for room in await self._gateway.offers.room()), default=0.0)
        if wanted.limits is not None:
            admission.check_limits(wanted.limits, self._gateway.policies, cpus)
        admission.check_network(wanted.network, self._gateway.policies, tenant)
        call = agent.Update(
            tenant=tenant, sandbox=sandbox, **{
                name: value for name, value in msgspec.structs.asdict(wanted).items()
                if value is not None
            },
        )  # fmt: skip
        return answer(await self._sandboxes.ask(call, Sandbox))

    async def extend(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        wanted = await self._bodies.small(request, ExtendRequest)
        admission.check_lifetime(wanted.timeout, self._gateway.settings.sessions)
        call = agent.Extend(tenant=tenant, sandbox=sandbox, timeout=wanted.timeout)
        return answer(await self._sandboxes.ask(call, Sandbox))

    async def pause(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        call = agent.Pause(tenant=tenant, sandbox=sandbox)
        return answer(await self._sandboxes.ask(call, Sandbox))

    async def resume(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        call = agent.Resume(tenant=tenant, sandbox=sandbox)
        return answer(await self._sandboxes.ask(call, Sandbox))

    async def snapshot(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        wanted = await self._bodies.small(request, SnapshotRequest)
        call = agent.Snapshot(tenant=tenant, sandbox=sandbox, name=wanted.name)
        return answer(await self._sandboxes.ask(call, agent.Snapshotted, _COPYING), 201)

    async def fork(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        wanted = await self._bodies.small(request, ForkRequest)
        children = [new_sandbox_id() for _ in range(wanted.count)]
        call = agent.Fork(tenant=tenant, sandbox=sandbox, children=children)
        return answer(await self._sandboxes.ask(call, agent.Forked, _COPYING), 201)

    async def metrics(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        call = agent.Metrics(tenant=tenant, sandbox=sandbox)
        return answer(await self._sandboxes.ask(call, Metrics))

    async def history(self, request: Request) -> Response:
        """What it has used over time, later than `after`."""
        tenant, sandbox = who(request)
        known_query(request.query_params, "after")
        after = moment(request.query_params, "after")
        call = agent.History(tenant=tenant, sandbox=sandbox, after=after or 0.0)
        return answer(await self._sandboxes.ask(call, MetricsHistory))


def _state(word: str | None) -> SandboxState | None:
    if word is None:
        return None
    try:
        return SandboxState(word)
    except ValueError:
        raise InvalidRequest("is running, paused or ended", field="state") from None
