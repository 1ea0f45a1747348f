"""Judge0 CE 1.13.1: submissions one by one and in batches, languages, statuses, configuration."""

import asyncio
import uuid
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sandboxd.errors import InvalidRequest, Overload, QueueFull, RequestError, SandboxdError
from sandboxd.gateway import webhooks
from sandboxd.gateway.adapters import judge0_tables as tables
from sandboxd.gateway.adapters.jobs import Bodies, json, submit_judged, submit_run
from sandboxd.gateway.adapters.judge0_about import About
from sandboxd.gateway.adapters.judge0_counts import Counts
from sandboxd.gateway.adapters.judge0_endings import Ending, Endings
from sandboxd.gateway.adapters.judge0_runs import averaged, repeated, request_of
from sandboxd.gateway.adapters.judge0_words import Attributes, Invalid, attributes, shown
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import new_run_id, timestamp
from sandboxd.gateway.waiting import outcome
from sandboxd.gateway.webhooks import COURIER, Judge0Callback
from sandboxd.model import Result, RunRequest, RunState
from sandboxd.model.callback import Callback

NOTE = "judge0:"
"""Before the token in the name of a submission's note."""


def routes(gateway: Gateway) -> list[BaseRoute]:
    counts = Counts(gateway.store)
    judge, about = Judge0(gateway, counts), About(gateway, counts)
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
    def __init__(self, gateway: Gateway, counts: Counts) -> None:
        self._gateway, self._bodies, self._counts = gateway, Bodies(gateway), counts
        self._endings = Endings(gateway, counts)
        self._decoder = msgspec.json.Decoder(Attributes)

    async def create(self, request: Request) -> Response:
        encoded, wait = _flag(request, "base64_encoded"), _flag(request, "wait")
        try:
            fields = tables.fields(request.query_params.get("fields"))
            body = await self._bodies.json(request)
            token, attrs, ending = await self._submit(request.scope["tenant"], body, encoded)
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
        result = await self._wait(request, attrs, ending)
        return _answer(shown(token, attrs, result, None, encoded, fields), encoded, 201, token)

    async def _submit(
        self, tenant: str, body: object, encoded: bool
    ) -> tuple[str, Attributes, Ending | None]:
        """Raises Invalid, and what a submission raises. Who is called back hears of the end there."""
        gateway = self._gateway
        attrs = attributes(body, encoded, gateway.policies)
        attrs = msgspec.structs.replace(attrs, run=new_run_id(), created_at=timestamp())
        run = request_of(attrs, gateway.policies)
        try:
            await gateway.offers.check(run.language)
        except RequestError:
            what = f"language with id {attrs.language_id} doesn't exist"
            raise Invalid({"language_id": [what]}) from None
        token = str(uuid.uuid4())
        # Its result is kept from when it ends, the note from now: the note must not go first.
        ttl = gateway.settings.queue.result_ttl + gateway.settings.gateway.total_timeout
        await gateway.store.note(tenant, NOTE + token, msgspec.json.encode(attrs), ttl)
        submit = partial(self._queue, tenant, attrs, run)
        ending = None
        if attrs.callback_url is None:
            ending = await self._endings.expect(tenant, NOTE + token, attrs.run, submit)
        else:
            await self._expect_callback(tenant, token, attrs, attrs.callback_url)
            await submit(COURIER)
        await self._counts.submitted(tenant, attrs.language_id)
        return token, attrs, ending

    async def _queue(self, tenant: str, attrs: Attributes, run: RunRequest, reply_to: str) -> str:
        if attrs.number_of_runs == 1:
            return await submit_run(self._gateway, tenant, run, reply_to, attrs.run)
        asked = repeated(attrs, run)
        return await submit_judged(self._gateway, tenant, asked, reply_to, attrs.run)

    async def _expect_callback(self, tenant: str, token: str, attrs: Attributes, url: str) -> None:
        """Raises Invalid for an address that nothing is delivered to."""
        callback = Callback(url=url)
        try:
            webhooks.check(self._gateway, callback)
        except InvalidRequest as error:
            raise Invalid({"callback_url": [error.detail]}) from None
        judge0 = Judge0Callback(token=token, note=NOTE + token)
        await webhooks.expect(self._gateway, attrs.run, tenant, callback, judge0)

    async def _wait(
        self, request: Request, attrs: Attributes, ending: Ending | None
    ) -> Result | None:
        """The result; None when the service will wait no longer, as when Judge0's worker is lost."""
        future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()

        def ended(ending: Ending) -> None:
            if not future.done():
                future.set_result(None if ending.cancelled() else ending.result())

        with self._gateway.slots.take():
            if ending is not None:
                ending.add_done_callback(ended)
                return await outcome(
                    future, request.receive, self._gateway.settings.gateway.total_timeout
                )
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
                result = found[1].result if found is not None else None
                if (found is None or result is not None) and not future.done():
                    future.set_result(averaged(result) if result is not None else None)
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
        note = await self._gateway.store.noted(tenant, NOTE + token[:64])
        if note is None:
            return None
        attrs = self._decoder.decode(note)
        record = await self._gateway.queue.record(attrs.run)
        if record is None:
            return None
        result = averaged(record[1].result) if record[1].result is not None else None
        return shown(token, attrs, result, record[1].state, encoded, fields)

    async def delete(self, request: Request) -> Response:
        tenant, token = request.scope["tenant"], request.path_params["token"]
        note = await self._gateway.store.noted(tenant, NOTE + token[:64])
        if note is None:
            return Response(status_code=404)
        attrs = self._decoder.decode(note)
        record = await self._gateway.queue.record(attrs.run)
        if record is not None and record[1].state is not RunState.FINISHED:
            status = tables.PROCESSING if record[1].state is RunState.STARTED else tables.IN_QUEUE
            error = f"submission cannot be deleted because its status is {status}"
            return json({"error": f"{error} ({tables.STATUSES[status]})"}, 400)
        result = record[1].result if record is not None else None
        result = averaged(result) if result is not None else None
        body = shown(token, attrs, result, None, True, tables.fields(None))
        await self._gateway.store.forget_note(tenant, NOTE + token)
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
        waiting = (await self._gateway.queue.stats()).queued
        if waiting + len(given) > self._gateway.settings.queue.max_length:
            return json({"error": "queue is full"}, 503)
        answers: list[dict[str, Any]] = []
        for each in given:
            try:
                token, _, _ = await self._submit(request.scope["tenant"], each, encoded)
                answers.append({"token": token})
            except Invalid as error:
                answers.append(error.errors)
            except Overload:
                # What came before has its token; who asks again for the rest loses nothing.
                answers.append({"error": ["queue is full"]})
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


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "false").lower() in ("true", "1", "t", "yes", "on")


def _answer(body: dict[str, Any], encoded: bool, status: int, token: str | None) -> Response:
    """JSON, or the error of Judge0 for output that is not UTF-8 and was not asked for as base64."""
    if not encoded and not tables.is_text(body):
        error = {"error": tables.NOT_TEXT, **({"token": token} if token else {})}
        return json(error, status if token else 400)
    return json(body, status)
