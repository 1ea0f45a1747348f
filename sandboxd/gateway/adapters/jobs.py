"""Runs and files on behalf of an adapter: what every one of them does in the same way."""

import asyncio
import base64
from collections.abc import Callable, Coroutine, Mapping, Sequence
from email.parser import BytesParser
from email.policy import HTTP
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from sandboxd.errors import MalformedBody, Unavailable
from sandboxd.gateway.admission import admit
from sandboxd.gateway.bodies import Budget, read_bytes
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import new_run_id, timestamp
from sandboxd.gateway.judging import admit_submission
from sandboxd.gateway.parts import admit_together
from sandboxd.gateway.waiting import ClientGone, outcome
from sandboxd.model import Outcome, Result, RunRequest
from sandboxd.model.parts import Pipe
from sandboxd.model.submission import SubmissionRequest
from sandboxd.policy import Policies

_BODIES = 8


class Bodies:
    """Reads JSON bodies of one adapter, bounded like the gateway's own."""

    def __init__(self, gateway: Gateway) -> None:
        self._settings = gateway.settings.gateway
        self._budget = Budget(_BODIES * self._settings.max_body)

    async def json(self, request: Request) -> object:
        """Raises MalformedBody, BodyTooLarge, RequestTimeout."""
        data = await self.data(request)
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedBody(str(error)) from None

    async def data(self, request: Request) -> bytes:
        with self._budget.share() as share:
            return await read_bytes(
                request, share, self._settings.max_body, self._settings.body_timeout
            )


async def submit_run(
    gateway: Gateway,
    tenant: str,
    request: RunRequest,
    reply_to: str | None = None,
    run_id: str = "",
    *,
    exact_env: bool = False,
) -> str:
    """Queue a run. Raises InvalidRequest, Overload."""
    job = admit(
        request, gateway.policies, tenant=tenant, run_id=run_id or new_run_id(),
        created_at=timestamp(), reply_to=reply_to,
    )  # fmt: skip
    await gateway.offers.check(job.request.language)
    return await gateway.queue.submit(replace(job, exact_env=exact_env))


async def submit_judged(
    gateway: Gateway, tenant: str, request: SubmissionRequest, reply_to: str | None, run_id: str
) -> str:
    """Queue a program that is judged, on cases that it brings. Raises InvalidRequest, Overload."""
    job = admit_submission(
        request, None, gateway.policies, gateway.settings.judge,
        room=await gateway.offers.room(), tenant=tenant, submission_id=run_id,
        created_at=timestamp(), reply_to=reply_to,
    )  # fmt: skip
    return await gateway.queue.submit(job)


async def submit_together(
    gateway: Gateway,
    tenant: str,
    requests: Sequence[RunRequest],
    pipes: list[Pipe],
    reply_to: str,
    run_id: str,
) -> str:
    """Queue commands that run together, each with its own variables alone. Raises InvalidRequest,
    Overload."""
    job = admit_together(
        requests, pipes, gateway.policies, room=await gateway.offers.room(), tenant=tenant,
        run_id=run_id, created_at=timestamp(), reply_to=reply_to,
    )  # fmt: skip
    return await gateway.queue.submit(replace(job, exact_env=True))


async def submitted(gateway: Gateway, run_id: str, submission: Coroutine[Any, Any, str]) -> None:
    """Waits for a submission. One that is under way cannot be called back: if nobody wants it any more,
    the job is cancelled once it is there. Raises as the submission does."""
    submitting = asyncio.ensure_future(submission)
    try:
        await asyncio.shield(submitting)
    except asyncio.CancelledError:
        await asyncio.gather(submitting, return_exceptions=True)
        await gateway.queue.cancel(run_id)
        raise


async def run(
    gateway: Gateway,
    tenant: str,
    request: RunRequest,
    receive: Receive | None = None,
    *,
    exact_env: bool = False,
) -> Result:
    """The result of a run, waited for; cancelled when the client leaves.

    Raises InvalidRequest, Overload, ClientGone; Unavailable when it takes too long.
    """
    return await _result(
        gateway,
        receive,
        partial(submit_run, gateway, tenant, request, gateway.id, exact_env=exact_env),
    )


async def run_together(
    gateway: Gateway,
    tenant: str,
    requests: Sequence[RunRequest],
    pipes: list[Pipe],
    receive: Receive | None = None,
) -> Result:
    """As `run`, of commands that are joined by pipes."""
    submit = partial(submit_together, gateway, tenant, requests, pipes, gateway.id)
    return await _result(gateway, receive, submit)


async def _result(
    gateway: Gateway, receive: Receive | None, submit: Callable[[str], Coroutine[Any, Any, str]]
) -> Result:
    run_id = new_run_id()
    with gateway.slots.take(), gateway.replies.expect(run_id) as waiter:
        await submitted(gateway, run_id, submit(run_id))
        waiter.accepted = True
        try:
            result = await outcome(
                waiter.future, receive or _never, gateway.settings.gateway.total_timeout
            )
        except (ClientGone, Unavailable, asyncio.CancelledError):
            await gateway.queue.cancel(run_id)
            raise
    if result is None:
        await gateway.queue.cancel(run_id)
        raise Unavailable("the run took too long")
    return result


async def _never() -> dict[str, str]:
    await asyncio.Event().wait()
    return {}


def stream(of: Result | Outcome, name: str) -> bytes:
    """stdout or stderr as bytes."""
    text: str = getattr(of, name)
    return base64.b64decode(text) if of.encoding == "base64" else text.encode()


def language_named(policies: Policies, names: Mapping[str, str], name: str) -> str | None:
    """Our language for another API's name: by `names`, or the same name or alias."""
    language = policies.language(names.get(name, name))
    return language.name if language is not None else None


def json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def form_file(content_type: str, body: bytes) -> tuple[str, bytes] | None:
    """Name and content of the field `file` of a multipart form, or None if there is none."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if not message.is_multipart():
        return None
    for part in message.iter_parts():
        if part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
            return part.get_filename() or "file", content if isinstance(content, bytes) else b""
    return None
