"""What a sandbox did with its network, as far as it is written down."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.flows import Flow
from sandboxd.drivers.network.guard.messages import Seen
from sandboxd.drivers.network.nflog import Report
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.model.network_use import NetworkRecord, NetworkUse

_RECORDS_MAX = 1_000
_UNDER_WAY = 0.03
"""Seconds after which what the kernel and the guard have to tell has been told."""


class Use:
    """Grows while its sandbox lives."""

    def __init__(self, slot: EgressSlot, network: EgressNetwork) -> None:
        self._slot, self._network = slot, network
        self._records: list[NetworkRecord] = []
        self._more = 0
        self.listener: Callable[[NetworkRecord], None] | None = None
        """Gets each record as it comes, those beyond the kept ones too."""

    def add(self, record: NetworkRecord) -> None:
        if len(self._records) < _RECORDS_MAX:
            self._records.append(record)
        else:
            self._more += 1
        if self.listener is not None:
            self.listener(record)

    async def told(self) -> NetworkUse:
        """What there is by now. The sandbox must still be there. Raises DriverFault."""
        if self._slot.port is None:
            sent, received = self._network.traffic(self._slot)
        else:
            sent, received = await self._network.soon(self._network.traffic, self._slot)
        if sent:
            await asyncio.sleep(_UNDER_WAY)
        return NetworkUse(
            sent=sent, received=received, records=list(self._records), more=self._more
        )


def of_guard(seen: Seen) -> NetworkRecord:
    return NetworkRecord(
        at=_now(),
        kind="name" if seen.what == "name" else "connection",
        verdict=seen.verdict,
        name=seen.name,
        protocol="" if seen.what == "name" else "tcp",
        address=seen.address,
        port=seen.port,
        sent=seen.sent,
        received=seen.received,
    )


def of_firewall(report: Report) -> NetworkRecord:
    verdict, _, rule = report.prefix.partition(":")
    allowed = verdict == "allowed"
    return NetworkRecord(
        at=_now(),
        kind="connection" if allowed else "refused",
        verdict="allowed" if allowed else rule,
        protocol=report.protocol,
        address=report.target,
        port=report.port,
    )


def of_flow(flow: Flow) -> NetworkRecord:
    return NetworkRecord(
        at=_now(),
        kind="ended",
        verdict="allowed",
        protocol=flow.protocol,
        address=flow.target,
        port=flow.port,
        sent=flow.sent,
        received=flow.received,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
