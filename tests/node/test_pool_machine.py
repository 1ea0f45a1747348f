"""The pool under every order of claims, cancellations, returns, failures and renewals."""

import asyncio
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sandboxd.drivers.exec.base import Built
from sandboxd.errors import DriverFault, Overload
from sandboxd.node import stock
from sandboxd.node.pool import Pool
from tests.node.fakes import FakeDriver, spec

CONCURRENCY = 2
TEMPLATES = ("a", "b")
Claim = asyncio.Task[Built]


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # Failures hold builds back for moments, not for seconds.
        self._patch = mock.patch.multiple(stock, _BACKOFF_FIRST=0.0005, _BACKOFF_MAX=0.001)
        self._patch.start()
        self.loop = asyncio.new_event_loop()
        self.driver = FakeDriver()
        self.held: dict[str, Built] = {}
        self.ever: set[str] = set()
        """Names that were handed out and used: each once."""
        self.claims: list[Claim] = []

    @initialize(wanted=st.tuples(*[st.integers(0, 3)] * 2))
    def start(self, wanted: tuple[int, int]) -> None:
        self.pool = Pool(self.driver, concurrency=CONCURRENCY, max_age=600.0)
        self.targets = dict(zip(TEMPLATES, wanted, strict=True))
        self._do(self._stock)

    @rule(names=st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a")]))
    def claim(self, names: tuple[str, ...]) -> None:
        async def begin() -> None:
            self.claims.append(asyncio.ensure_future(self.pool.claim(*names)))

        self._do(begin)

    @precondition(lambda self: self.claims)
    @rule(which=st.integers(0), settled=st.booleans())
    def cancel(self, which: int, settled: bool) -> None:
        """Also one whose sandbox is there already and was not taken yet."""

        async def end() -> None:
            claim = self.claims[which % len(self.claims)]
            if not settled:
                self.driver.gate.set()
                await asyncio.sleep(0.001)
            claim.cancel()

        self._do(end)

    @rule(failures=st.integers(0, 3))
    def fail(self, failures: int) -> None:
        self.driver.fail = failures

    @rule(opened=st.booleans())
    def gate(self, opened: bool) -> None:
        (self.driver.gate.set if opened else self.driver.gate.clear)()
        self._do(_nothing)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0), used=st.booleans())
    def give_back(self, which: int, used: bool) -> None:
        built = self.held.pop(sorted(self.held)[which % len(self.held)])
        if used:
            self.ever.add(built.name)

        async def end() -> None:
            (self.pool.discard if used else self.pool.restock)(built)

        self._do(end)

    @rule(name=st.sampled_from(TEMPLATES), wanted=st.integers(0, 3))
    def renew(self, name: str, wanted: int) -> None:
        async def change() -> None:
            self.pool.renew(spec(name), wanted)

        self.targets[name] = wanted
        self._do(change)

    @invariant()
    def nothing_is_shared_lost_or_too_many(self) -> None:
        if not hasattr(self, "pool"):
            return
        shelves = self.pool._shelves.values()
        ready = [built.name for shelf in shelves for built in shelf.ready]
        assert len(ready) == len({*ready})
        assert not {*ready} & {*self.held}, "handed out and still on the shelf"
        assert not {*ready} & self.ever, "used, and on the shelf again"
        assert {*self.held} <= {*self.driver.alive}, "destroyed in somebody's hands"
        assert {*ready} <= {*self.driver.alive}, "destroyed on the shelf"
        assert self.driver.most_at_once <= CONCURRENCY
        if self.driver.gate.is_set() and not self.driver.fail:
            assert self.pool.warm() == self.targets
            assert self.claims == [], "a claim waits although everything could be built"
            assert {*self.driver.alive} == {*ready, *self.held}, "a sandbox that nobody has"

    def teardown(self) -> None:
        try:
            if hasattr(self, "pool"):
                self.driver.fail = 0
                self.driver.gate.set()
                self._do(self._close)
                assert self.driver.alive == {}, "something outlives the pool"
        finally:
            self.loop.close()
            self._patch.stop()

    async def _stock(self) -> None:
        for name, target in self.targets.items():
            self.pool.stock(spec(name), target)

    async def _close(self) -> None:
        for built in self.held.values():
            self.pool.discard(built)
        await self.pool.close()
        for claim in self.claims:
            await asyncio.wait([claim])
            assert claim.cancelled() or isinstance(claim.exception(), Overload)
        self.claims.clear()

    def _do(self, act) -> None:  # type: ignore[no-untyped-def]
        async def then_rest() -> None:
            await act()
            await self._rest()

        self.loop.run_until_complete(then_rest())

    async def _rest(self) -> None:
        """Until nothing moves but what the closed gate or a failure to come holds."""
        async with asyncio.timeout(10):
            while True:
                await asyncio.sleep(0.001)
                self._collect()
                if not self.driver.gate.is_set() or not (self.pool._under_way or self._held_back()):
                    return

    def _held_back(self) -> bool:
        """Builds that wait for the end of a back-off; age alone is far off."""
        timers = [shelf.timer for shelf in self.pool._shelves.values() if shelf.timer is not None]
        return any(timer.when() - self.loop.time() < 1.0 for timer in timers)

    def _collect(self) -> None:
        for claim in [claim for claim in self.claims if claim.done()]:
            self.claims.remove(claim)
            if claim.cancelled():
                continue
            if isinstance(claim.exception(), DriverFault):
                continue
            built = claim.result()
            assert built.name not in self.held and built.name not in self.ever, "handed out twice"
            self.held[built.name] = built


async def _nothing() -> None: ...


PoolMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestPool = PoolMachine.TestCase
