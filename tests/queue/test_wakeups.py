"""Nobody who waits is forgotten."""

import asyncio
from collections.abc import Callable

import pytest

from sandboxd.model import Job, Lease, NodeRecord, Result, Status
from sandboxd.queue import CancelOutcome, Queue
from sandboxd.settings import Settings

Make = Callable[..., Job]

LONG = 60.0
"""A wait of this length that has to run out fails the test by its timeout."""


async def work(queue: Queue, node: str, started: set[str], total: int) -> None:
    """A node with room for two jobs, as short as one can be written."""
    while len(started) < total:
        leases = await queue.claim(node, jobs=2, cpu=2000, memory=1 << 40)
        for lease in leases:
            assert await queue.start(lease)
            assert lease.job.id not in started
            assert lease.job.node in (None, node)
            started.add(lease.job.id)
            assert await queue.complete(lease, Result(id=lease.job.id, status=Status.OK))
        if not leases and len(started) < total:
            await queue.wait(node, LONG)


@pytest.mark.timeout(50)
async def test_fifty_nodes_and_fifty_submitters_lose_no_job(settings: Settings, job: Make) -> None:
    queue = Queue.connect(settings)
    total, started = 1000, set[str]()
    replies: list[Result] = []

    async def submit() -> None:
        for _ in range(total // 50):
            await queue.submit(job(reply_to="g1"))
            await asyncio.sleep(0)

    async def listen() -> None:
        while len(replies) < total:
            replies.extend(await queue.replies("g1", LONG))

    async with asyncio.TaskGroup() as group:
        nodes = [group.create_task(work(queue, f"n{i}", started, total)) for i in range(50)]
        for _ in range(50):
            group.create_task(submit())
        await group.create_task(listen())
        for node in nodes:  # the last of them wait for work that will not come
            node.cancel()
    assert len(started) == total
    assert len({result.id for result in replies}) == len(replies) == total
    await queue.close()


@pytest.mark.timeout(50)
async def test_jobs_of_one_node_alone_wake_it_and_no_other(settings: Settings, job: Make) -> None:
    queue = Queue.connect(settings)
    total, started = 600, set[str]()

    async def submit(first: int) -> None:
        for number in range(first, total, 20):
            await queue.submit(job(node=f"n{number % 7}" if number % 3 else None))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        nodes = [group.create_task(work(queue, f"n{i}", started, total)) for i in range(10)]
        submitters = [group.create_task(submit(first)) for first in range(20)]
        await asyncio.gather(*submitters)
        while len(started) < total:
            await asyncio.sleep(0.01)
        for node in nodes:
            node.cancel()
    assert len(started) == total
    await queue.close()


async def test_a_job_waits_for_its_node_in_its_place(settings: Settings, job: Make) -> None:
    queue = Queue.connect(settings)
    ids = [await queue.submit(job(node=node)) for node in (None, "n1", None, "n2", "n1", None)]

    async def claim(node: str, jobs: int) -> list[str]:
        return [
            lease.job.id for lease in await queue.claim(node, jobs=jobs, cpu=10**6, memory=1 << 50)
        ]

    assert await claim("n1", 3) == ids[:3]
    assert queue.left_behind("n1"), "its own and the others'"
    assert await claim("n3", 9) == [ids[5]]
    assert not queue.left_behind("n3"), "what is left is not for it"
    assert await claim("n1", 9) == [ids[4]]
    assert (await queue.stats()).queued == 1
    assert await queue.cancel(ids[3]) is CancelOutcome.CANCELLED
    assert await claim("n2", 9) == [] and (await queue.stats()).queued == 0
    await queue.close()


@pytest.mark.timeout(50)
async def test_fifty_waiters_of_one_node_lose_no_job(settings: Settings, job: Make) -> None:
    queue = Queue.connect(settings)
    total, started = 200, set[str]()
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work(queue, "n1", started, total)) for _ in range(50)]
        for _ in range(total):
            await queue.submit(job(reply_to="g1"))
        replies = 0
        while replies < total:
            replies += len(await queue.replies("g1", LONG))
        for worker in workers:
            worker.cancel()
    assert (await queue.stats()).finished == total
    await queue.close()


async def test_a_job_that_a_node_leaves_behind_wakes_the_next_node(queue: Queue, job: Make) -> None:
    for node in ("n1", "n2"):
        assert await claim(queue, node) == []
    waits = [asyncio.create_task(queue.wait(node, LONG)) for node in ("n1", "n2")]
    await queue.submit(job())
    first, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    assert len(others) == 1
    [woken] = [f"n{i + 1}" for i, wait in enumerate(waits) if wait in first]
    assert await queue.claim(woken, jobs=1, cpu=0, memory=0) == []  # no room
    await others.pop()


async def test_a_token_sent_before_the_wait_began_is_not_lost(queue: Queue, job: Make) -> None:
    await claim(queue, "n1")
    await queue.submit(job())
    await queue.wait("n1", LONG)
    [lease] = await claim(queue, "n1")
    await claim(queue, "n1")
    await queue.release(lease)
    await queue.wait("n1", LONG)


async def test_cancelling_a_job_that_did_not_fit_wakes_the_node_it_blocked(
    queue: Queue, job: Make
) -> None:
    huge, small = job(reserve_cpu=10_000), job()
    await queue.submit(huge)
    await queue.submit(small)
    record = NodeRecord(
        id="n1", address="", started_at="", version="", isolation=[], languages=[],
        cpu_capacity=1000, cpu_reserved=0, memory_capacity=0, memory_reserved=0,
        pools={}, running=0,
    )  # fmt: skip
    await queue.announce(record, ttl=60)
    assert await queue.claim("n1", jobs=5, cpu=1000, memory=0) == []
    wait = asyncio.create_task(queue.wait("n1", LONG))
    await queue.cancel(huge.id)
    await wait
    [lease] = await queue.claim("n1", jobs=5, cpu=1000, memory=0)
    assert lease.job == small


async def test_reap_wakes_another_when_the_woken_node_died(queue: Queue, job: Make) -> None:
    await claim(queue, "n1")
    await claim(queue, "n2")  # the latest, so it is woken first; it does not come
    await queue.submit(job())
    wait = asyncio.create_task(queue.wait("n1", LONG))
    await queue.reap()
    await wait
    assert len(await claim(queue, "n1")) == 1


async def test_a_wait_given_up_halfway_loses_neither_commands_nor_results(
    queue: Queue, job: Make
) -> None:
    await queue.submit(job(reply_to="g1"))
    [lease] = await claim(queue, "n1")
    await queue.start(lease)
    given_up = [
        asyncio.create_task(queue.wait("n1", LONG)),
        asyncio.create_task(queue.replies("g1", LONG)),
    ]
    await asyncio.sleep(0.02)  # both block on the server; it answers them, nobody takes it
    sends = [
        queue.cancel(lease.job.id),
        queue.complete(lease, Result(id=lease.job.id, status=Status.OK)),
    ]
    for task, send in zip(given_up, sends, strict=True):
        sending = asyncio.create_task(send)
        await asyncio.sleep(0)
        task.cancel()
        await sending
        await asyncio.wait([task])
    assert [command.kind for command in await queue.wait("n1", LONG)] == ["cancel"]
    assert len(await queue.replies("g1", LONG)) == 1


async def claim(queue: Queue, node: str) -> list[Lease]:
    return await queue.claim(node, jobs=1, cpu=1_000_000, memory=1 << 40)
