"""The pool over a driver that builds nothing real."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built, WarmUp
from sandboxd.errors import Conflict, DriverFault, Overload
from sandboxd.native.plan import ExecOrder
from sandboxd.node import burial, demand, stock
from sandboxd.node import pool as pools
from sandboxd.node.pool import Pool
from tests.node.fakes import FakeDriver, spec


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
async def pool(driver: FakeDriver) -> AsyncIterator[Pool]:
    pool = Pool(driver, concurrency=2, max_age=600.0)
    yield pool
    driver.gate.set()
    await pool.close()
    assert driver.alive == {}, "the pool kept a sandbox alive"


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until the condition holds: builds end in threads, which wake the loop."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def ready(pool: Pool, template: str = "t") -> int:
    return pool.warm()[template]


async def test_target_is_reached_and_kept(pool: Pool, driver: FakeDriver) -> None:
    pool.stock(spec(), 3)
    await until(lambda: ready(pool) == 3)
    built = await pool.claim("t")
    await until(lambda: ready(pool) == 3)
    assert driver.made == 4 and pool.cold_claims == 0
    pool.discard(built)
    await until(lambda: built.name in driver.destroyed)


async def test_what_tenants_wish_for_has_to_find_room(driver: FakeDriver) -> None:
    pool = Pool(driver, concurrency=2, max_age=600.0, room=6 << 20)
    pool.stock(spec("operators"), 2)
    pool.stock(spec("a"), 0, 64, wish=3)
    pool.stock(spec("b"), 0, 64, wish=64)
    await until(lambda: sum(pool.warm().values()) == 6)
    assert pool.warm() == {"operators": 2, "a": 3, "b": 1}
    pool.bounds("a", 1, 64)
    await until(lambda: ready(pool, "a") == 1)
    pool.bounds("b", 2, 64)
    await until(lambda: ready(pool, "b") == 2)
    await pool.close()


async def test_a_sandbox_with_an_interpreter_takes_the_room_of_several(driver: FakeDriver) -> None:
    pool = Pool(driver, concurrency=2, max_age=600.0, room=40 << 20)
    order = ExecOrder(argv=["/bin/true"], env={}, open_files=64, stack=1, file_size=1)
    waiting = WarmUp(order=order, zygote=order, copies=0, binds=())
    pool.stock(replace(spec("warm"), warm=waiting), 0, 64, wish=64)
    await until(lambda: ready(pool, "warm") == 2)
    pool.stock(spec("plain"), 0, 64, wish=64)
    await until(lambda: ready(pool, "plain") == 8)  # what two times sixteen leave
    assert ready(pool, "warm") == 2
    await pool.close()


async def test_what_is_slow_to_build_is_kept_ahead_for_longer(
    pool: Pool, driver: FakeDriver
) -> None:
    """The same arrivals, but builds that last as long as the horizon, and next to nothing."""
    driver.gate.clear()  # no build of its own makes the pool think otherwise
    now = time.monotonic()
    for name, seconds in (("slow", demand.HORIZON), ("quick", 0.001)):
        pool.stock(spec(name), 0, 64)
        shelf = pool._shelves[name]
        shelf.demand.built(seconds)
        for arrival in range(100):
            shelf.demand.note(now - 20.0 + arrival / 5)
        pool._step(shelf)
    slow, quick = (pool._shelves[name].target for name in ("slow", "quick"))
    assert 3 * quick < slow <= demand.REFILLS * (quick + 1)


async def test_how_long_builds_take_is_measured(pool: Pool, driver: FakeDriver) -> None:
    driver.gate.clear()
    pool.stock(spec(), 1)
    await until(lambda: driver.at_once == 1)
    await asyncio.sleep(0.6)
    driver.gate.set()
    await until(lambda: ready(pool) == 1)
    assert pool._shelves["t"].demand.horizon >= demand.REFILLS * 0.6 > demand.HORIZON


async def test_builds_at_once_are_bounded_over_all_templates(
    pool: Pool, driver: FakeDriver
) -> None:
    driver.gate.clear()
    pool.stock(spec("a"), 5)
    pool.stock(spec("b"), 5)
    await until(lambda: driver.at_once == 2)
    driver.gate.set()
    await until(lambda: ready(pool, "a") == ready(pool, "b") == 5)
    assert driver.most_at_once == 2


async def test_warm_sandboxes_are_handed_out_oldest_first(pool: Pool, driver: FakeDriver) -> None:
    pool.stock(spec(), 3)
    await until(lambda: ready(pool) == 3)
    claimed = [await pool.claim("t") for _ in range(3)]
    times = [built.built_at for built in claimed]
    assert times == sorted(times)
    for built in claimed:
        pool.discard(built)


async def test_a_sandbox_that_ended_on_the_shelf_is_given_to_nobody(
    pool: Pool, driver: FakeDriver
) -> None:
    pool.stock(spec(), 3)
    await until(lambda: ready(pool) == 3)
    driver.ended = {"t-1", "t-2"}
    built = await pool.claim("t")
    assert built.name == "t-3" and pool.cold_claims == 0
    await until(lambda: {*driver.destroyed} == {"t-1", "t-2"} and ready(pool) == 3)
    driver.ended |= {"t-4", "t-5", "t-6"}
    last = await pool.claim("t")  # of none on the shelf: it waits for the next build
    assert last.name == "t-7" and pool.cold_claims == 1
    for each in (built, last):
        pool.discard(each)


async def test_claims_are_served_in_the_order_they_came(pool: Pool, driver: FakeDriver) -> None:
    driver.gate.clear()
    pool.stock(spec(), 0)
    served: list[int] = []

    async def claim(number: int) -> None:
        built = await pool.claim("t")
        served.append(number)
        pool.discard(built)

    claims = [asyncio.create_task(claim(number)) for number in range(6)]
    await asyncio.sleep(0)
    driver.gate.set()
    await asyncio.gather(*claims)
    assert served == list(range(6))
    assert pool.cold_claims == 6


async def test_claim_of_an_unknown_template_is_a_fault(pool: Pool) -> None:
    with pytest.raises(DriverFault, match="nothing"):
        await pool.claim("nothing")


async def _two_waiting(
    pool: Pool, driver: FakeDriver
) -> tuple["asyncio.Task[Built]", "asyncio.Task[Built]"]:
    driver.gate.clear()
    first = asyncio.create_task(pool.claim("t"))
    second = asyncio.create_task(pool.claim("t"))
    await until(lambda: driver.at_once == 2)
    return first, second


async def test_cancelled_claim_asks_for_no_sandbox(pool: Pool, driver: FakeDriver) -> None:
    pool.stock(spec(), 0)
    first, second = await _two_waiting(pool, driver)
    first.cancel()
    driver.gate.set()
    built = await second
    await until(lambda: driver.made == 2)
    # The other build was under way already; nobody wants its sandbox, so it goes.
    await until(lambda: len(driver.destroyed) == 1)
    pool.discard(built)


async def test_sandbox_of_a_claim_cancelled_too_late_goes_to_the_next(
    pool: Pool, driver: FakeDriver
) -> None:
    """The next one's own build is still under way, or may fail: it must not wait beside a sandbox."""
    pool.stock(spec(), 0)
    built = await pool.claim("t")
    first, second = await _two_waiting(pool, driver)
    pool.restock(built)  # the first claim has it, and before it can say so
    first.cancel()
    assert await asyncio.wait_for(second, 10) is built
    assert first.cancelled()
    driver.gate.set()
    pool.discard(built)
    await until(lambda: len(driver.destroyed) == driver.made == 3)


