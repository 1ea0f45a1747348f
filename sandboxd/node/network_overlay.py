"""Group networks that span nodes: tells the others who is here, and hears from them who is there.

A node that falls silent is forgotten when its record expires. While Redis does not answer, what was heard
last goes on to hold.
"""

import asyncio
import logging
from typing import Protocol

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.errors import DriverFault, Unavailable
from sandboxd.model.overlay import Mate, OverlayRecord
from sandboxd.queue.overlay import TTL

log = logging.getLogger(__name__)

_BEAT = TTL / 3
_RETRY = 1.0


class Directory(Protocol):
    async def tell(self, record: OverlayRecord, *, changed: bool) -> None: ...
    async def forget(self, node: str) -> None: ...
    async def others(self, node: str, wait: float) -> list[OverlayRecord]: ...


class Names(Protocol):
    """The guard, as far as it is told of others' sandboxes."""

    def meet(self, mates: dict[int, dict[str, tuple[str, str]]]) -> None: ...


class Overlay:
    def __init__(
        self, node: str, driver: EgressNetwork, guard: Names, directory: Directory
    ) -> None:
        self._node, self._driver, self._guard = node, driver, guard
        self._directory = directory
        self._mates: dict[int, Mate] = {}
        """Ours, by slot."""
        self._changed = asyncio.Event()
        self._heard: list[OverlayRecord] = []
        self._groups: dict[str, int] = {}
        """Of the networks that are here, as of the last time that all was put together."""

    async def joined(self, slot: EgressSlot, name: str) -> None:
        """The slot's sandbox is in a group, or in another than before. Raises DriverFault."""
        addresses = slot.addresses
        group = await asyncio.to_thread(self._driver.network_of, slot)
        self._mates[addresses.index] = Mate(
            group=group, name=name, ipv4=str(addresses.ipv4), ipv6=str(addresses.ipv6)
        )
        if self._groups.get(group) != slot.group:  # the first of its network here
            await self._meet()
        self._changed.set()

    def left(self, slot: EgressSlot) -> None:
        if self._mates.pop(slot.addresses.index, None) is not None:
            self._changed.set()

    async def run(self) -> None:
        """Tell and hear, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tell())
                tasks.create_task(self._hear())
        finally:
            await self._farewell()

    async def _tell(self) -> None:
        changed = True
        while True:
            record = OverlayRecord(
                node=self._node, peer=self._driver.own, mates=tuple(self._mates.values())
            )
            try:
                await self._directory.tell(record, changed=changed)
            except Unavailable as error:
                log.warning("other nodes do not hear of this one: %s", error)
                await asyncio.sleep(_RETRY)
                continue
            changed = await self._news()

    async def _news(self) -> bool:
        try:
            async with asyncio.timeout(_BEAT):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def _hear(self) -> None:
        while True:
            try:
                heard = await self._directory.others(self._node, _BEAT)
                if heard != self._heard:
                    self._heard = heard
                    await self._meet()
            except (Unavailable, DriverFault) as error:
                log.warning("what other nodes say has no effect: %s", error)
                await asyncio.sleep(_RETRY)

    async def _meet(self) -> None:
        mates = [mate for record in self._heard for mate in record.mates]
        peers = [record.peer for record in self._heard]
        groups = await asyncio.to_thread(self._driver.connect, peers, mates)
        self._groups = groups
        named: dict[int, dict[str, tuple[str, str]]] = {}
        for mate in mates:
            if mate.group in groups:
                names = named.setdefault(groups[mate.group], {})
                names.setdefault(mate.name, (mate.ipv4, mate.ipv6))
        self._guard.meet(named)

    async def _farewell(self) -> None:
        try:
            await self._directory.forget(self._node)
        except Unavailable:
            log.warning("other nodes wait for this one to expire")
