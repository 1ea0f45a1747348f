"""Which of the cores that are kept for judging is free."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class Cores:
    def __init__(self, cores: Sequence[int]) -> None:
        self._free: asyncio.Queue[int] | None = asyncio.Queue() if cores else None
        for core in cores:
            assert self._free is not None
            self._free.put_nowait(core)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[int | None]:
        """A core for oneself, waited for; None at once where none is kept."""
        if self._free is None:
            yield None
            return
        core = await self._free.get()
        try:
            yield core
        finally:
            self._free.put_nowait(core)
