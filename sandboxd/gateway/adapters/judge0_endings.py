"""Judge0's submissions that are under way: this gateway gets their results and counts how they ended.

A gateway that dies counts nothing more; what becomes of the submissions does not depend on it. What they
consist of stays in the store meanwhile: thousands may wait.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from sandboxd.errors import SandboxdError
from sandboxd.gateway.adapters.judge0_counts import Counts
from sandboxd.gateway.adapters.judge0_runs import averaged
from sandboxd.gateway.adapters.judge0_words import Attributes, status_of
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.replies import Waiter
from sandboxd.model import Result

_decode = msgspec.json.Decoder(Attributes).decode
Ending = asyncio.Task[Result | None]
"""The result of a submission; None if it is lost, or the queue was away for too long."""


class Endings:
    def __init__(self, gateway: Gateway, counts: Counts) -> None:
        self._gateway, self._counts = gateway, counts
        self._tasks: set[Ending] = set()

    async def expect(
        self, tenant: str, note: str, run_id: str, submit: Callable[[str], Awaitable[str]]
    ) -> Ending:
        """`submit` queues what was noted, with the name that its result is sent to. Raises what that
        raises."""
        with contextlib.ExitStack() as until_then:
            waiter = until_then.enter_context(self._gateway.replies.expect(run_id))
            await submit(self._gateway.id)
            waiter.accepted = True
            kept = until_then.pop_all()
        task = asyncio.create_task(self._end(kept, waiter, tenant, note))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end(
        self, kept: contextlib.ExitStack, waiter: Waiter, tenant: str, note: str
    ) -> Result | None:
        result = None
        with kept, contextlib.suppress(SandboxdError):
            result = await waiter.future
        if result is None:
            return None
        result = averaged(result)
        with contextlib.suppress(SandboxdError):
            noted = await self._gateway.store.noted(tenant, note)
            if noted is not None:
                await self._counts.ended(tenant, status_of(_decode(noted), result, None))
        return result
