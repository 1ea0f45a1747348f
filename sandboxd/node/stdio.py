"""The three streams of a program, as the node holds them.

Output is read as it comes and kept up to the limit; one byte more is a breach. A listener (the live
stream) sees the same bytes, and may hold up reading, so that a slow client slows the program down
instead of filling our memory.
"""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress

from sandboxd.descriptors import Reader, Writer

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
        self.closed_at: float | None = None
        """When its end came, in seconds of CLOCK_MONOTONIC; None if it was drained before. Ends that
        wait together for the loop's turn are told apart: it takes them in the order they came in."""
        ours, self.child_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        self._reader = Reader(ours, self._read)

    def start(self) -> None:
        """Close the child's end here and begin to read."""
        os.close(self.child_fd)
        self.child_fd = -1
        self.resume()

    def resume(self) -> None:
        self._reader.resume()

    def pause(self) -> None:
        self._reader.pause()

    def _read(self) -> None:
        """Read once, and close at the end of the stream, which is not to wait for another turn."""
        with suppress(BlockingIOError):
            data = os.read(self._reader.fd, _CHUNK)
            if data:
                self._take(data)
                if len(data) == _CHUNK or self.listener is not None:
                    return
                data = os.read(self._reader.fd, _CHUNK)
            if data:
                self._take(data)
            else:
                self.closed_at = time.monotonic()
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
        while self._reader.fd >= 0:
            try:
                data = os.read(self._reader.fd, _CHUNK)
            except BlockingIOError:
                break
            if not data:
                break
            self._take(data)
        self._shut()

    def _shut(self) -> None:
        self._reader.close()
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
        child_fd, ours = os.pipe2(os.O_CLOEXEC)
        self.child_fd: int | None = child_fd
        self._writer = Writer(ours)

    def start(self) -> None:
        """Close the child's end here."""
        if self.child_fd is not None:
            os.close(self.child_fd)
            self.child_fd = None

    async def write(self, data: bytes) -> bool:
        """Write all of `data`, waiting for the program to read; False once nobody reads."""
        return await self._writer.write(data)

    def close(self) -> None:
        """End of input, perhaps before the program starts; a waiting writer gives up."""
        self._writer.close()


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
