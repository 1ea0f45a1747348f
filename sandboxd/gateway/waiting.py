"""Waiting for a result on behalf of a client who may leave.

A wait is one future. Whoever knows its end first sets it: the reply loop (a result), the clock
(None), the connection (ClientGone), an outage or the end of the process (Unavailable).
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.types import Receive

from sandboxd.errors import Unavailable
from sandboxd.model import Result

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed the connection; nobody is there to read an answer."""


class Slots:
    """How many clients may wait at once, whatever for."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot. Raises Unavailable if there is none."""
        if self.taken >= self.limit:
            raise Unavailable("too many requests are waiting for results", retry_after=1.0)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


async def outcome(
    future: asyncio.Future[Result | None], receive: Receive, timeout: float
) -> Result | None:
    """The result that `future` gets, or None after `timeout` seconds.

    Raises ClientGone if the client closes the connection first, and what the future raises.
    """
    loop = asyncio.get_running_loop()

    def left(watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled() and not future.done():
            future.set_exception(watcher.exception() or ClientGone())

    def too_late() -> None:
        if not future.done():
            future.set_result(None)

    watcher = loop.create_task(disconnected(receive))
    watcher.add_done_callback(left)
    timer = loop.call_later(timeout, too_late)
    try:
        return await future
    finally:
        timer.cancel()
        watcher.cancel()


async def disconnected(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless(
    end: Coroutine[Any, Any, object], error: Exception, work: Coroutine[Any, Any, T]
) -> T:
    """The outcome of `work`; if `end` comes first, `work` is cancelled.

    Raises then what `end` raised, or else `error`.
    """
    doing, ending = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        ending.result()
        raise error
    finally:
        for task in (doing, ending):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            # Whatever the other one ended with, nobody hears of it any more.
            await asyncio.gather(doing, ending, return_exceptions=True)
