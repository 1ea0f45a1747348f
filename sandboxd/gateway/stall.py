"""Finds peers that have stopped reading."""

import asyncio

_MIN_PROGRESS = 1 << 16
_PERIODS = 20


class WriteStall:
    """Aborts a transport whose buffer stays full: start on pause_writing, stop on resume_writing.

    A peer has to take a twentieth of the buffer, and at least 64 KiB, in each `period` seconds;
    otherwise a byte a minute would hold the buffer for ever.
    """

    def __init__(self, transport: asyncio.Transport, period: float) -> None:
        self._transport = transport
        self._period = period
        self._size = self._step = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.stop()
        self._step = max(_MIN_PROGRESS, self._transport.get_write_buffer_size() // _PERIODS)
        self._arm()

    def _arm(self) -> None:
        self._size = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._period, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._size - self._transport.get_write_buffer_size() < self._step:
            self._timer = None
            self._transport.abort()
        else:
            self._arm()
