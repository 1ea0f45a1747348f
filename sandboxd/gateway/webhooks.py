"""Webhooks as requests name them: what is accepted, and remembered until it is delivered.

The gateway connects to nobody; the courier delivers, see `gateway/courier`.
"""

from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.addresses import is_public
from sandboxd.gateway.context import Gateway
from sandboxd.model import Job
from sandboxd.model.callback import Callback
from sandboxd.model.session_event import SandboxEvent

COURIER = "courier"
"""Name of the couriers' reply list: to it go results that no gateway waits for."""
LOOK = 2.0
"""Seconds between looks at a submission whose gateway waits for the result itself."""


class Judge0Callback(Struct, frozen=True, kw_only=True):
    """What is told as Judge0 tells it."""

    token: str
    note: str
    """Name under which the store knows what was asked."""


class Hook(Struct, frozen=True, kw_only=True):
    """A webhook as it is remembered."""

    tenant: str
    callback: Callback
    tried: int = 0
    judge0: Judge0Callback | None = None
    """None: it is one of ours."""
    event: SandboxEvent | None = None
    """What is told; None: the end of a run or submission, which the queue has."""


def check(gateway: Gateway, callback: Callback) -> None:
    """Raises InvalidRequest unless the URL is one that would be delivered to."""
    try:
        parts = urlsplit(callback.url)
        port = parts.port
    except ValueError:
        raise InvalidRequest("not a URL", field="callback.url") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise InvalidRequest("give an http or https URL without a user", field="callback.url")
    if port == 0 or not callback.url.isascii() or any(c <= " " for c in callback.url):
        raise InvalidRequest("not a URL", field="callback.url")
    try:
        public = is_public(parts.hostname)
    except ValueError:
        return  # a name is looked up when it is used, since it may mean something else by then
    if not gateway.settings.judge.callback_private and not public:
        raise InvalidRequest("webhooks go to public addresses only", field="callback.url")


async def expect(
    gateway: Gateway,
    job_id: str,
    tenant: str,
    callback: Callback,
    judge0: Judge0Callback | None = None,
) -> None:
    """Remember the webhook of a submission or run that is about to be queued."""
    hook = Hook(tenant=tenant, callback=callback, judge0=judge0)
    await gateway.store.keep_hook(job_id, msgspec.json.encode(hook), LOOK)


async def submit(gateway: Gateway, job: Job, callback: Callback | None, key: str | None) -> str:
    """Queue a job whose end is told to `callback`; its id, or that of the key's earlier job, which has
    a webhook of its own. Raises InvalidRequest, Overload."""
    if callback is None:
        return await gateway.queue.submit(job, idempotency_key=key)
    check(gateway, callback)
    await expect(gateway, job.id, job.tenant, callback)
    accepted = await gateway.queue.submit(job, idempotency_key=key)
    if accepted != job.id:
        await gateway.store.drop_hook(job.id)
    return accepted
