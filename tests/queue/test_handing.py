"""Where nobody waits, a job goes to an idle node with its submission, and is leased as by a claim."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sandboxd.model import Job, Lease, Result, RunRequest, RunState, Status
from sandboxd.queue import CancelOutcome, Queue
from sandboxd.settings import Settings

Make = Callable[..., Job]


async def idle(queue: Queue, node: str, cpu: int = 2000, memory: int = 1 << 30) -> None:
    assert await queue.claim(node, jobs=9, cpu=cpu, memory=memory, takes=True) == []


async def handed(queue: Queue, node: str) -> list[Lease]:
    commands = await queue.wait(node, 0.0)
    return [command.lease for command in commands if command.lease is not None]


def large(job: Make, size: int) -> Job:
    return job(request=RunRequest(language="python", source="#" * size))


async def claimed(queue: Queue, node: str) -> list[str]:
    leases = await queue.claim(node, jobs=9, cpu=10**6, memory=1 << 50, takes=True)
    return [lease.job.id for lease in leases]


async def test_an_idle_node_gets_the_job_itself(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    given = job(reply_to="g")
    await queue.submit(given)
    lease = Lease(job=given, attempt=1, node="n1")
    assert await handed(queue, "n1") == [lease]
    assert await claimed(queue, "n1") == [], "it is leased already"
    assert await queue.start(lease)
    assert await queue.complete(lease, Result(id=given.id, status=Status.OK))
    events = await queue.events(given.id)
    assert [event.type for event in events] == ["queued", "leased", "started", "finished"]
    assert [result.id for result in await queue.replies("g", 0.1)] == [given.id]


async def test_it_gets_one_and_then_says_again_what_room_it_has(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    first, second, third = [await queue.submit(job()) for _ in range(3)]
    assert [lease.job.id for lease in await handed(queue, "n1")] == [first]
    assert await claimed(queue, "n1") == [second, third]


async def test_a_repeated_submission_is_handed_over_once(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    given = job()
    for _ in range(3):
        await queue.submit(given)
        await idle(queue, "n1")
    assert len(await handed(queue, "n1")) == 1


@pytest.mark.parametrize(
    ("room", "changes"),
    [
        ({"cpu": 500}, {"reserve_cpu": 501}),
        ({"memory": 500}, {"reserve_memory": 501}),
        ({}, {"node": "n2"}),
    ],
)
async def test_what_does_not_fit_waits(
    queue: Queue, job: Make, room: dict[str, int], changes: dict[str, Any]
) -> None:
    await idle(queue, "n1", **room)
    given = await queue.submit(job(**changes))
    assert await handed(queue, "n1") == []
    assert await claimed(queue, changes.get("node", "n1")) == [given]


async def test_a_large_document_waits(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    given = await queue.submit(large(job, 70_000))
    assert await handed(queue, "n1") == []
    assert await claimed(queue, "n1") == [given]


async def test_who_does_not_take_them_has_to_claim(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    assert await queue.claim("n1", jobs=9, cpu=2000, memory=1 << 30) == []
    given = await queue.submit(job())
    assert await handed(queue, "n1") == []
    assert await claimed(queue, "n1") == [given]


async def test_nobody_is_overtaken(queue: Queue, job: Make) -> None:
    await idle(queue, "n1", cpu=500)
    first = await queue.submit(job(reserve_cpu=1000))
    await idle(queue, "n2", cpu=500)
    second = await queue.submit(job(reserve_cpu=100))
    assert await handed(queue, "n1") == await handed(queue, "n2") == []
    assert await claimed(queue, "n1") == [first, second]


async def test_a_job_of_its_own_goes_to_its_node(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    await idle(queue, "n2")
    given = await queue.submit(job(node="n1"))
    assert await handed(queue, "n2") == []
    assert [lease.job.id for lease in await handed(queue, "n1")] == [given]


async def test_a_node_that_died_before_it_looked_loses_nothing(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    given = await queue.submit(job())
    assert await queue.recover("n1") == (1, 0)
    assert await handed(queue, "n1") == []
    assert await claimed(queue, "n1") == [given]


async def test_a_cancelled_one_is_not_started(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    given = await queue.submit(job())
    assert await queue.cancel(given) is CancelOutcome.CANCELLED
    [lease] = await handed(queue, "n1")
    assert not await queue.start(lease)
    found = await queue.record(given)
    assert found is not None and found[1].state is RunState.FINISHED


async def test_one_that_withdrew_is_given_nothing(queue: Queue, job: Make) -> None:
    await idle(queue, "n1")
    before = await queue.submit(job())
    await queue.withdraw("n1")
    after = await queue.submit(job())
    [lease] = await handed(queue, "n1")
    assert lease.job.id == before
    assert await queue.release(lease)
    assert await claimed(queue, "n2") == [before, after]


async def test_what_was_read_is_kept_no_longer(queue: Queue, settings: Settings, job: Make) -> None:
    for _ in range(3):
        await idle(queue, "n1")
        await queue.submit(large(job, 50_000))
        assert len(await handed(queue, "n1")) == 1
    await idle(queue, "n1")
    inbox = f"{settings.queue_root}inbox:n1"
    assert await queue._connections.call("XLEN", inbox) == 0


@pytest.mark.timeout(50)
async def test_many_nodes_and_submitters_lose_no_job(settings: Settings, job: Make) -> None:
    queue = Queue.connect(settings)
    total, started = 600, set[str]()

    async def work(node: str) -> None:
        while True:
            leases = await queue.claim(node, jobs=2, cpu=2000, memory=1 << 40, takes=True)
            if not leases:
                commands = await queue.wait(node, 60.0)
                leases = [command.lease for command in commands if command.lease is not None]
            for lease in leases:
                assert await queue.start(lease)
                assert lease.job.id not in started
                started.add(lease.job.id)
                assert await queue.complete(lease, Result(id=lease.job.id, status=Status.OK))

    async def submit() -> None:
        for _ in range(total // 20):
            await queue.submit(job(reply_to="g1"))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        nodes = [group.create_task(work(f"n{i}")) for i in range(10)]
        await asyncio.gather(*(submit() for _ in range(20)))
        replies = 0
        while replies < total:
            replies += len(await queue.replies("g1", 60.0))
        for node in nodes:
            node.cancel()
    assert len(started) == total
    await queue.close()
