"""What the sandboxes of a node have used over time: a sample of each now and then, the newest kept."""

import asyncio
import contextlib
import math
from array import array
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from sandboxd.errors import SandboxdError
from sandboxd.model.moment import rfc3339
from sandboxd.model.session import Metrics
from sandboxd.model.session_metrics import MetricsSample

if TYPE_CHECKING:
    from sandboxd.node.sessions.session import Session

_FIELDS = ("cpu_time", "memory", "pids", "disk", "processes", "rx_bytes", "tx_bytes")
_ROW = 1 + len(_FIELDS)


class History:
    """A ring of rows, since most sandboxes are idle and there may be thousands."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows = array("d")
        self._next = 0

    def add(self, at: float, metrics: Metrics) -> None:
        """`at`: seconds since the epoch, later than those before."""
        # As exactly as it is shown, so that what is shown says where to go on.
        shown = math.floor(at * 1000) / 1000
        row = array("d", (shown, *(getattr(metrics, name) for name in _FIELDS)))
        if len(self._rows) < self._most * _ROW:
            self._rows += row
            return
        self._rows[self._next : self._next + _ROW] = row
        self._next = (self._next + _ROW) % len(self._rows)

    def samples(self, after: float = 0.0) -> list[MetricsSample]:
        """Those that are later, the oldest first."""
        return [_sample(row) for row in self._ordered() if row[0] > after]

    def _ordered(self) -> Iterator["array[float]"]:
        for start in (*range(self._next, len(self._rows), _ROW), *range(0, self._next, _ROW)):
            yield self._rows[start : start + _ROW]


def _sample(row: "array[float]") -> MetricsSample:
    at, cpu_time, *counts = row
    memory, pids, disk, processes, rx_bytes, tx_bytes = (int(count) for count in counts)
    return MetricsSample(
        at=rfc3339(at),
        cpu_time=cpu_time,
        memory=memory,
        pids=pids,
        disk=disk,
        processes=processes,
        rx_bytes=rx_bytes,
        tx_bytes=tx_bytes,
    )


async def sample(live: Callable[[], Collection["Session"]], interval: float) -> None:
    """Ask each sandbox that is not paused every `interval` seconds or so, until cancelled; spread over
    that time, so that nobody feels it."""
    while True:
        sessions = list(live())
        pause = interval / max(1, len(sessions))
        for session in sessions:
            if not session.life.paused:
                with contextlib.suppress(SandboxdError):  # it has ended meanwhile
                    await session.remember()
            await asyncio.sleep(pause)
        if not sessions:
            await asyncio.sleep(pause)
