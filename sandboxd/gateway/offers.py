"""Which languages the live nodes can run, as far as this gateway needs to know before it accepts."""

import time
from collections.abc import Callable

from sandboxd.errors import UnknownLanguage
from sandboxd.model import NodeRecord
from sandboxd.queue import Queue

_FRESH = 1.0
"""Seconds that an answer of the queue is good for: a node announces itself every few seconds."""


class Offers:
    def __init__(self, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue, self._clock = queue, clock
        self._read_at: float | None = None
        self._offered: frozenset[str] | None = None
        self._nodes: list[NodeRecord] = []

    async def check(self, language: str | None) -> None:
        """Raises UnknownLanguage if there are nodes and none of them offers `language`.

        Without any node a run waits for one, which may offer it.
        """
        if language is None:
            return
        await self._look()
        if self._offered is not None and language not in self._offered:
            raise UnknownLanguage(f"no node here can run {language}", field="language")

    async def room(self) -> list[tuple[int, int]]:
        """What each live node can hold: CPU in thousandths of a core, memory in bytes."""
        await self._look()
        return [(node.cpu_capacity, node.memory_capacity) for node in self._nodes]

    async def nodes(self) -> list[NodeRecord]:
        """The live nodes."""
        await self._look()
        return self._nodes

    async def _look(self) -> None:
        if self._read_at is None or self._clock() - self._read_at > _FRESH:
            nodes = self._nodes = await self._queue.nodes()
            self._offered = (
                frozenset(x for node in nodes for x in node.languages) if nodes else None
            )
            self._read_at = self._clock()
