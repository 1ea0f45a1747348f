"""`POST /v1/runs`, `GET` and `DELETE /v1/runs/{id}`."""

import asyncio
import contextlib

import msgspec
from msgspec.structs import replace
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from sandboxd.errors import NotFound, Unavailable
from sandboxd.gateway import webhooks
from sandboxd.gateway.admission import admit
from sandboxd.gateway.bodies import Budget, decode, read_json
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.expanding import expanded
from sandboxd.gateway.ids import is_run_id, new_run_id, timestamp
from sandboxd.gateway.preferences import Preference, idempotency_key, preference
from sandboxd.gateway.waiting import ClientGone, outcome
from sandboxd.gateway.webhooks import COURIER
from sandboxd.model import Result, RunRecord, RunRequest, RunState
from sandboxd.queue import CancelOutcome

_JSON = "application/json"
_BODIES = 8
"""Bodies of the largest size that are read, admitted and submitted at once."""


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
        self._budget = Budget(_BODIES * gateway.settings.gateway.max_body)

    async def create(self, request: Request) -> Response:
        wanted = preference(request.headers)
        key = idempotency_key(request.headers)
        waits = wanted.wait if wanted.wait is not None else not wanted.respond_async
        if waits:
            return await self._wait(request, key, wanted)
        submitted = await self._submit(request, new_run_id(), key, reply_to=None)
        return await self._accepted(submitted, wanted, recheck=key is not None)

    async def _submit(
        self, request: Request, run_id: str, key: str | None, reply_to: str | None
    ) -> RunRecord:
        """Read, admit and submit. A record of the new run, or of the key's earlier one.

        When this returns, nothing of the body is held any more; a wait may be long.
        """
        settings = self._gateway.settings.gateway
        created_at = timestamp()
        with self._budget.share() as share:
            body = await read_json(request, share, settings.max_body, settings.body_timeout)
            tenant = request.scope["tenant"]
            wanted, pool, node = await expanded(self._gateway, tenant, decode(self._decoder, body))
            job = admit(
                replace(wanted, callback=None),
                self._gateway.policies,
                tenant=tenant,
                pool=pool,
                node=node,
                run_id=run_id,
                created_at=created_at,
                reply_to=reply_to or (COURIER if wanted.callback is not None else None),
            )
            await self._gateway.offers.check(job.request.language)
            accepted = await webhooks.submit(self._gateway, job, wanted.callback, key)
        return RunRecord(id=accepted, state=RunState.QUEUED, created_at=created_at)

    async def one(self, request: Request) -> Response:
        """The run's record; after a DELETE, 202 says that its node is still ending it."""
        record = await owned_record(self._gateway, request)
        if request.method != "DELETE":
            return self._json(record)
        if await self._gateway.queue.cancel(record.id) is not CancelOutcome.FINISHED:
            record = await owned_record(self._gateway, request)
        over = record.state is RunState.FINISHED
        return self._json(record, 200 if over else 202)

    async def _wait(self, request: Request, key: str | None, wanted: Preference) -> Response:
        """Answer with the result, or with 202 when the wait is over."""
        gateway = self._gateway
        timeout = gateway.settings.gateway.total_timeout
        if wanted.wait is not None:
            timeout = min(timeout, float(wanted.wait))
        run_id = new_run_id()
        with gateway.slots.take(), gateway.replies.expect(run_id) as waiter:
            submitted = await self._submit(request, run_id, key, reply_to=gateway.id)
            waiter.accepted = submitted.id == run_id
            # Of a repeated request somebody else awaits the reply; its events tell everybody.
            follower = None if waiter.accepted else self._follow(submitted.id, waiter.future)
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
            return await self._accepted(submitted, wanted, recheck=True)
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

    async def _accepted(self, record: RunRecord, wanted: Preference, *, recheck: bool) -> Response:
        """202, with the record as it stands: it may be an earlier run's, or have got on."""
        found = await self._gateway.queue.record(record.id) if recheck else None
        return self._json(
            found[1] if found else record,
            202,
            {"location": f"/v1/runs/{record.id}"} | (_applied(wanted) or {}),
        )

    def _json(
        self, body: Result | RunRecord, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        return Response(self._encoder.encode(body), status, headers, _JSON)


def _applied(wanted: Preference) -> dict[str, str] | None:
    return {"preference-applied": wanted.applied} if wanted.applied else None
