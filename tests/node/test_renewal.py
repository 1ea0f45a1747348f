"""A template whose image has a new meaning: the pool changes over, and nobody gets the old one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.graph.image import Image
from sandboxd.node.pool import Pool
from tests.node.fakes import FakeDriver, spec
from tests.node.test_pool import ready, until


@pytest.fixture
async def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
async def pool(driver: FakeDriver) -> AsyncIterator[Pool]:
    pool = Pool(driver, concurrency=2, max_age=600.0)
    yield pool
    driver.gate.set()
    await pool.close()
    assert driver.alive == {}, "the pool kept a sandbox alive"


def renewed() -> Spec:
    image = Image(name="host", lower=Path("/elsewhere"), binds=())
    return msgspec.structs.replace(spec(), image=image)


async def test_what_is_ready_of_the_old_is_destroyed(pool: Pool, driver: FakeDriver) -> None:
    pool.stock(spec(), 3)
    await until(lambda: ready(pool) == 3)
    old = set(driver.alive)
    new = renewed()
    pool.renew(new, 2)
    await until(lambda: ready(pool) == 2 and old <= set(driver.destroyed))
    assert (await claimed(pool)).image is new.image


async def test_a_build_of_the_old_that_ends_later_is_not_handed_out(
    pool: Pool, driver: FakeDriver
) -> None:
    driver.gate.clear()
    pool.stock(spec(), 2)
    await until(lambda: driver.at_once == 2)
    claim = asyncio.create_task(claimed(pool))
    new = renewed()
    pool.renew(new, 1)
    driver.gate.set()
    assert (await claim).image is new.image


async def test_one_that_comes_back_unused_is_destroyed(pool: Pool, driver: FakeDriver) -> None:
    pool.stock(spec(), 1)
    built = await pool.claim("t")
    pool.renew(renewed(), 0)
    pool.restock(built)
    await until(lambda: built.name in driver.destroyed)
    assert ready(pool) == 0


async def claimed(pool: Pool) -> Spec:
    built = await pool.claim("t")
    pool.discard(built)
    return built.spec
