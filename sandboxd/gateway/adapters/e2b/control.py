"""E2B's control plane: the life of sandboxes."""

import asyncio
import time
from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxd.errors import Conflict, NotFound, SandboxdError, SandboxEnded
from sandboxd.gateway.adapters.e2b import metrics, words
from sandboxd.gateway.adapters.e2b.bodies import Bodies, answer, nothing, number
from sandboxd.gateway.adapters.e2b.errors import NotOffered
from sandboxd.gateway.adapters.e2b.identity import access_token, meant
from sandboxd.gateway.adapters.e2b.images import Images
from sandboxd.gateway.adapters.e2b.signatures import Issued
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import names
from sandboxd.gateway.preferences import idempotency_key
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.names import new_sandbox_id
from sandboxd.gateway.sessions.opening import opened
from sandboxd.model import agent
from sandboxd.model.session import Sandbox, SandboxState

_ONE = "/sandboxes/{id}"
_MANY = 100
"""Sandboxes of one question for metrics."""
COPYING = 600.0
"""Seconds that a snapshot or fork of a large file system may take."""
_V1_TIMEOUT, _V2_TIMEOUT = 15.0, 300.0


class Control:
    def __init__(self, gateway: Gateway, bodies: Bodies, images: Images, issued: Issued) -> None:
        self._gateway, self._bodies, self._images = gateway, bodies, images
        self._issued = issued
        self._sandboxes = gateway.sandboxes

    def routes(self) -> list[Route]:
        return [
            Route("/sandboxes", self.create_v1, methods=["POST"]),
            Route("/v2/sandboxes", self.create, methods=["POST"]),
            Route("/sandboxes/metrics", self.metrics_of_many, methods=["GET"]),
            Route(_ONE, self.one, methods=["GET"]),
            Route(_ONE, self.kill, methods=["DELETE"]),
            Route(f"{_ONE}/connect", self.connect, methods=["POST"]),
            Route(f"/v2{_ONE}/connect", self.connect, methods=["POST"]),
            Route(f"{_ONE}/resume", self.connect, methods=["POST"]),
            Route(f"{_ONE}/timeout", self.timeout, methods=["POST"]),
            Route(f"{_ONE}/refreshes", self.refresh, methods=["POST"]),
            Route(f"{_ONE}/pause", self.pause, methods=["POST"]),
            Route(f"{_ONE}/fork", self.fork, methods=["POST"]),
            Route(f"{_ONE}/network", self.network, methods=["PUT"]),
            Route(f"{_ONE}/metrics", self.metrics, methods=["GET"]),
        ]

    async def create_v1(self, request: Request) -> Response:
        """As clients before 2.46 ask: they say that they want the internet when nobody has said so."""
        wanted = await self._bodies.json(request, words.NewSandbox)
        if wanted.allow_internet_access and wanted.network is None:
            wanted = replace(wanted, allow_internet_access=None)
        return await self._create(request, wanted, _V1_TIMEOUT)

    async def create(self, request: Request) -> Response:
        wanted = await self._bodies.json(request, words.NewSandbox)
        return await self._create(request, wanted, _V2_TIMEOUT)

    async def _create(self, request: Request, wanted: words.NewSandbox, default: float) -> Response:
        tenant = _tenant(request)
        if wanted.auto_pause_memory is False:
            raise NotOffered(
                "a paused sandbox keeps its memory: to keep files alone is not offered"
            )
        image = await self._images.meant(tenant, wanted.template_id)
        network = self._network(
            tenant, words.internet(wanted.allow_internet_access, wanted.network)
        )
        asked = words.request(wanted, image, network, default)
        key = idempotency_key(request.headers)
        made, _ = await opened(self._gateway, tenant, asked, key and f"e2b:{key}")
        if made.state is SandboxState.ENDED:
            raise Conflict("the sandbox of this idempotency key has ended")
        return answer(await self._opened(tenant, made), 201)

    def _network(self, tenant: str, internet: bool | None) -> str:
        """The policy for a sandbox that shall reach the internet, or need not. Raises NotOffered."""
        name = self._gateway.settings.adapters.e2b_network
        policy = self._gateway.policies.egress.get(name)
        there = policy is not None and policy.permits(tenant)
        if internet and not there:
            raise NotOffered("this service gives your sandboxes no internet access")
        return name if there and internet is not False else "none"

    async def _opened(self, tenant: str, sandbox: Sandbox) -> dict[str, Any]:
        token = await self._token(tenant, sandbox.id)
        return words.opened(sandbox, token, self._domain)

    async def _token(self, tenant: str, sandbox: str) -> str:
        token = await access_token(self._gateway, tenant, sandbox)
        self._issued.add(tenant, sandbox, token)
        return token

    @property
    def _domain(self) -> str | None:
        """Below which ports of sandboxes have names; None where they have none."""
        found = names.site(self._gateway.settings.gateway.ports_url)
        return None if found is None else found.domain

    async def one(self, request: Request) -> Response:
        tenant, sandbox = _who(request)
        found = await self._present(tenant, sandbox)
        token = await self._token(tenant, sandbox)
        return answer(words.detail(found, token, self._domain))

    async def kill(self, request: Request) -> Response:
        tenant, sandbox = _who(request)
        await self._present(tenant, sandbox)
        await self._sandboxes.ask(agent.Kill(tenant=tenant, sandbox=sandbox), Sandbox)
        return nothing()

    async def connect(self, request: Request) -> Response:
        """200 with one that runs, 201 with one that was woken. A time to live is never shortened."""
        tenant, sandbox = _who(request)
        wanted = await self._bodies.json(request, words.Connect)
        found = await self._present(tenant, sandbox)
        woken = found.state is SandboxState.PAUSED
        if woken:
            if wanted.memory is False:
                raise NotOffered("a paused sandbox is resumed as it was: a reboot is not offered")
            call = agent.Resume(tenant=tenant, sandbox=sandbox)
            found = await self._sandboxes.ask(call, Sandbox)
        timeout = wanted.timeout or (_V2_TIMEOUT if woken else 0)
        if timeout and time.time() + timeout > words.moment(found.expires_at):
            found = await self._extend(tenant, sandbox, timeout)
        return answer(await self._opened(tenant, found), 201 if woken else 200)

    async def _present(self, tenant: str, sandbox: str) -> Sandbox:
        """As its node knows it now: its end is in the directory a moment later. Raises NotFound,
        SandboxEnded."""
        found = await self._sandboxes.ask(agent.Get(tenant=tenant, sandbox=sandbox), Sandbox)
        if found.state is SandboxState.ENDED:
            raise SandboxEnded("the sandbox has ended")
        return found

    async def _extend(self, tenant: str, sandbox: str, timeout: float) -> Sandbox:
        admission.check_lifetime(timeout, self._gateway.settings.sessions)
        call = agent.Extend(tenant=tenant, sandbox=sandbox, timeout=timeout)
        return await self._sandboxes.ask(call, Sandbox)

    async def timeout(self, request: Request) -> Response:
        tenant, sandbox = _who(request)
        wanted = await self._bodies.json(request, words.Timeout)
        await self._extend(tenant, sandbox, wanted.timeout or _V1_TIMEOUT)
        return nothing()

    async def refresh(self, request: Request) -> Response:
        """The older way of keeping one alive: `duration` in seconds."""
        tenant, sandbox = _who(request)
        wanted = await self._bodies.json(request, dict[str, float])
        duration = wanted.get("duration", _V1_TIMEOUT)
        found = await self._present(tenant, sandbox)
        if time.time() + duration > words.moment(found.expires_at):
            await self._extend(tenant, sandbox, duration)
        return nothing()

    async def pause(self, request: Request) -> Response:
        """409 for one that is paused already."""
        tenant, sandbox = _who(request)
        wanted = await self._bodies.json(request, words.Pause)
        if wanted.memory is False:
            raise NotOffered(
                "a paused sandbox keeps its memory: to keep files alone is not offered"
            )
        found = await self._present(tenant, sandbox)
        if found.state is SandboxState.PAUSED:
            raise Conflict("the sandbox is paused already")
        if found.on_timeout == "kill":
            # As theirs, a paused sandbox waits for whoever comes back to it.
            update = agent.Update(tenant=tenant, sandbox=sandbox, on_timeout="pause")
            await self._sandboxes.ask(update, Sandbox)
        await self._sandboxes.ask(agent.Pause(tenant=tenant, sandbox=sandbox), Sandbox)
        return nothing()

    async def fork(self, request: Request) -> Response:
        """Of the files: the children's processes start anew."""
        tenant, sandbox = _who(request)
        wanted = await self._bodies.json(request, words.Fork)
        children = [new_sandbox_id() for _ in range(wanted.count)]
        call = agent.Fork(tenant=tenant, sandbox=sandbox, children=children)
        forked = await self._sandboxes.ask(call, agent.Forked, COPYING)
        results = []
        for child in forked.sandboxes:
            try:
                if wanted.timeout is not None:
                    child = await self._extend(tenant, child.id, wanted.timeout)
                results.append({"sandbox": await self._opened(tenant, child)})
            except SandboxdError as error:
                results.append({"error": {"code": error.status, "message": error.detail}})
        return answer(results, 201)

    async def network(self, request: Request) -> Response:
        tenant, sandbox = _who(request)
        wanted = await self._bodies.json(request, words.Network)
        name = self._network(tenant, words.internet(None, wanted))
        found = await self._present(tenant, sandbox)
        if found.network != name:
            call = agent.Update(tenant=tenant, sandbox=sandbox, network=name)
            await self._sandboxes.ask(call, Sandbox)
        return nothing()

    async def metrics(self, request: Request) -> Response:
        """What it has used between `start` and `end`, and what it uses now if that lies there too."""
        tenant, sandbox = _who(request)
        query = request.query_params
        now = time.time()
        start = number(query.get("start"), 0, "start")
        end = number(query.get("end"), int(now) + 1, "end")
        await self._present(tenant, sandbox)
        found = await metrics.history(self._gateway, tenant, sandbox, start, end)
        if start <= now <= end + 1:
            found.append(await metrics.sample(self._gateway, tenant, sandbox))
        return answer(found)

    async def metrics_of_many(self, request: Request) -> Response:
        tenant = _tenant(request)
        names = request.query_params.get("sandbox_ids", "").split(",")[:_MANY]

        async def one(name: str) -> tuple[str, dict[str, Any] | None]:
            try:
                return name, await metrics.sample(self._gateway, tenant, meant(name))
            except (NotFound, SandboxEnded):
                return name, None

        found = await asyncio.gather(*(one(name) for name in names if name))
        return answer({"sandboxes": {name: each for name, each in found if each is not None}})


def _tenant(request: Request) -> str:
    found: str = request.scope["tenant"]
    return found


def _who(request: Request) -> tuple[str, str]:
    """Raises NotFound."""
    return _tenant(request), meant(request.path_params["id"])
