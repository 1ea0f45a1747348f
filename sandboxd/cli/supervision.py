"""Keeps one child running: starts it again when it dies, ever more slowly, until told to stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from sandboxd.errors import SandboxdError

log = logging.getLogger(__name__)

_PAUSE, _PAUSE_MAX = 0.1, 5.0
_HEALTHY = 30.0
"""Seconds of life after which a death is taken for the first again."""


class Process(Protocol):
    async def wait(self) -> int: ...
    async def stop(self, grace: float) -> int: ...


class Supervised:
    """A child by name. Until `settled` is set, an exit by its own decision is final: it has said
    why on stderr, and would only say it again."""

    def __init__(
        self, name: str, start: Callable[[], Awaitable[Process]], settled: asyncio.Event
    ) -> None:
        self.name = name
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Set to its exit code when it ended for good by itself."""
        self._start, self._settled = start, settled
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first start. Raises what the start raises."""
        self._process = await self._start()
        self._task = asyncio.create_task(self._keep(self._process))

    async def stop(self, grace: float) -> None:
        """Stop it, and stop it hard after `grace` seconds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._process is not None:
            await self._process.stop(grace)

    async def _keep(self, process: Process) -> None:
        clock = asyncio.get_running_loop().time
        pause = _PAUSE
        while True:
            born = clock()
            code = await process.wait()
            if code > 0 and not self._settled.is_set():
                self.ended.set_result(code)
                return
            if clock() - born >= _HEALTHY:
                pause = _PAUSE
            log.warning("%s ended with %d; starting it again in %.1f s", self.name, code, pause)
            process, pause = await self._again(pause)

    async def _again(self, pause: float) -> tuple[Process, float]:
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MAX)
            try:
                self._process = await self._start()
            except (SandboxdError, OSError) as error:
                log.warning("%s does not start (%s); again in %.1f s", self.name, error, pause)
            else:
                return self._process, pause
