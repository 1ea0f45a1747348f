"""A blob that is hashed and written by a thread of its own, while its content is still being gathered.

Hashing and writing take more time than reading, and neither holds Python's lock. What fits into the first
buffer needs no thread.
"""

import threading
from queue import SimpleQueue

from sandboxd.drivers.graph.store import BlobWriter

SIZE = 1 << 20
_BUFFERS = 4


class WriteBehind:
    """Belongs to one thread. `close` before the blob is."""

    def __init__(self, blob: BlobWriter) -> None:
        self._blob = blob
        self._buffer = memoryview(bytearray(SIZE))
        self._used = 0
        self._made = 1
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    def room(self) -> memoryview:
        """Where the next bytes go; never empty. Tell `wrote` how many came."""
        if self._used == SIZE:
            self._hand_over()
        return self._buffer[self._used :]

    def wrote(self, count: int) -> None:
        self._used += count

    def write(self, data: bytes) -> None:
        """Raises OSError, as `room`, of what was handed over before."""
        rest = memoryview(data)
        while rest:
            room = self.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            self._used += count
            rest = rest[count:]

    def finish(self) -> str:
        """The digest of all that was written. Raises OSError."""
        if self._thread is not None:
            self._hand_over()
            self.close()
            if self._fault is not None:
                raise self._fault
        else:
            self._blob.write(self._buffer[: self._used])
        return self._blob.digest

    def close(self) -> None:
        """The thread is gone."""
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            self._thread = None

    def _hand_over(self) -> None:
        if self._fault is not None:
            raise self._fault
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="blob", daemon=True)
            self._thread.start()
        self._full.put((self._buffer, self._used))
        if self._made < _BUFFERS:
            self._made += 1
            self._buffer = memoryview(bytearray(SIZE))
        else:
            self._buffer = self._free.get()
        self._used = 0

    def _work(self) -> None:
        while (given := self._full.get()) is not None:
            buffer, used = given
            if self._fault is None:
                try:
                    self._blob.write(buffer[:used])
                except BaseException as fault:  # raised where the work was given
                    self._fault = fault
            self._free.put(buffer)
