"""Whom the guard answers for, and what it knows of them: who has which address, and whom it may still
take an address for. Touches nothing but the event loop's clock.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable

from msgspec import Struct

from sandboxd.drivers.network.guard.messages import Release, Seen
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.model.egress import EgressPolicy

_LATE = 5.0
"""Seconds that the guard has to say what the end of a sandbox, or of its policy, has cut."""


class Ward(Struct, frozen=True, eq=False):
    """A sandbox under a policy that speaks of names."""

    id: int
    slot: EgressSlot
    assignment: int
    group: int
    policy: EgressPolicy
    member: str
    told: Callable[[Seen], None]


class Wards:
    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._at: dict[str, Ward] = {}
        """By address."""
        self._seen: dict[int, Ward] = {}
        """By number, for a moment longer."""
        self._known: dict[str, int] = {}
        """Number of whom the guard takes an address for, or may still take it for."""
        self._released: dict[int, Ward] = {}
        """By the number of the message, which the guard has not answered yet."""

    def make(
        self, slot: EgressSlot, policy: EgressPolicy, member: str, told: Callable[[Seen], None]
    ) -> Ward:
        """As the slot is now; `enter` has it count."""
        number = next(self._ids)
        return Ward(number, slot, slot.assignments, slot.group, policy, member, told)

    def enter(self, ward: Ward) -> None:
        """From now on it has its addresses, whoever had them."""
        self._forget(ward.slot)
        self._seen[ward.id] = ward
        for address in ward.slot.addresses.texts:
            self._at[address] = ward

    def at(self, address: str) -> Ward | None:
        """Who has it now."""
        return self._at.get(address)

    def of_record(self, assignment: int) -> Ward | None:
        """Whom a record is about: who has just ended, too."""
        return self._seen.get(assignment)

    def members(self) -> Iterable[Ward]:
        """Those whom others may ask for by name."""
        return {ward.id: ward for ward in self._at.values() if ward.member}.values()

    def told(self, ward: Ward) -> None:
        """The guard was told of it."""
        self._known.update(dict.fromkeys(ward.slot.addresses.texts, ward.id))

    def unknown(self, slot: EgressSlot) -> bool:
        """Whether the guard takes the slot's addresses for nobody's, so that it will ask."""
        return self._known.keys().isdisjoint(slot.addresses.texts)

    def release(self, slot: EgressSlot) -> Release | None:
        """The slot's sandbox is gone: what the guard has to be told, if anything."""
        ward = self._forget(slot)
        if ward is None or not self._knows(ward):
            return None
        number = next(self._ids)
        self._released[number] = ward
        return Release(number, slot.addresses.texts)

    def done(self, number: int) -> None:
        """The guard has answered a message; perhaps a release."""
        ward = self._released.pop(number, None)
        if ward is not None and self._knows(ward):
            for address in ward.slot.addresses.texts:
                del self._known[address]

    def guard_ended(self) -> None:
        """Its successor knows nothing."""
        self._known.clear()
        self._released.clear()

    def _forget(self, slot: EgressSlot) -> Ward | None:
        """Who it was. What is cut is told in a moment."""
        ward, _ = [self._at.pop(address, None) for address in slot.addresses.texts]
        if ward is not None and self._knows(ward):
            asyncio.get_running_loop().call_later(_LATE, self._seen.pop, ward.id, None)
        elif ward is not None:
            del self._seen[ward.id]
        return ward

    def _knows(self, ward: Ward) -> bool:
        return self._known.get(ward.slot.addresses.texts[0]) == ward.id
