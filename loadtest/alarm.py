"""A timer with microseconds: event loops round theirs to milliseconds, and a generator that wakes
a millisecond late would measure its own clock."""

import asyncio
import ctypes
import os
import time

_libc = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Wakes one task at a time, by a timerfd in the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        self._fd = _libc.timerfd_create(time.CLOCK_MONOTONIC, flags)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._waiter: asyncio.Future[None] | None = None
        self._loop.add_reader(self._fd, self._fire)

    async def until(self, monotonic_ns: int) -> None:
        """Returns once `time.monotonic_ns()` has reached `monotonic_ns`."""
        if time.monotonic_ns() >= monotonic_ns:
            return
        seconds, nanoseconds = divmod(monotonic_ns, 1_000_000_000)
        spec = _TimerSpec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        self._waiter = self._loop.create_future()
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await self._waiter

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _fire(self) -> None:
        os.read(self._fd, 8)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
