"""`POST /v1/submissions`, `GET` and `DELETE /v1/submissions/{id}`."""

import asyncio
import contextlib

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from sandboxd.errors import InvalidRequest, NotFound, Unavailable
from sandboxd.gateway import webhooks
from sandboxd.gateway.bodies import Budget, decode, read_json
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import is_problem_id, is_submission_id, new_submission_id, timestamp
from sandboxd.gateway.judging import admit_submission, references
from sandboxd.gateway.preferences import Preference, idempotency_key, preference
from sandboxd.gateway.waiting import ClientGone, outcome
from sandboxd.gateway.webhooks import COURIER
from sandboxd.judge.answers import judged
from sandboxd.model import RunRecord, RunState
from sandboxd.model.judged import SubmissionRecord, SubmissionResult
from sandboxd.model.problem import JudgeProblem
from sandboxd.model.submission import Program, SubmissionRequest
from sandboxd.queue import CancelOutcome

_JSON = "application/json"
_BODIES = 8
_FOLLOW = 15.0


async def owned_submission(gateway: Gateway, connection: HTTPConnection) -> RunRecord:
    """The record of the job in the path. Raises NotFound, for other tenants' submissions too."""
    submission_id: str = connection.path_params["id"]
    known = is_submission_id(submission_id)
    found = await gateway.queue.record(submission_id) if known else None
    if found is None or found[0] != connection.scope["tenant"]:
        raise NotFound("there is no such submission, or its result has expired")
    return found[1]


def judged_record(record: RunRecord) -> SubmissionRecord:
    return SubmissionRecord(
        id=record.id,
        state=record.state,
        created_at=record.created_at,
        node=record.node,
        attempt=record.attempt,
        result=judged(record.result) if record.result is not None else None,
    )


class Submissions:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._decoder = msgspec.json.Decoder(SubmissionRequest)
        self._budget = Budget(_BODIES * gateway.settings.gateway.max_body)

    async def create(self, request: Request) -> Response:
        wanted = preference(request.headers)
        key = idempotency_key(request.headers)
        waits = wanted.wait if wanted.wait is not None else not wanted.respond_async
        gateway = self._gateway
        if not waits:
            record = await self._submit(request, new_submission_id(), key, reply_to=None)
            return await self._accepted(record, wanted)
        timeout = gateway.settings.gateway.total_timeout
        if wanted.wait is not None:
            timeout = min(timeout, float(wanted.wait))
        submission_id = new_submission_id()
        with gateway.slots.take(), gateway.replies.expect(submission_id) as waiter:
            record = await self._submit(request, submission_id, key, reply_to=gateway.id)
            if record.id != submission_id:
                return await self._accepted(record, wanted)
            waiter.accepted = True
            try:
                result = await outcome(waiter.future, request.receive, timeout)
            except (ClientGone, Unavailable):
                if key is None and not wanted.respond_async:
                    with contextlib.suppress(Unavailable):
                        await gateway.queue.cancel(submission_id)
                raise
        if result is None:
            return await self._accepted(record, wanted)
        return _json(judged(result), headers=_applied(wanted))

    async def _submit(
        self, request: Request, submission_id: str, key: str | None, reply_to: str | None
    ) -> RunRecord:
        """Read, admit and submit. A record of the new submission, or of the key's earlier one."""
        settings = self._gateway.settings.gateway
        with self._budget.share() as share:
            body = await read_json(request, share, settings.max_body, settings.body_timeout)
            asked = decode(self._decoder, body)
            return await submit(
                self._gateway,
                asked,
                tenant=request.scope["tenant"],
                submission_id=submission_id,
                key=key,
                reply_to=reply_to,
            )

    async def one(self, request: Request) -> Response:
        """The submission's record; after a DELETE, 202 says that its node is still ending it."""
        record = await owned_submission(self._gateway, request)
        if request.method != "DELETE":
            return _json(judged_record(record))
        if await self._gateway.queue.cancel(record.id) is not CancelOutcome.FINISHED:
            record = await owned_submission(self._gateway, request)
        over = record.state is RunState.FINISHED
        return _json(judged_record(record), 200 if over else 202)

    async def _accepted(self, record: RunRecord, wanted: Preference) -> Response:
        """202, with the record as it stands: it may be an earlier one's, or have got on."""
        found = await self._gateway.queue.record(record.id)
        return _json(
            judged_record(found[1] if found else record),
            202,
            {"location": f"/v1/submissions/{record.id}"} | (_applied(wanted) or {}),
        )


async def submit(
    gateway: Gateway,
    asked: SubmissionRequest,
    *,
    tenant: str,
    submission_id: str,
    key: str | None = None,
    reply_to: str | None = None,
) -> RunRecord:
    """Admit and queue a submission. Raises InvalidRequest, NotFound, Overload."""
    problem = await stored_problem(gateway, tenant, asked.problem)
    created_at = timestamp()
    job = await asyncio.to_thread(
        admit_submission,
        asked,
        problem,
        gateway.policies,
        gateway.settings.judge,
        room=await gateway.offers.room(),
        tenant=tenant,
        submission_id=submission_id,
        created_at=created_at,
        reply_to=reply_to or (COURIER if asked.callback is not None else None),
    )
    await gateway.offers.check(job.request.language)
    assert job.submission is not None
    for tool in (job.submission.checker, job.submission.interactor):
        if isinstance(tool, Program):
            await gateway.offers.check(tool.language)
    await _check_references(gateway, tenant, asked)
    accepted = await webhooks.submit(gateway, job, asked.callback, key)
    return RunRecord(id=accepted, state=RunState.QUEUED, created_at=created_at)


async def stored_problem(
    gateway: Gateway, tenant: str, problem_id: str | None
) -> JudgeProblem | None:
    """Raises InvalidRequest if there is none of that id."""
    if problem_id is None:
        return None
    found = await gateway.store.problem(tenant, problem_id) if is_problem_id(problem_id) else None
    if found is None:
        raise InvalidRequest("there is no such problem", field="problem")
    return found


async def _check_references(gateway: Gateway, tenant: str, asked: SubmissionRequest) -> None:
    """What the request itself refers to; a stored problem has all of its own data."""
    for data in dict.fromkeys(references(asked.cases)):
        if data.problem and not is_problem_id(data.problem):
            raise InvalidRequest("there is no such problem", field="cases")
        if not await gateway.store.has(tenant, data):
            raise InvalidRequest(f"there is no data {data.digest}", field="cases")


def _json(
    body: SubmissionResult | SubmissionRecord,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    return Response(msgspec.json.encode(body), status, headers, _JSON)


def _applied(wanted: Preference) -> dict[str, str] | None:
    return {"preference-applied": wanted.applied} if wanted.applied else None
