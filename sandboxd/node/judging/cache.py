"""What a node keeps between submissions: compiled programs and cases, least recently used out first."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """By key, at most `room` bytes. Who asks for what is being made waits for it."""

    def __init__(self, room: int, size: Callable[[T], int]) -> None:
        """`size` of a value in bytes; a negative one is not kept."""
        self._room, self._size = room, size
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._making: dict[str, asyncio.Event] = {}
        self.held = 0
        self.hits = 0
        self.misses = 0

    async def get(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """The value of `key`, from `make` if there is none. Raises what that raises."""
        while True:
            if key in self._kept:
                self._kept.move_to_end(key)
                self.hits += 1
                return self._kept[key]
            if key not in self._making:
                break
            # Made by another: but if that fails or is not kept, it is our turn.
            await self._making[key].wait()
        self.misses += 1
        done = self._making[key] = asyncio.Event()
        try:
            value = await make()
        finally:
            del self._making[key]
            done.set()
        self._keep(key, value)
        return value

    def _keep(self, key: str, value: T) -> None:
        size = self._size(value)
        if size < 0 or size > self._room:
            return
        self._kept[key] = value
        self.held += size
        while self.held > self._room:
            _, old = self._kept.popitem(last=False)
            self.held -= self._size(old)
