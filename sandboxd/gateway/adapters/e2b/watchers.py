"""Watches that clients poll: what has changed is kept between their questions, in this process."""

import asyncio
import secrets
from collections import deque
from typing import Any

from sandboxd.errors import QuotaExceeded, SandboxdError
from sandboxd.gateway.adapters.e2b.changes import changes
from sandboxd.gateway.adapters.e2b.errors import NoWatcher
from sandboxd.gateway.sessions.line import decoded
from sandboxd.gateway.sessions.sandboxes import Sandboxes
from sandboxd.model import agent

_MOST, _MOST_OF_ONE = 2_000, 64
_EVENTS_MAX = 10_000
"""Changes kept of one watcher; of more, the latest."""
_FORGOTTEN = 3600.0
"""Seconds without a question after which a watcher is given up."""


class _Watcher:
    def __init__(self, watch: agent.Watch, *, include_entry: bool) -> None:
        self.watch, self.include_entry = watch, include_entry
        self.events: deque[dict[str, Any]] = deque(maxlen=_EVENTS_MAX)
        self.standing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None


class Watchers:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._all: dict[str, _Watcher] = {}

    async def create(self, watch: agent.Watch, *, include_entry: bool) -> str:
        """The id of a watch that stands. Raises QuotaExceeded, and what the node answers."""
        of_one = sum(each.watch.sandbox == watch.sandbox for each in self._all.values())
        if len(self._all) >= _MOST or of_one >= _MOST_OF_ONE:
            raise QuotaExceeded(f"a sandbox has at most {_MOST_OF_ONE} watchers")
        name = secrets.token_hex(16)
        watcher = self._all[name] = _Watcher(watch, include_entry=include_entry)
        watcher.task = asyncio.create_task(self._run(name, watcher))
        try:
            await watcher.standing
        except BaseException:
            self._drop(name)
            raise
        self._postpone(name, watcher)
        return name

    def take(self, tenant: str, sandbox: str, name: str) -> tuple[list[dict[str, Any]], bool]:
        """What has changed since, and whether entries are wanted with it. Raises NoWatcher."""
        watcher = self._find(tenant, sandbox, name)
        self._postpone(name, watcher)
        events = list(watcher.events)
        watcher.events.clear()
        return events, watcher.include_entry

    async def remove(self, tenant: str, sandbox: str, name: str) -> None:
        """Raises NoWatcher."""
        task = self._find(tenant, sandbox, name).task
        self._drop(name)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    def _find(self, tenant: str, sandbox: str, name: str) -> _Watcher:
        watcher = self._all.get(name)
        if watcher is None or (watcher.watch.tenant, watcher.watch.sandbox) != (tenant, sandbox):
            raise NoWatcher("there is no such watcher")
        return watcher

    def _postpone(self, name: str, watcher: _Watcher) -> None:
        if watcher.timer is not None:
            watcher.timer.cancel()
        loop = asyncio.get_running_loop()
        watcher.timer = loop.call_later(_FORGOTTEN, self._drop, name)

    def _drop(self, name: str) -> None:
        watcher = self._all.pop(name, None)
        if watcher is None:
            return
        if watcher.timer is not None:
            watcher.timer.cancel()
        if watcher.task is not None:
            watcher.task.cancel()

    async def _run(self, name: str, watcher: _Watcher) -> None:
        """Until it is dropped, or its sandbox has ended."""
        try:
            async with self._sandboxes.open(watcher.watch) as (line, first):
                decoded(first[1], agent.Watching)
                watcher.standing.set_result(None)
                while True:
                    _, payload = await line.next()
                    found = decoded(payload, agent.Changes)
                    watcher.events.extend(changes(found.events, watcher.watch.path))
        except SandboxdError as error:
            if not watcher.standing.done():
                watcher.standing.set_exception(error)
            else:
                self._drop(name)
