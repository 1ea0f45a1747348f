"""Judge0 CE 1.13.1: submissions one by one and in batches, languages, statuses, configuration."""

import asyncio
import uuid
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from sandboxd.errors import Overload, QueueFull, RequestError, SandboxdError
from sandboxd.gateway.adapters import judge0_tables as tables
from sandboxd.gateway.adapters.jobs import Bodies, json, submit_run
from sandboxd.gateway.adapters.judge0_words import (
    Attributes,
    Invalid,
    attributes,
    request_of,
    shown,
)
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import new_run_id, timestamp
from sandboxd.gateway.waiting import outcome
from sandboxd.model import Result, RunState

_NOTE = "judge0:"


def routes(gateway: Gateway) -> list[BaseRoute]:
    judge, about = Judge0(gateway), About(gateway)
    return [
        Route("/submissions", judge.create, methods=["POST"]),
        Route("/submissions", about.forbidden, methods=["GET"]),
        Route("/submissions/batch", judge.create_batch, methods=["POST"]),
        Route("/submissions/batch", judge.read_batch, methods=["GET"]),
        Route("/submissions/{token}", judge.read, methods=["GET"]),
        Route("/submissions/{token}", judge.delete, methods=["DELETE"]),
        Route("/languages", about.languages, methods=["GET"]),
        Route("/languages/all", about.all_languages, methods=["GET"]),
        Route("/languages/{id:int}", about.language, methods=["GET"]),
        Route("/statuses", about.statuses, methods=["GET"]),
        Route("/config_info", about.config, methods=["GET"]),
        Route("/system_info", about.system, methods=["GET"]),
        Route("/workers", about.workers, methods=["GET"]),
        Route("/statistics", about.statistics, methods=["GET"]),
        Route("/about", about.about, methods=["GET"]),
        Route("/version", about.version, methods=["GET"]),
        Route("/license", about.license, methods=["GET"]),
        Route("/isolate", about.isolate, methods=["GET"]),
        Route("/authenticate", about.authenticated, methods=["POST"]),
        Route("/authorize", about.forbidden, methods=["POST"]),
    ]


