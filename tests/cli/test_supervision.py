"""How a child is kept running, without processes."""

import asyncio

import pytest

from sandboxd.cli import supervision
from sandboxd.cli.supervision import Supervised
from sandboxd.errors import DriverFault


class Fake:
    def __init__(self) -> None:
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self.code)

    async def stop(self, grace: float) -> int:
        if not self.code.done():
            self.code.set_result(0)
        return await self.wait()


class Starts:
    """Fakes, and a way to wait for the next one."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Fake] = asyncio.Queue()
        self.failures = 0

    async def __call__(self) -> Fake:
        if self.failures:
            self.failures -= 1
            raise DriverFault("redis", "start", "no")
        fake = Fake()
        self.queue.put_nowait(fake)
        return fake


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_PAUSE", 0.001)
    monkeypatch.setattr(supervision, "_PAUSE_MAX", 0.01)


async def test_every_death_after_the_start_is_followed_by_a_new_life() -> None:
    starts, settled = Starts(), asyncio.Event()
    settled.set()
    child = Supervised("x", starts, settled)
    await child.start()
    for code in (1, -9, 0, 2):
        (await starts.queue.get()).code.set_result(code)
    last = await starts.queue.get()
    assert not last.code.done()
    await child.stop(1)
    assert last.code.done()
    assert starts.queue.empty()
    assert not child.ended.done()


async def test_a_start_that_fails_is_tried_again() -> None:
    starts, settled = Starts(), asyncio.Event()
    settled.set()
    child = Supervised("x", starts, settled)
    await child.start()
    starts.failures = 3
    (await starts.queue.get()).code.set_result(-9)
    await starts.queue.get()
    assert starts.failures == 0
    await child.stop(1)


async def test_before_the_service_is_ready_an_exit_is_final_and_a_kill_is_not() -> None:
    starts, settled = Starts(), asyncio.Event()
    child = Supervised("x", starts, settled)
    await child.start()
    (await starts.queue.get()).code.set_result(-9)
    (await starts.queue.get()).code.set_result(2)
    assert await child.ended == 2
    await child.stop(1)
    assert starts.queue.empty()
