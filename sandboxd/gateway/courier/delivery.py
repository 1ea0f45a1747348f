"""Delivers webhooks: signed, tried several times with growing pauses, and to public addresses only.

A webhook is remembered in the store from before its submission or run is queued, or in the same step as
the sandbox's event, until it was delivered, so it survives gateways and couriers: whoever finds it due
delivers it, at least once.
"""

import asyncio
import contextlib
import logging
import socket
from collections import Counter

import httpx
import msgspec

from sandboxd.errors import Unavailable
from sandboxd.gateway.adapters.judge0_counts import Counts
from sandboxd.gateway.addresses import is_public
from sandboxd.gateway.courier import messages
from sandboxd.gateway.courier.messages import Message
from sandboxd.gateway.webhooks import COURIER, LOOK, Hook
from sandboxd.model import Result
from sandboxd.queue import Queue
from sandboxd.queue.store import Store
from sandboxd.settings import JudgeSettings

log = logging.getLogger(__name__)

_AT_ONCE = 32
_TENANT_AT_ONCE = 8
"""An address that does not answer holds up its own tenant's webhooks alone."""
_BATCH = 16
_TIMEOUT = 10.0
_HOLD = 60.0
"""Seconds that one courier has for one try; then another may."""
_BACK_OFF = 5.0
"""Seconds before the second try; each pause is three times the last."""


class Refused(Exception):
    """The address is one that is not delivered to."""


class Courier:
    """Delivers webhooks; several couriers share the work."""

    def __init__(self, queue: Queue, store: Store, settings: JudgeSettings) -> None:
        self._queue, self._store, self._settings = queue, store, settings
        self._decoder = msgspec.json.Decoder(Hook)
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._busy: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(tasks))
            tasks.create_task(self._look(tasks))

    async def _listen(self, tasks: asyncio.TaskGroup) -> None:
        """Results that were sent here are delivered at once."""
        while True:
            try:
                for result in await self._queue.replies(COURIER, block=5.0):
                    document = await self._store.take_hook(result.id, _HOLD)
                    if document is not None:
                        tasks.create_task(self._attend(result.id, document))
            except Unavailable:
                await asyncio.sleep(LOOK)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        """Events of sandboxes, second tries, and what another courier left when it died."""
        while True:
            taken = []
            with contextlib.suppress(Unavailable):
                taken = await self._store.take_due_hooks(_HOLD, _BATCH)
                for name, document in taken:
                    tasks.create_task(self._attend(name, document))
            if len(taken) < _BATCH:
                await asyncio.sleep(LOOK)

    async def _attend(self, name: str, document: bytes) -> None:
        with contextlib.suppress(Unavailable):  # it is ours for a while; then somebody looks again
            try:
                hook = self._decoder.decode(document)
            except msgspec.DecodeError as error:  # of another version
                log.error("webhook of %s: %s", name, error)
                return await self._store.drop_hook(name)
            if self._busy[hook.tenant] >= _TENANT_AT_ONCE:
                return await self._store.keep_hook(name, document, LOOK)
            self._busy[hook.tenant] += 1
            try:
                await self._tell(name, hook)
            finally:
                self._busy[hook.tenant] -= 1

    async def _tell(self, name: str, hook: Hook) -> None:
        result = None
        if hook.event is None:
            found = await self._queue.record(name)
            if found is not None and found[1].result is None:
                await self._store.keep_hook(name, msgspec.json.encode(hook), LOOK)
                return
            result = None if found is None else found[1].result
        message = await self._message(hook, name, result)
        if message is None or await self._deliver(hook, name, message):
            await self._store.drop_hook(name)
        else:
            await self._again(name, hook, message.tries)

    async def _message(self, hook: Hook, name: str, result: Result | None) -> Message | None:
        """None if nothing is to be told any more."""
        if hook.event is not None:
            told = messages.happened(hook.event)
        elif result is None:
            return None
        elif hook.judge0 is None:
            told = messages.finished(name, result)
        else:
            note = await self._store.noted(hook.tenant, hook.judge0.note)
            if note is not None and hook.tried == 0:
                await Counts(self._store).ended(hook.tenant, messages.judge0_status(note, result))
            return messages.judge0(hook.judge0, note, result) if note is not None else None
        return messages.standard(
            hook, name, told, timeout=_TIMEOUT, tries=self._settings.callback_attempts
        )

    async def _again(self, name: str, hook: Hook, tries: int) -> None:
        tried = hook.tried + 1
        if tried >= tries:
            log.warning("webhook of %s given up after %d tries", name, tried)
            await self._store.drop_hook(name)
            return
        later = msgspec.structs.replace(hook, tried=tried)
        pause = _BACK_OFF * 3.0 ** (tried - 1)
        await self._store.keep_hook(name, msgspec.json.encode(later), pause)

    async def _deliver(self, hook: Hook, name: str, message: Message) -> bool:
        try:
            async with self._room, asyncio.timeout(message.timeout):
                succeeded = await self._send(hook.callback.url, message)
                return succeeded or message.any_answer
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, Refused) as error:
            log.info("webhook of %s: %s", name, error)
            return False

    async def _send(self, url: str, message: Message) -> bool:
        """Connects to the very address that was looked at, so that a name cannot change in between."""
        target = httpx.URL(url)
        port = target.port or (443 if target.scheme == "https" else 80)
        address = await resolve(target.host, port, private=self._settings.callback_private)
        pinned = target.copy_with(host=address)
        host = target.netloc.decode()
        async with (
            httpx.AsyncClient(
                trust_env=False, timeout=message.timeout, follow_redirects=False
            ) as client,
            client.stream(
                message.method,
                pinned,
                content=message.body,
                headers={**message.headers, "host": host, "content-type": "application/json"},
                extensions={"sni_hostname": target.host},
            ) as answer,
        ):
            return answer.is_success


async def resolve(host: str, port: int, *, private: bool) -> str:
    """An address of `host`. Raises Refused if any of them is not public, unless `private`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for text in addresses:
        if not private and not is_public(text):
            raise Refused(f"{host} is at {text}, which is not a public address")
    if not addresses:
        raise Refused(f"{host} has no address")
    return addresses[0]
