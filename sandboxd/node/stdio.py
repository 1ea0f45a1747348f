"""The three streams of a program, as the node holds them.

Output is read as it comes and kept up to the limit; one byte more is a breach. A listener (the live
stream) sees the same bytes, and may hold up reading, so that a slow client slows the program down
instead of filling our memory.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable

_CHUNK = 65_536
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Output:
    """One of stdout and stderr."""

    def __init__(self, cap: int, on_excess: Callable[[], None]) -> None:
        """Keeps `cap` bytes; `on_excess` is called once, at the first byte more."""
        self._cap, self._on_excess = cap, on_excess
        self.kept = bytearray()
        self.exceeded = False
        self.listener: Callable[[bytes], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._fd, self.child_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)
        self._reading = False

    def start(self) -> None:
        """Close the child's end here and begin to read."""
        os.close(self.child_fd)
        self.child_fd = -1
        self.resume()

    def resume(self) -> None:
        if self._fd >= 0 and not self._reading:
            self._loop.add_reader(self._fd, self._read)
            self._reading = True

    def pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def _read(self) -> None:
        """Read once; close at the end of the stream."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._take(data)
        else:
            self._shut()

    def _take(self, data: bytes) -> None:
        room = self._cap - len(self.kept)
        if len(data) > room:
            data = data[:room]
            if not self.exceeded:
                self.exceeded = True
                self._on_excess()
        if data:
            self.kept += data
            if self.listener is not None:
                self.listener(data)

    def drain(self) -> None:
        """Take what a dead program left in the pipe, and close."""
        while self._fd >= 0:
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                break
            if not data:
                break
            self._take(data)
        self._shut()

    def _shut(self) -> None:
        self.pause()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.child_fd >= 0:
            os.close(self.child_fd)
            self.child_fd = -1


class FixedInput:
    """stdin that is known beforehand: a sealed memory file, or /dev/null where it is empty.

    Made in a thread where it is large: it is copied.
    """

    def __init__(self, data: bytes) -> None:
        self.child_fd: int | None = None
        if data:
            fd = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                done = 0
                while done < len(data):  # by pwrite, so that it is read from its start
                    done += os.pwrite(fd, memoryview(data)[done:], done)
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            except BaseException:
                os.close(fd)
                raise
            self.child_fd = fd

    def start(self) -> None:
        if self.child_fd is not None:
            os.close(self.child_fd)
            self.child_fd = None

    close = start


class LiveInput:
    """stdin that a client writes while the program runs."""

    def __init__(self) -> None:
        child_fd, self._fd = os.pipe2(os.O_CLOEXEC)
        self.child_fd: int | None = child_fd
        os.set_blocking(self._fd, False)
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Close the child's end here."""
        if self.child_fd is not None:
            os.close(self.child_fd)
            self.child_fd = None

    async def write(self, data: bytes) -> bool:
        """Write all of `data`, waiting for the program to read; False once nobody reads."""
        view = memoryview(data)
        async with self._lock:
            while view and self._fd >= 0:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    await self._wait_for_room()
                except BrokenPipeError:
                    self.close()
        return self._fd >= 0

    async def _wait_for_room(self) -> None:
        self._room = self._loop.create_future()
        self._loop.add_writer(self._fd, self._wake)
        await self._room

    def _wake(self) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def close(self) -> None:
        """End of input, perhaps before the program starts; a waiting writer gives up."""
        if self._fd >= 0:
            self._wake()
            os.close(self._fd)
            self._fd = -1


class PassedInput:
    """stdin that another program writes: the reading end of a pipe, ours only until it is handed on."""

    def __init__(self, fd: int) -> None:
        self.child_fd: int | None = fd

    def start(self) -> None:
        if self.child_fd is not None:
            os.close(self.child_fd)
            self.child_fd = None

    close = start


class PassedOutput:
    """stdout that another program reads; nothing of it is kept here."""

    exceeded = False

    def __init__(self, fd: int) -> None:
        self.child_fd = fd

    def start(self) -> None:
        if self.child_fd >= 0:
            os.close(self.child_fd)
            self.child_fd = -1

    drain = start


Input = FixedInput | LiveInput | PassedInput
