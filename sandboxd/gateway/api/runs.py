"""`POST /v1/runs`, `GET` and `DELETE /v1/runs/{id}`."""

import asyncio
import contextlib

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from sandboxd.errors import NotFound, Unavailable
from sandboxd.gateway.admission import admit
from sandboxd.gateway.bodies import decode, read_json
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import is_run_id, new_run_id, timestamp
from sandboxd.gateway.preferences import Preference, idempotency_key, preference
from sandboxd.gateway.waiting import ClientGone, outcome
from sandboxd.model import Job, Result, RunRecord, RunRequest, RunState
from sandboxd.queue import CancelOutcome

_JSON = "application/json"


async def owned_record(gateway: Gateway, connection: HTTPConnection) -> RunRecord:
    """The record of the run in the path. Raises NotFound, for other tenants' runs too."""
    run_id: str = connection.path_params["id"]
    found = await gateway.queue.record(run_id) if is_run_id(run_id) else None
    if found is None or found[0] != connection.scope["tenant"]:
        raise NotFound("there is no such run, or its result has expired")
    return found[1]


class Runs:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._decoder = msgspec.json.Decoder(RunRequest)
        self._encoder = msgspec.json.Encoder()

    async def create(self, request: Request) -> Response:
        settings = self._gateway.settings.gateway
        wanted = preference(request.headers)
        key = idempotency_key(request.headers)
        body = await read_json(request, settings.max_body, settings.body_timeout)
        waits = wanted.wait if wanted.wait is not None else not wanted.respond_async
        job = admit(
            decode(self._decoder, body),
            self._gateway.policies,
            tenant=request.scope["tenant"],
            run_id=new_run_id(),
            created_at=timestamp(),
            reply_to=self._gateway.id if waits else None,
        )
        if waits:
            return await self._wait(request, job, key, wanted)
        run_id = await self._gateway.queue.submit(job, idempotency_key=key)
        return await self._accepted(job, run_id, wanted)

    async def one(self, request: Request) -> Response:
        """The run's record; after a DELETE, 202 says that its node is still ending it."""
        record = await owned_record(self._gateway, request)
        if request.method != "DELETE":
            return self._json(record)
        if await self._gateway.queue.cancel(record.id) is not CancelOutcome.FINISHED:
            record = await owned_record(self._gateway, request)
        over = record.state is RunState.FINISHED
        return self._json(record, 200 if over else 202)

    async def _wait(
        self, request: Request, job: Job, key: str | None, wanted: Preference
    ) -> Response:
        """Submit `job` and answer with its result, or with 202 when the wait is over."""
        gateway = self._gateway
        timeout = gateway.settings.gateway.total_timeout
        if wanted.wait is not None:
            timeout = min(timeout, float(wanted.wait))
        with gateway.slots.take(), gateway.replies.expect(job.id) as waiter:
            run_id = await gateway.queue.submit(job, idempotency_key=key)
            waiter.accepted = run_id == job.id
            # Of a repeated request somebody else awaits the reply; its events tell everybody.
            follower = None if waiter.accepted else self._follow(run_id, waiter.future)
            try:
                result = await outcome(waiter.future, request.receive, timeout)
            except (ClientGone, Unavailable):
                if key is None and not wanted.respond_async:
                    await self._abandon(run_id)
                raise
            finally:
                if follower is not None:
                    follower.cancel()
        if result is None:
            return await self._accepted(job, run_id, wanted)
        return self._json(result, headers=_applied(wanted))

    def _follow(
        self, run_id: str, future: asyncio.Future[Result | None]
    ) -> asyncio.Task[Result | None]:
        def settle(task: asyncio.Task[Result | None]) -> None:
            if task.cancelled() or future.done():
                return
            error = task.exception()
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        follower = asyncio.create_task(self._finished(run_id))
        follower.add_done_callback(settle)
        return follower

    async def _finished(self, run_id: str) -> Result | None:
        after = "0"
        while True:
            for event in await self._gateway.queue.events(run_id, after, block=15.0):
                after = event.id
            found = await self._gateway.queue.record(run_id)
            if found is None:
                raise Unavailable("the result of the earlier request has expired")
            if found[1].result is not None:
                return found[1].result

    async def _abandon(self, run_id: str) -> None:
        """Nobody can ask for this run any more. If the queue is away, its limits end it."""
        with contextlib.suppress(Unavailable):
            await self._gateway.queue.cancel(run_id)

    async def _accepted(self, job: Job, run_id: str, wanted: Preference) -> Response:
        """202, with the record as it stands."""
        record = RunRecord(id=run_id, state=RunState.QUEUED, created_at=job.created_at)
        if run_id != job.id or job.reply_to is not None:
            found = await self._gateway.queue.record(run_id)
            if found is not None:
                record = found[1]
        return self._json(
            record, 202, {"location": f"/v1/runs/{run_id}"} | (_applied(wanted) or {})
        )

    def _json(
        self, body: Result | RunRecord, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        return Response(self._encoder.encode(body), status, headers, _JSON)


def _applied(wanted: Preference) -> dict[str, str] | None:
    return {"preference-applied": wanted.applied} if wanted.applied else None
