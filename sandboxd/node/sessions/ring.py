"""The newest bytes of an output stream, up to a cap. Pure."""

from collections import deque


class Ring:
    def __init__(self, cap: int, *, lost: bool = False) -> None:
        """Keeps the last `cap` bytes. `lost`: there were bytes before, nobody knows how many."""
        self._cap, self._lost = cap, lost
        self._chunks: deque[bytes] = deque()
        self.size = 0
        """Bytes kept."""
        self.written = 0
        """Bytes ever."""

    @property
    def dropped(self) -> int:
        """Bytes that are kept no more; at least one if some were lost."""
        return max(int(self._lost), self.written - self.size)

    def append(self, data: bytes) -> None:
        self.written += len(data)
        if len(data) >= self._cap:
            self._chunks.clear()
            data = data[len(data) - self._cap :]
            self.size = 0
        if data:
            self._chunks.append(data)
            self.size += len(data)
        self._trim(self._cap)

    def shrink(self, cap: int) -> None:
        """Keep less from now on."""
        self._cap = min(self._cap, cap)
        self._trim(self._cap)

    def _trim(self, cap: int) -> None:
        while self.size > cap:
            first = self._chunks.popleft()
            excess = self.size - cap
            if len(first) > excess:
                self._chunks.appendleft(first[excess:])
                self.size -= excess
            else:
                self.size -= len(first)

    def content(self) -> bytes:
        return b"".join(self._chunks)
