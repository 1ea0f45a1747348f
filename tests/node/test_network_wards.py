"""Whom the guard takes an address for: the node's and the guard's ledgers, with messages that take their
time between them."""

import asyncio
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, integers

from sandboxd.drivers.network.addresses import Plan
from sandboxd.drivers.network.guard import registry
from sandboxd.drivers.network.guard.messages import (
    Assign,
    Done,
    Learn,
    Names,
    Nobody,
    Release,
    ToGuard,
    ToNode,
    Who,
)
from sandboxd.drivers.network.guard.registry import Client, Registry
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.model.egress import EgressPolicy
from sandboxd.node.network_wards import Ward, Wards

_PLAN = Plan("wards", "10.200.0.0/16", "fd5d:b0c5:aaaa::/64", 8)
_POLICY = EgressPolicy(name="test")
_NAMES = Names(allow=(), deny=(), deny_nets=(), resolve=True)


def slot() -> EgressSlot:
    return EgressSlot(fd=-1, addresses=_PLAN.slot(0), device=0, made_at=0.0)


def assign(ward: Ward) -> Assign:
    return Assign(ward.id, ward.slot.addresses.texts, 1, ward.member)


class Ledgers(RuleBasedStateMachine):
    """What `Guard` and the guard's process do with them, message by message."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.wards = Wards()
        self.slot = slot()
        self.living: Ward | None = None
        self._new_guard()

    def teardown(self) -> None:
        self.loop.close()

    def _new_guard(self) -> None:
        self.down: deque[ToGuard] = deque([Learn(1, _NAMES)])
        self.up: deque[ToNode] = deque()
        self.guard = Registry(self.up.append)

    def _guard_reads(self) -> None:
        match message := self.down.popleft():
            case Learn():
                self.guard.learn(message)
            case Assign():
                self.guard.assign(message)
                self.up.append(Done(message.id))
            case Release():
                self.guard.release(message)
                self.up.append(Done(message.id))
            case Nobody():
                self.guard.nobody(message)

    def _node_reads(self) -> None:
        match message := self.up.popleft():
            case Done():
                self.wards.done(message.id)
            case Who():
                ward = self.wards.at(message.address)
                if ward is None:
                    self.down.append(Nobody(message.address))
                else:
                    self._tell(ward)

    def _tell(self, ward: Ward) -> None:
        self.down.append(assign(ward))
        self.wards.told(ward)

    def _settle(self) -> None:
        while self.down or self.up:
            if self.down:
                self._guard_reads()
            if self.up:
                self._node_reads()

    @rule(member=booleans())
    def assigned(self, member: bool) -> None:
        ward = self.wards.make(self.slot, _POLICY, "db" if member else "", lambda _: None)
        waits = member or not self.wards.unknown(ward.slot)
        self._enter(ward)
        if waits:
            self._tell(ward)
            while Done(ward.id) not in self.up:
                self._guard_reads()
        self.living = ward

    def _enter(self, ward: Ward) -> None:
        async def enter() -> None:
            self.wards.enter(ward)

        self.loop.run_until_complete(enter())

    @precondition(lambda self: self.living)
    @rule()
    def ended(self) -> None:
        async def end() -> None:
            message = self.wards.release(self.slot)
            if message is not None:
                self.down.append(message)

        self.loop.run_until_complete(end())
        self.living = None

    @precondition(lambda self: self.living)
    @rule(family=integers(0, 1))
    def asked(self, family: int) -> None:
        """By a packet of a sandbox that lives: it is taken for that one, whatever is under way."""
        ward = self.living
        assert ward is not None
        address = ward.slot.addresses.texts[family]

        async def ask() -> Client | None:
            asking = asyncio.ensure_future(self.guard.client(address))
            await asyncio.sleep(0)
            if not asking.done():
                self._settle()
            return await asking

        client = self.loop.run_until_complete(ask())
        assert client is not None
        assert client.assignment == ward.id

    @precondition(lambda self: self.down)
    @rule()
    def guard_reads(self) -> None:
        self._guard_reads()

    @precondition(lambda self: self.up)
    @rule()
    def node_reads(self) -> None:
        self._node_reads()

    @rule()
    def guard_dies(self) -> None:
        self._new_guard()
        self.wards.guard_ended()
        for ward in self.wards.members():
            self._tell(ward)
        self._settle()

    @invariant()
    def nothing_is_kept_of_who_has_gone(self) -> None:
        if not self.living and not self.down and not self.up:
            assert self.wards.unknown(self.slot)


Ledgers.TestCase.settings = settings(max_examples=80, stateful_step_count=20, deadline=None)
TestLedgers = Ledgers.TestCase


@pytest.mark.parametrize("member", [False, True])
def test_who_comes_after_is_not_taken_for_who_was_there(member: bool) -> None:
    """The guard was told of the first, and has not read yet that it is gone."""
    ledgers = Ledgers()
    ledgers.assigned(member=member)
    ledgers.asked(family=0)
    ledgers.ended()
    ledgers.assigned(member=False)
    ledgers.asked(family=1)
    ledgers.teardown()


@pytest.fixture
def sent() -> list[ToNode]:
    return []


@pytest.fixture
def guard(sent: list[ToNode]) -> Iterator[Registry]:
    made = Registry(sent.append)
    made.learn(Learn(1, _NAMES))
    yield made


ADDRESSES = _PLAN.slot(0).texts


async def test_the_node_is_asked_once_and_nobody_waits_for_its_word_in_thousands(
    guard: Registry, sent: list[ToNode]
) -> None:
    flood = [asyncio.ensure_future(guard.client(ADDRESSES[0])) for _ in range(1_000)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sent == [Who(ADDRESSES[0])]
    assert sum(not one.done() for one in flood) == 100
    guard.assign(Assign(7, ADDRESSES, 1))
    found = await asyncio.gather(*flood)
    assert sum(one is not None and one.assignment == 7 for one in found) == 100


async def test_an_answer_for_the_other_address_cuts_nothing(guard: Registry) -> None:
    asking = [asyncio.ensure_future(guard.client(address)) for address in ADDRESSES]
    await asyncio.sleep(0)
    guard.assign(Assign(7, ADDRESSES, 1))
    first, _ = await asyncio.gather(*asking)
    assert first is not None
    carrying = asyncio.ensure_future(asyncio.sleep(60))
    first.connections.add(carrying)
    guard.assign(Assign(7, ADDRESSES, 1))
    await asyncio.sleep(0)
    assert not carrying.cancelled()
    guard.assign(Assign(8, ADDRESSES, 1))
    await asyncio.gather(carrying, return_exceptions=True)
    assert carrying.cancelled()


async def test_nobodys_packets_get_no_answer_and_the_next_is_asked_about_again(
    guard: Registry, sent: list[ToNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = asyncio.ensure_future(guard.client(ADDRESSES[1]))
    await asyncio.sleep(0)
    guard.nobody(Nobody(ADDRESSES[1]))
    assert await asking is None
    monkeypatch.setattr(registry, "_PATIENCE", 0.01)
    assert await guard.client(ADDRESSES[1]) is None, "the node said nothing"
    assert await guard.client(ADDRESSES[1]) is None
    assert sent == [Who(ADDRESSES[1])] * 3