async def test_failed_build_reaches_who_waits(pool: Pool, driver: FakeDriver) -> None:
    driver.fail = 1
    pool.stock(spec(), 0)
    with pytest.raises(DriverFault, match="as told"):
        await pool.claim("t")
    assert pool.build_failures == 1


async def test_builds_are_held_back_after_a_failure_then_tried_again(
    pool: Pool, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock, "_BACKOFF_FIRST", 0.02)
    driver.fail = 3
    pool.stock(spec(), 1)
    await until(lambda: ready(pool) == 1)
    assert (pool.build_failures, driver.made) == (3, 1)


async def test_stale_sandboxes_are_replaced(driver: FakeDriver) -> None:
    pool = Pool(driver, concurrency=2, max_age=0.05)
    pool.stock(spec(), 2)
    await until(lambda: len(driver.destroyed) >= 2 and ready(pool) == 2)
    await pool.close()
    assert driver.alive == {}


async def test_unused_sandbox_goes_back_to_the_front(pool: Pool, driver: FakeDriver) -> None:
    pool.stock(spec(), 2)
    await until(lambda: ready(pool) == 2)
    built = await pool.claim("t")
    await until(lambda: ready(pool) == 2)
    pool.restock(built)
    assert await pool.claim("t") is built
    pool.discard(built)