class Judge0:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._bodies = gateway, Bodies(gateway)
        self._decoder = msgspec.json.Decoder(Attributes)

    async def create(self, request: Request) -> Response:
        encoded, wait = _flag(request, "base64_encoded"), _flag(request, "wait")
        try:
            fields = tables.fields(request.query_params.get("fields"))
            body = await self._bodies.json(request)
            token, attrs = await self._submit(request.scope["tenant"], body, encoded, wait)
        except Invalid as error:
            return json(error.errors, 422)
        except tables.UnknownFields as error:
            return json({"error": f"invalid fields: [{error}]"}, 400)
        except QueueFull:
            return json({"error": "queue is full"}, 503)
        except (RequestError, Overload) as error:
            return json({"error": error.detail}, error.status)
        if not wait:
            return json({"token": token}, 201)
        result = await self._wait(request, attrs)
        return _answer(shown(token, attrs, result, None, encoded, fields), encoded, 201, token)

    async def _submit(
        self, tenant: str, body: object, encoded: bool, wait: bool
    ) -> tuple[str, Attributes]:
        """Raises Invalid, and what a submission raises."""
        attrs = attributes(body, encoded, self._gateway.policies)
        run_id = new_run_id()
        attrs = msgspec.structs.replace(attrs, run=run_id, created_at=timestamp())
        run = request_of(attrs, self._gateway.policies)
        try:
            await self._gateway.offers.check(run.language)
        except RequestError:
            what = f"language with id {attrs.language_id} doesn't exist"
            raise Invalid({"language_id": [what]}) from None
        token = str(uuid.uuid4())
        # Its result is kept from when it ends, the note from now: the note must not go first.
        ttl = self._gateway.settings.queue.result_ttl + self._gateway.settings.gateway.total_timeout
        note = msgspec.json.encode(attrs)
        await self._gateway.store.note(tenant, _NOTE + token, note, ttl)
        await submit_run(self._gateway, tenant, run, run_id=run_id)
        return token, attrs

    async def _wait(self, request: Request, attrs: Attributes) -> Result | None:
        """The result; None when the service will wait no longer, as when Judge0's worker is lost."""
        future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        with self._gateway.slots.take():
            follower = asyncio.create_task(self._follow(attrs.run, future))
            try:
                return await outcome(
                    future, request.receive, self._gateway.settings.gateway.total_timeout
                )
            finally:
                follower.cancel()

    async def _follow(self, run_id: str, future: asyncio.Future[Result | None]) -> None:
        after = "0"
        try:
            while not future.done():
                for event in await self._gateway.queue.events(run_id, after, block=15.0):
                    after = event.id
                found = await self._gateway.queue.record(run_id)
                if (found is None or found[1].result is not None) and not future.done():
                    future.set_result(found[1].result if found else None)
        except SandboxdError as error:
            if not future.done():
                future.set_exception(error)

    async def read(self, request: Request) -> Response:
        encoded = _flag(request, "base64_encoded")
        try:
            fields = tables.fields(request.query_params.get("fields"))
        except tables.UnknownFields as error:
            return json({"error": f"invalid fields: [{error}]"}, 400)
        token: str = request.path_params["token"]
        found = await self._look_up(request.scope["tenant"], token, encoded, fields)
        if found is None:
            return Response(status_code=404)
        return _answer(found, encoded, 200, None)

    async def _look_up(
        self, tenant: str, token: str, encoded: bool, fields: tuple[str, ...]
    ) -> dict[str, Any] | None:
        note = await self._gateway.store.noted(tenant, _NOTE + token[:64])
        if note is None:
            return None
        attrs = self._decoder.decode(note)
        record = await self._gateway.queue.record(attrs.run)
        if record is None:
            return None
        return shown(token, attrs, record[1].result, record[1].state, encoded, fields)

    async def delete(self, request: Request) -> Response:
        tenant, token = request.scope["tenant"], request.path_params["token"]
        note = await self._gateway.store.noted(tenant, _NOTE + token[:64])
        if note is None:
            return Response(status_code=404)
        attrs = self._decoder.decode(note)
        record = await self._gateway.queue.record(attrs.run)
        if record is not None and record[1].state is not RunState.FINISHED:
            status = tables.PROCESSING if record[1].state is RunState.STARTED else tables.IN_QUEUE
            error = f"submission cannot be deleted because its status is {status}"
            return json({"error": f"{error} ({tables.STATUSES[status]})"}, 400)
        result = record[1].result if record is not None else None
        body = shown(token, attrs, result, None, True, tables.fields(None))
        await self._gateway.store.forget_note(tenant, _NOTE + token)
        return json(body)

    async def create_batch(self, request: Request) -> Response:
        encoded = _flag(request, "base64_encoded")
        try:
            body = await self._bodies.json(request)
        except RequestError as error:
            return json({"error": error.detail}, error.status)
        given = body.get("submissions") if isinstance(body, dict) else None
        if not isinstance(given, list) or not given:
            return json({"error": "there should be at least one submission in a batch"}, 400)
        if len(given) > tables.BATCH_MAX:
            return json({"error": tables.BATCH_TOO_LARGE}, 400)
        answers: list[dict[str, Any]] = []
        for each in given:
            try:
                token, _ = await self._submit(request.scope["tenant"], each, encoded, False)
                answers.append({"token": token})
            except Invalid as error:
                answers.append(error.errors)
            except Overload:
                return json({"error": "queue is full"}, 503)
            except RequestError as error:
                answers.append({error.field or "base": [error.detail]})
        accepted = any("token" in answer for answer in answers)
        return json(answers, 201 if accepted else 422)

    async def read_batch(self, request: Request) -> Response:
        encoded = _flag(request, "base64_encoded")
        named = request.query_params.get("tokens") or request.headers.get("tokens") or ""
        tokens = [token.strip() for token in named.split(",") if token.strip()]
        if not tokens:
            return json({"error": "there should be at least one submission in a batch"}, 400)
        if len(tokens) > tables.BATCH_MAX:
            return json({"error": tables.BATCH_TOO_LARGE}, 400)
        try:
            fields = tables.fields(request.query_params.get("fields"))
        except tables.UnknownFields as error:
            return json({"error": f"invalid fields: [{error}]"}, 400)
        tenant = request.scope["tenant"]
        found = [await self._look_up(tenant, token, encoded, fields) for token in tokens]
        return _answer({"submissions": found}, encoded, 200, None)


class About:
    """What does not depend on a submission."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

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
        stats, now = await self._gateway.queue.stats(), timestamp()
        return json(
            {
                "created_at": now, "cached_until": now,
                "submissions": {"total": stats.submitted, "today": 0, "last_30_days": {}},
                "languages": [], "statuses": [],
                "database": {"size_pretty": "0 bytes", "size_in_bytes": 0},
            }
        )  # fmt: skip

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


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "false").lower() in ("true", "1", "t", "yes", "on")


def _answer(body: dict[str, Any], encoded: bool, status: int, token: str | None) -> Response:
    """JSON, or the error of Judge0 for output that is not UTF-8 and was not asked for as base64."""
    if not encoded and not tables.is_text(body):
        error = {"error": tables.NOT_TEXT, **({"token": token} if token else {})}
        return json(error, status if token else 400)
    return json(body, status)
