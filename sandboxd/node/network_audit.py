"""What sandboxes that stay ask of their networks, on its way to where it outlives them.

Records come in the event loop and go in batches. While the store does not answer, so many of each sandbox
wait; of those beyond, the newest are lost, and the next that is written says how many.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct, field

from sandboxd.errors import DriverFault, Unavailable
from sandboxd.model.moment import rfc3339
from sandboxd.model.network_use import NetworkRecord

_PENDING_MAX = 500
_GATHER, _RETRY = 0.1, 1.0


class Store(Protocol):
    async def append(self, sandbox: str, records: Sequence[NetworkRecord]) -> None:
        """Raises Unavailable, DriverFault."""


class _Pending(Struct):
    records: list[NetworkRecord] = field(default_factory=list)
    lost: int = 0


class NetworkAudit:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: dict[str, _Pending] = {}
        self._some = asyncio.Event()

    def add(self, sandbox: str, record: NetworkRecord) -> None:
        pending = self._pending.setdefault(sandbox, _Pending())
        if len(pending.records) < _PENDING_MAX:
            pending.records.append(record)
        else:
            pending.lost += 1
        self._some.set()

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(_GATHER)
            self._some.clear()
            if not await self.flush():
                self._some.set()
                await asyncio.sleep(_RETRY)

    async def flush(self) -> bool:
        """Whether all that had come is written."""
        for sandbox in list(self._pending):
            pending = self._pending.pop(sandbox)
            try:
                await self._store.append(sandbox, [*pending.records, *_gap(pending.lost)])
            except (Unavailable, DriverFault):
                self._put_back(sandbox, pending)
                return False
        return True

    def _put_back(self, sandbox: str, former: _Pending) -> None:
        """Before those that have come since."""
        since = self._pending.pop(sandbox, _Pending())
        records = [*former.records, *since.records]
        lost = former.lost + since.lost + max(0, len(records) - _PENDING_MAX)
        self._pending[sandbox] = _Pending(records[:_PENDING_MAX], lost)


def _gap(lost: int) -> list[NetworkRecord]:
    if not lost:
        return []
    return [NetworkRecord(at=rfc3339(time.time()), kind="gap", verdict=f"{lost} records are lost")]
