"""What every handler of one gateway process works with, and its background tasks."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from msgspec.structs import replace

from sandboxd.egress_files import EgressFiles
from sandboxd.errors import Unavailable
from sandboxd.gateway.auth import Keys
from sandboxd.gateway.metrics import Metrics
from sandboxd.gateway.node_link import NodeLink
from sandboxd.gateway.offers import Offers
from sandboxd.gateway.replies import Replies
from sandboxd.gateway.sessions.contexts import Contexts
from sandboxd.gateway.sessions.sandboxes import Sandboxes
from sandboxd.gateway.waiting import Slots, unless
from sandboxd.policy import Policies
from sandboxd.queue import Queue
from sandboxd.queue.store import Store
from sandboxd.queue.templates import Templates
from sandboxd.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_AT_KEYS = 1.0
"""Seconds between looks at the keys file's time of change."""


class Gateway:
    """One per process."""

    def __init__(self, settings: Settings, policies: Policies, queue: Queue, keys: Keys) -> None:
        self.id = f"gw_{secrets.token_hex(12)}"
        """Name of this process' reply list; a new one at each start."""
        self.settings = settings
        self.policies = policies
        self.queue = queue
        self.keys = keys
        self.store = Store(settings)
        self.templates = Templates(settings)
        self.node = NodeLink(settings.images_socket)
        self.offers = Offers(queue)
        self.sandboxes = Sandboxes(settings, self.offers)
        self.contexts = Contexts(self.sandboxes)
        self.slots = Slots(settings.gateway.max_waiting)
        self.metrics = Metrics(self.slots)
        self.replies = Replies(queue, self.id, settings.gateway.outage_timeout)
        self._closing = asyncio.Event()
        self._reload = asyncio.Event()
        self._reread = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the background tasks. A bug in one of them ends the body, not only the task."""
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.replies.run(), name="replies"),
                tasks.create_task(self._reap(), name="reap"),
                tasks.create_task(self._watch_keys(), name="keys"),
                tasks.create_task(self._follow_networks(), name="networks"),
                tasks.create_task(self._fail_late_waiters(), name="closing"),
            ]
            try:
                yield
            finally:
                for task in background:
                    task.cancel()
                await self.store.close()
                await self.contexts.close()
                await self.sandboxes.close()
                await self.templates.close()

    def close(self) -> None:
        """Begin to stop: streams end now, waiting requests have `shutdown_timeout` seconds."""
        self._closing.set()

    async def unless_closing(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of `work`. Raises Unavailable as soon as the gateway stops."""
        stopping = Unavailable("the gateway is stopping", retry_after=1.0)
        return await unless(self._closing.wait(), stopping, work)

    def reload(self) -> None:
        """Read the files again that may change while it serves: keys, and policies of networks."""
        self.reload_keys()
        self._reread.set()

    def reload_keys(self) -> None:
        """Read the keys file again now, changed or not."""
        self._reload.set()

    async def _follow_networks(self) -> None:
        if not self.settings.network.enabled:
            return
        files = EgressFiles(
            self.settings.policy_path / "egress",
            self.policies.egress,
            self.settings.network.macvlan,
        )
        while True:
            await self._reread.wait()
            self._reread.clear()
            if await asyncio.to_thread(files.reread):
                self.policies = replace(self.policies, egress=files.policies)

    async def _watch_keys(self) -> None:
        while self.keys.required:
            forced = False
            with contextlib.suppress(TimeoutError):
                forced = await asyncio.wait_for(self._reload.wait(), _LOOK_AT_KEYS)
            self._reload.clear()
            await asyncio.to_thread(self.keys.reload_if_changed, force=forced)

    async def _fail_late_waiters(self) -> None:
        await self._closing.wait()
        await asyncio.sleep(self.settings.gateway.shutdown_timeout)
        self.replies.fail_all(Unavailable("the gateway is stopping", retry_after=1.0))

    async def _reap(self) -> None:
        """Ends or requeues the jobs of silent nodes; every gateway and node does so."""
        period = self.settings.queue.lease / 3
        while True:
            await asyncio.sleep(period)
            with contextlib.suppress(Unavailable):  # the reply loop reports outages
                requeued, lost = await self.queue.reap()
                if requeued or lost:
                    log.warning("silent node: %d jobs requeued, %d lost", requeued, lost)
