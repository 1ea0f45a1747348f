"""Blocking work in threads, its ends in the event loop."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sandboxd.node.hands import End, Hands


@pytest.fixture
async def hands() -> AsyncIterator[Hands]:
    hands = Hands(2, "test")
    yield hands
    await hands.close()


def outcome(hands: Hands, work: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def then(end: End[Any]) -> None:
        try:
            future.set_result((end.result(), threading.current_thread()))
        except ValueError as error:
            future.set_exception(error)

    hands.do(work, then)
    return future


async def test_work_is_done_elsewhere_and_its_end_told_here(hands: Hands) -> None:
    where, told = await outcome(hands, threading.current_thread)
    assert where is not threading.current_thread()
    assert told is threading.current_thread()


async def test_what_the_work_raises_is_raised_to_its_owner(hands: Hands) -> None:
    with pytest.raises(ValueError, match="as told"):
        await outcome(hands, lambda: (_ for _ in ()).throw(ValueError("as told")))
    assert (await outcome(hands, lambda: 1))[0] == 1


async def test_no_end_is_lost_however_many_come_at_once(hands: Hands) -> None:
    ends = await asyncio.gather(*(outcome(hands, lambda n=n: n) for n in range(2_000)))
    assert [value for value, _ in ends] == list(range(2_000))


async def test_at_most_so_many_work_at_once(hands: Hands) -> None:
    gate, inside = threading.Semaphore(0), threading.Semaphore(0)

    def work() -> None:
        inside.release()
        assert gate.acquire(timeout=20)

    futures = [outcome(hands, work) for _ in range(3)]
    assert await asyncio.to_thread(inside.acquire, timeout=20)
    assert await asyncio.to_thread(inside.acquire, timeout=20)
    assert not await asyncio.to_thread(inside.acquire, timeout=0.05)
    gate.release(3)
    await asyncio.gather(*futures)


async def test_an_end_that_fails_is_reported_and_does_not_stop_the_others(hands: Hands) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))

    def broken(end: End[int]) -> None:
        raise RuntimeError("broken")

    hands.do(lambda: 1, broken)
    await outcome(hands, lambda: 2)
    await asyncio.sleep(0)
    assert [str(report["exception"]) for report in reports] == ["broken"]


async def test_closing_waits_for_all_work() -> None:
    hands, done = Hands(1, "test"), []
    for number in range(20):
        hands.do(lambda number=number: done.append(number), lambda _: None)  # type: ignore[misc]
    await hands.close()
    assert done == list(range(20))
    await Hands(1, "unused").close()
