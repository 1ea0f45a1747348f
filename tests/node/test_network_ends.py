import asyncio

import pytest

from sandboxd.drivers.network.addresses import Plan
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.node.network_ends import Ends

_PLAN = Plan("ends", "10.201.0.0/16", "fd5d:b0c5:bbbb::/64", 1_000)


def slot(index: int) -> EgressSlot:
    return EgressSlot(fd=-1, addresses=_PLAN.slot(index), device=0, made_at=0.0)


async def test_ends_come_in_order_and_before_what_the_thread_has_called_after_them() -> None:
    seen: list[int] = []
    loop = asyncio.get_running_loop()
    ends = Ends(loop, lambda ended: seen.append(ended.addresses.index))
    late: list[int] = []

    def after(index: int) -> None:
        if index not in seen:
            late.append(index)

    def work() -> None:
        for index in range(1_000):
            ends.add(slot(index))
            loop.call_soon_threadsafe(after, index)

    await asyncio.to_thread(work)
    await asyncio.sleep(0)
    assert seen == list(range(1_000))
    assert not late


async def test_one_that_fails_takes_no_other_along() -> None:
    seen: list[int] = []
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    def over(ended: EgressSlot) -> None:
        seen.append(ended.addresses.index)
        if ended.addresses.index == 1:
            raise ValueError

    ends = Ends(loop, over)

    def work() -> None:
        for index in range(4):
            ends.add(slot(index))

    await asyncio.to_thread(work)
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == [0, 1, 2, 3]
    assert [type(error) for error in told] == [ValueError]


def test_a_loop_that_has_ended_hears_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    Ends(loop, lambda _: pytest.fail("called")).add(slot(0))
