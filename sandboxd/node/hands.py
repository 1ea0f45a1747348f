"""A few threads for blocking work, whose ends come back as calls on the event loop.

What an executor does, for a third of its price: no future, no lock and no task per piece of work, and
one wake-up of the loop for all that ends in the meantime. A sandbox's life has two such pieces.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class End(Generic[T]):
    """What became of a piece of work."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: T | None, error: BaseException | None) -> None:
        self._value, self._error = value, error

    def result(self) -> T:
        """What the work returned. Raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class Hands:
    """Belongs to the event loop of its first work, which has to call everything here."""

    def __init__(self, count: int, name: str) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: SimpleQueue[tuple[Callable[[], Any], Callable[[End[Any]], object]] | None]
        self._work = SimpleQueue()
        self._ended: deque[tuple[Callable[[End[Any]], object], End[Any]]] = deque()
        self._calling = False
        self._threads = [
            threading.Thread(target=self._labour, name=f"{name}_{number}", daemon=True)
            for number in range(count)
        ]

    def do(self, work: Callable[[], T], then: Callable[[End[T]], object]) -> None:
        """`work` in a thread, in turn; then `then` in the event loop, with its end."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for thread in self._threads:
                thread.start()
        self._work.put((work, then))

    def _labour(self) -> None:
        while (task := self._work.get()) is not None:
            work, then = task
            try:
                end: End[Any] = End(work(), None)
            except BaseException as error:  # it is the owner's, and raised there
                end = End(None, error)
            self._ended.append((then, end))
            del task, work, then, end
            # Set before the loop looks, cleared before it empties: no end is left unseen.
            if not self._calling:
                self._calling = True
                assert self._loop is not None
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._calling = False
        while self._ended:
            then, end = self._ended.popleft()
            try:
                then(end)
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "after work in a thread", "exception": error}
                )

    async def close(self) -> None:
        """Waits until all work is done. What its ends call must not give more."""
        if self._loop is None:
            return
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
