"""Ends of sandboxes' networks, from the driver's thread to the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from sandboxd.drivers.network.slots import EgressSlot


class Ends:
    """Has `over` called for each slot, in their order; the loop wakes up once for all that end in the
    meantime. Each call comes before whatever its thread has the loop call afterwards."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, over: Callable[[EgressSlot], object]
    ) -> None:
        self._loop, self._over = loop, over
        self._slots: deque[EgressSlot] = deque()
        self._calling = False

    def add(self, slot: EgressSlot) -> None:
        """In one thread, which is not the loop's."""
        self._slots.append(slot)
        # Set before the loop looks, cleared before it empties: no end is left unseen.
        if not self._calling:
            self._calling = True
            with suppress(RuntimeError):  # the loop has ended, and the guard with it
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._calling = False
        try:
            while self._slots:
                self._over(self._slots.popleft())
        finally:
            if self._slots:  # one has failed, which is for the loop to report
                self._loop.call_soon(self._tell)
