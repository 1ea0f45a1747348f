"""Descriptors of pipes, sockets and terminals, without a transport: each is waited for once at a time."""

import asyncio
import os
from collections.abc import Callable


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


class Reader:
    """The reading end of a pipe or terminal, read when something is there, unless that is paused. Owns
    the descriptor; -1 is none."""

    def __init__(self, fd: int, ready: Callable[[], object]) -> None:
        self.fd = fd
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self.reading = False

    def resume(self) -> None:
        if self.fd >= 0 and not self.reading:
            self._loop.add_reader(self.fd, self._ready)
            self.reading = True

    def pause(self) -> None:
        if self.reading:
            self._loop.remove_reader(self.fd)
            self.reading = False

    def close(self) -> None:
        self.pause()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Writer:
    """The writing end of a pipe, socket or terminal; owns the descriptor."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None

    @property
    def fd(self) -> int:
        """-1 once it is closed."""
        return self._fd

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
        """Until there is room, or it is closed."""
        self._waiting = self._loop.create_future()
        self._loop.add_writer(self._fd, _wake, self._waiting)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if self._fd >= 0:
                self._loop.remove_writer(self._fd)

    def close(self) -> None:
        """End of input; a waiting writer gives up."""
        if self._fd < 0:
            return
        if self._waiting is not None:
            self._loop.remove_writer(self._fd)
            _wake(self._waiting)
        os.close(self._fd)
        self._fd = -1
