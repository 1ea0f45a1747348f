"""Used sandboxes, which are destroyed once claims pause: while runs come, they have the machine."""

import asyncio
import time
from collections.abc import Callable

from sandboxd.drivers.exec.base import Built
from sandboxd.node.stock import QUIET

_MOST, _LONGEST = 32, 0.25
"""How many wait, and how many seconds: their files still hold memory."""


class Burial:
    def __init__(self, destroy: Callable[[Built], None], claimed_at: Callable[[], float]) -> None:
        """`destroy` begins to destroy one; `claimed_at` is when a sandbox was last asked for, in
        seconds of time.monotonic."""
        self._destroy, self._claimed_at = destroy, claimed_at
        self._dead: list[Built] = []
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, built: Built) -> None:
        if not self._dead:
            self._since = time.monotonic()
        self._dead.append(built)
        if len(self._dead) > _MOST or self._closed:
            self._all()
        elif self._timer is None:
            self._after(QUIET)

    def close(self) -> None:
        """From now on nothing waits."""
        self._closed = True
        self._all()

    def _after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._if_quiet)

    def _if_quiet(self) -> None:
        self._timer = None
        due = min(self._claimed_at() + QUIET, self._since + _LONGEST)
        left = due - time.monotonic()
        if left <= 0:
            self._all()
        elif self._dead:
            self._after(left)

    def _all(self) -> None:
        dead, self._dead = self._dead, []
        for built in dead:
            self._destroy(built)
