"""Waiting for a descriptor, once. Several may wait for the same one, but not in the same direction."""

import asyncio
import os


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


class Writer:
    """The writing end of a pipe, socket or terminal; owns the descriptor."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._lock = asyncio.Lock()
        self._waiting: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        return self._fd >= 0

    async def write(self, data: bytes) -> bool:
        """Write all of `data`, waiting for the other side to take it; False once nobody does."""
        view = memoryview(data)
        async with self._lock:
            while view and self._fd >= 0:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    await self._room()
                except OSError:  # EPIPE, or EIO of a terminal
                    self.close()
        return self._fd >= 0

    async def _room(self) -> None:
        self._waiting = asyncio.ensure_future(writable(self._fd))
        try:
            await asyncio.wait([self._waiting])
        finally:
            self._waiting.cancel()
            await asyncio.wait([self._waiting])
            self._waiting = None

    def close(self) -> None:
        """End of input; a waiting writer gives up."""
        if self._fd < 0:
            return
        if self._waiting is not None:
            asyncio.get_running_loop().remove_writer(self._fd)
            self._waiting.cancel()
        os.close(self._fd)
        self._fd = -1