async def test_unused_sandbox_goes_to_who_waits(pool: Pool, driver: FakeDriver) -> None:
    pool.stock(spec(), 0)
    built = await pool.claim("t")
    driver.gate.clear()
    claim = asyncio.create_task(pool.claim("t"))
    await asyncio.sleep(0)
    pool.restock(built)
    assert await claim is built
    driver.gate.set()
    pool.discard(built)


async def test_close_destroys_all_and_ends_waiting_claims(driver: FakeDriver) -> None:
    pool = Pool(driver, concurrency=2, max_age=600.0)
    pool.stock(spec("a"), 3)
    pool.stock(spec("b"), 0)
    await until(lambda: ready(pool, "a") == 3)
    driver.gate.clear()
    claim = asyncio.create_task(pool.claim("b"))
    await until(lambda: driver.at_once == 1)
    closing = asyncio.create_task(pool.close())
    await asyncio.wait([claim])
    with pytest.raises(Overload):
        await pool.claim("b")
    driver.gate.set()
    await closing
    assert claim.cancelled() and driver.alive == {} and driver.at_once == 0


async def test_sandbox_that_will_not_go_stops_nothing(pool: Pool, driver: FakeDriver) -> None:
    pool.stock(spec(), 1)
    built = await pool.claim("t")
    driver.stuck.add(built.name)
    pool.discard(built)
    pool.discard(await pool.claim("t"))
    await until(lambda: driver.destroyed != [])
    driver.stuck.clear()
    driver.destroy(built)


async def test_what_a_request_cannot_have_is_told_to_who_asks(
    pool: Pool, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox with a volume that another node holds: nobody waits for ever."""

    def taken(_: object) -> Built:
        raise Conflict("the volume is in use")

    monkeypatch.setattr(driver, "build", taken)
    async with asyncio.timeout(10):
        with pytest.raises(Conflict):
            await pool.make(spec())


async def test_what_can_wait_gives_way_to_runs(
    pool: Pool, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No build and no burial while claims come and the stock lasts; both follow by themselves."""
    pool.stock(spec(), 6)
    await until(lambda: ready(pool) == 6)
    monkeypatch.setattr(stock, "QUIET", 0.3)
    monkeypatch.setattr(burial, "QUIET", 0.3)
    monkeypatch.setattr(burial, "_LONGEST", 60.0)
    for left in (5, 4, 3):
        pool.discard(await pool.claim("t"))
        await asyncio.sleep(0.02)
        assert (driver.made, driver.destroyed, ready(pool)) == (6, [], left)
    pool.discard(await pool.claim("t"))
    await until(lambda: driver.made >= 8)  # fewer than half: builds cannot wait
    assert driver.destroyed == []
    await until(lambda: len(driver.destroyed) == 4 and ready(pool) == 6)


async def test_the_dead_do_not_pile_up(
    pool: Pool, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast claims come."""
    monkeypatch.setattr(burial, "_MOST", 3)
    monkeypatch.setattr(burial, "_LONGEST", 60.0)
    pool.stock(spec(), 0)
    for _ in range(4):
        pool.discard(await pool.claim("t"))
        pool._claimed_at += 60.0
    await until(lambda: len(driver.destroyed) == 4)
    monkeypatch.setattr(burial, "_LONGEST", 0.05)
    pool.discard(await pool.claim("t"))
    pool._claimed_at += 60.0
    await until(lambda: len(driver.destroyed) == 5)


async def test_a_burst_is_built_on_demand_remembered_and_forgotten(
    pool: Pool, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody of it fails, however few were ready; the next one finds more; an idle template shrinks."""
    pool.stock(spec(), 2, 16)
    await until(lambda: ready(pool) == 2)
    burst = await asyncio.gather(*(pool.claim("t") for _ in range(40)))
    assert len({built.name for built in burst}) == 40
    for built in burst:
        pool.discard(built)
    await until(lambda: ready(pool) == 16)  # the most that it may keep
    for name in ("HALF_LIFE", "BURST_HALF_LIFE"):
        monkeypatch.setattr(demand, name, 0.01)
    monkeypatch.setattr(pools, "LOOK_AGAIN", 0.05)
    pool.bounds("t", 1, 16)  # the timer of the next look was set by the hour before
    await until(lambda: ready(pool) == 2)
    await until(lambda: len(driver.alive) == 2)
