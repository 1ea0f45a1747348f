"""The reply loop: one task that takes this gateway's results off the queue and hands them out.

A reply is taken from Redis once, so one may be lost with a connection. After every outage the
waiting runs are therefore looked up by their records.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sandboxd.errors import Unavailable
from sandboxd.model import Result
from sandboxd.queue import Queue

log = logging.getLogger(__name__)

_BLOCK = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class Waiter:
    """One request that waits for its run."""

    __slots__ = ("accepted", "future")

    def __init__(self) -> None:
        self.future: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        self.accepted = False
        """The queue has the job: from now on its record must exist."""


class Replies:
    def __init__(self, queue: Queue, gateway: str, outage_timeout: float) -> None:
        self._queue = queue
        self._gateway = gateway
        self._outage_timeout = outage_timeout
        self._waiters: dict[str, Waiter] = {}
        self._down_since: float | None = None

    @contextmanager
    def expect(self, run_id: str) -> Iterator[Waiter]:
        """A waiter for `run_id`; enter this before the job is submitted."""
        waiter = self._waiters[run_id] = Waiter()
        try:
            yield waiter
        finally:
            del self._waiters[run_id]

    async def run(self) -> None:
        """Hand out results until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                if self._down_since is not None:
                    await self._queue.ping()
                    await self._look_up()
                    log.warning("the queue answers again")
                    self._down_since, pause = None, _FIRST_PAUSE
                for result in await self._queue.replies(self._gateway, block=_BLOCK):
                    self._resolve(result)
            except Unavailable as error:
                self._note_outage(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def fail_all(self, error: Unavailable) -> None:
        """Every waiting request gets `error`."""
        for waiter in self._waiters.values():
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def _resolve(self, result: Result) -> None:
        waiter = self._waiters.get(result.id)
        if waiter is not None and not waiter.future.done():
            waiter.future.set_result(result)

    def _note_outage(self, error: Unavailable) -> None:
        now = asyncio.get_running_loop().time()
        if self._down_since is None:
            self._down_since = now
            log.warning("the queue does not answer: %s", error)
        elif now - self._down_since >= self._outage_timeout:
            self.fail_all(
                Unavailable("the queue is down; the run may go on without an answer", retry_after=5)
            )

    async def _look_up(self) -> None:
        """Results that came, or jobs that went, while the queue was away."""
        for run_id, waiter in list(self._waiters.items()):
            if not waiter.accepted or waiter.future.done():
                continue
            found = await self._queue.record(run_id)
            if found is None:
                if not waiter.future.done():
                    waiter.future.set_exception(Unavailable("the queue lost the run"))
            elif found[1].result is not None:
                self._resolve(found[1].result)
