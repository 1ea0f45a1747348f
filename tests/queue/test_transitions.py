"""Each transition by itself, against a real server."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from sandboxd.errors import InvalidRequest, QueueFull, QuotaExceeded
from sandboxd.model import Command, Job, Lease, NodeRecord, Result, RunState, Status
from sandboxd.queue import CancelOutcome, Queue, Stats
from sandboxd.settings import Settings, load

Make = Callable[..., Job]


async def claim(queue: Queue, node: str = "n1", jobs: int = 1) -> list[Lease]:
    return await queue.claim(node, jobs=jobs, cpu=1_000_000, memory=1 << 40)


def ok(lease: Lease, **fields: object) -> Result:
    return Result(id=lease.job.id, status=Status.OK, **fields)  # type: ignore[arg-type]


async def test_a_job_goes_all_the_way_and_its_gateway_hears_of_it(queue: Queue, job: Make) -> None:
    submitted = job(reply_to="g1")
    assert await queue.submit(submitted) == submitted.id
    [lease] = await claim(queue)
    assert lease == Lease(job=submitted, attempt=1, node="n1")
    assert await queue.start(lease)
    result = ok(lease, stdout="hi\n")
    assert await queue.complete(lease, result)
    assert await queue.replies("g1") == [result]
    found = await queue.record(submitted.id)
    assert found is not None
    tenant, record = found
    assert tenant == "acme"
    assert (record.state, record.node, record.attempt) == (RunState.FINISHED, "n1", 1)
    assert record.result == result
    assert record.created_at == submitted.created_at
    events = await queue.events(submitted.id)
    assert [event.type for event in events] == ["queued", "leased", "started", "finished"]
    assert events[1].data == {"node": "n1", "attempt": 1}
    assert events[3].data == {"status": "ok"}
    assert await queue.events(submitted.id, after=events[1].id) == events[2:]
    assert await queue.stats() == Stats(queued=0, leased=0, started=0, submitted=1, finished=1)


async def test_repeated_submit_of_a_job_or_a_key_gives_the_first_jobs_id(
    queue: Queue, job: Make
) -> None:
    first = job()
    assert await queue.submit(first, idempotency_key="k") == first.id
    assert await queue.submit(first, idempotency_key="k") == first.id
    assert await queue.submit(job(), idempotency_key="k") == first.id
    other = job(tenant="other")
    assert await queue.submit(other, idempotency_key="k") == other.id
    assert (await queue.stats()).queued == 2


async def test_full_queue_and_full_tenant_are_refused_with_retry_after(
    settings: Settings, job: Make
) -> None:
    small = replace(
        settings,
        queue=replace(settings.queue, max_length=3),
        gateway=replace(settings.gateway, tenant_max_jobs=2),
    )
    queue = Queue.connect(small)
    await queue.submit(job())
    await queue.submit(job())
    with pytest.raises(QuotaExceeded) as quota:
        await queue.submit(job())
    assert quota.value.retry_after
    await queue.submit(job(tenant="b"))
    with pytest.raises(QueueFull) as full:
        await queue.submit(job(tenant="c"))
    assert full.value.retry_after
    [lease] = await claim(queue)
    await queue.complete(lease, ok(lease))
    await queue.submit(job())  # both have room again
    await queue.close()


async def test_claim_takes_from_the_head_only_what_fits(queue: Queue, job: Make) -> None:
    small, large, after = job(reserve_cpu=500), job(reserve_cpu=2000), job(reserve_cpu=100)
    for each in (small, large, after):
        await queue.submit(each)
    leases = await queue.claim("n1", jobs=10, cpu=1000, memory=0)
    assert [lease.job for lease in leases] == [small]
    assert await queue.claim("n1", jobs=10, cpu=1000, memory=0) == []
    leases = await queue.claim("n1", jobs=10, cpu=2100, memory=0)
    assert [lease.job for lease in leases] == [large, after]


async def test_a_released_job_comes_first_again_and_its_old_lease_is_dead(
    queue: Queue, job: Make
) -> None:
    first, second = job(), job()
    await queue.submit(first)
    await queue.submit(second)
    [lease] = await claim(queue)
    assert await queue.release(lease)
    assert await queue.release(lease)  # asked again after a lost answer
    [again] = await claim(queue, "n2")
    assert again.job == first
    assert again.attempt == 2
    assert not await queue.release(lease)
    assert not await queue.start(lease)
    assert not await queue.complete(lease, ok(lease))
    assert await queue.renew("n1", [(first.id, 1)]) == {first.id}
    assert await queue.renew("n2", [(first.id, 2)]) == set()
    assert await queue.start(again)
    assert not await queue.release(again)


async def test_start_and_complete_may_be_repeated(queue: Queue, job: Make) -> None:
    await queue.submit(job())
    [lease] = await claim(queue)
    assert await queue.start(lease)
    assert await queue.start(lease)
    assert await queue.complete(lease, ok(lease, stdout="first"))
    assert await queue.complete(lease, ok(lease, stdout="second"))
    found = await queue.record(lease.job.id)
    assert found and found[1].result and found[1].result.stdout == "first"
    assert (await queue.stats()).finished == 1
    assert len(await queue.events(lease.job.id)) == 4
    assert not await queue.start(lease)


@pytest.mark.parametrize("leased", [False, True])
async def test_cancel_before_execution_ends_the_job_at_once(
    queue: Queue, job: Make, leased: bool
) -> None:
    cancelled = job(reply_to="g1")
    await queue.submit(cancelled)
    leases = await claim(queue) if leased else []
    assert await queue.cancel(cancelled.id) is CancelOutcome.CANCELLED
    assert await queue.cancel(cancelled.id) is CancelOutcome.FINISHED
    [result] = await queue.replies("g1")
    assert result.status is Status.CANCELLED
    assert (result.id, result.created_at) == (cancelled.id, cancelled.created_at)
    assert result.language == "python"
    assert result.finished_at
    for lease in leases:
        assert not await queue.start(lease)
        assert not await queue.complete(lease, ok(lease))
    assert await claim(queue) == []
    assert (await queue.stats()).leased == 0


async def test_cancel_of_a_started_job_tells_its_node_once_per_request(
    queue: Queue, job: Make
) -> None:
    await queue.submit(job())
    [lease] = await claim(queue)
    await queue.start(lease)
    assert await queue.cancel(lease.job.id) is CancelOutcome.REQUESTED
    assert await queue.wait("n1", 5) == [Command(kind="cancel", job=lease.job.id)]
    assert await queue.cancel(lease.job.id) is CancelOutcome.REQUESTED
    types = [event.type for event in await queue.events(lease.job.id)]
    assert types.count("cancel_requested") == 1
    result = Result(id=lease.job.id, status=Status.CANCELLED)
    assert await queue.complete(lease, result)
    assert await queue.cancel("run_nobody") is CancelOutcome.UNKNOWN


async def test_restarted_node_gets_its_leased_jobs_back_and_loses_the_started(
    queue: Queue, job: Make
) -> None:
    leased, started, safe, foreign = job(), job(reply_to="g1"), job("safe"), job()
    for each in (leased, started, safe):
        await queue.submit(each)
    leases = await claim(queue, jobs=3)
    await queue.start(leases[1])
    await queue.start(leases[2])
    await queue.submit(foreign)
    await claim(queue, "n2")
    assert await queue.recover("n1") == (2, 1)
    [result] = await queue.replies("g1")
    assert (result.status, result.reason) == (Status.INTERNAL_ERROR, "node_lost")
    assert result.node == "n1"
    assert [lease.job for lease in await claim(queue, jobs=5)] == [leased, safe]
    assert not await queue.complete(leases[2], ok(leases[2]))
    assert await queue.recover("n3") == (0, 0)


async def test_a_retry_safe_job_is_started_at_most_three_times(queue: Queue, job: Make) -> None:
    await queue.submit(job("safe"))
    for attempt in (1, 2, 3):
        [lease] = await claim(queue)
        assert lease.attempt == attempt
        assert await queue.start(lease)
        assert await queue.recover("n1") == ((1, 0) if attempt < 3 else (0, 1))
    assert await claim(queue) == []


async def test_a_job_that_kills_every_node_before_it_starts_ends_too(
    queue: Queue, job: Make
) -> None:
    poison = job()
    await queue.submit(poison)
    attempts = 0
    while await claim(queue):
        attempts += 1
        await queue.recover("n1")
    assert attempts == 10
    found = await queue.record(poison.id)
    assert found and found[1].result and found[1].result.reason == "node_lost"


async def test_a_cancelled_job_is_not_started_again_when_its_node_dies(
    queue: Queue, job: Make
) -> None:
    await queue.submit(job("safe"))
    [lease] = await claim(queue)
    await queue.start(lease)
    await queue.cancel(lease.job.id)
    assert await queue.recover("n1") == (0, 1)
    found = await queue.record(lease.job.id)
    assert found and found[1].result and found[1].result.status is Status.CANCELLED


async def test_a_lease_that_nobody_renews_expires(settings: Settings, job: Make) -> None:
    now = 1_000_000
    queue = Queue(settings, clock=lambda: now)
    await queue.submit(job())
    await queue.submit(job())
    kept, silent = await claim(queue, jobs=2)
    now += 4_000
    assert await queue.renew("n1", [(kept.job.id, 1)]) == set()
    now += 1_000
    assert await queue.reap() == (1, 0)
    assert await queue.renew("n1", [(kept.job.id, 1), (silent.job.id, 1)]) == {silent.job.id}
    await queue.close()


async def test_after_a_pause_of_everybody_s_leases_may_be_renewed_before_they_are_lost(
    settings: Settings, job: Make
) -> None:
    """A server that stood still, or machines that slept: who reaps may come before who renews."""
    now = 1_000_000
    queue = Queue(settings, clock=lambda: now)
    for _ in range(2):
        await queue.submit(job())
    kept, silent = await claim(queue, jobs=2)
    await queue.start(kept)
    assert await queue.reap() == (0, 0)
    now += 60_000
    assert await queue.reap() == (0, 0)
    assert await queue.renew("n1", [(kept.job.id, 1)]) == set()
    now += 1_667
    assert await queue.reap() == (1, 0)
    assert await queue.renew("n1", [(kept.job.id, 1), (silent.job.id, 1)]) == {silent.job.id}
    await queue.close()


async def test_large_results_arrive_whole(queue: Queue, job: Make) -> None:
    sizes = [0, 65_000, 66_000, 1 << 20]
    for size in sizes:
        await queue.submit(job(reply_to="g1"))
        [lease] = await claim(queue)
        await queue.complete(lease, ok(lease, stdout="x" * size))
    assert [len(result.stdout) for result in await queue.replies("g1")] == sizes


async def test_events_can_be_awaited(queue: Queue, job: Make) -> None:
    submitted = job()
    await queue.submit(submitted)
    [queued] = await queue.events(submitted.id)
    following = asyncio.create_task(queue.events(submitted.id, after=queued.id, block=20))
    await claim(queue)
    assert [event.type for event in await following] == ["leased"]
    assert await queue.events("run_nobody", block=0.01) == []
    with pytest.raises(InvalidRequest):
        await queue.events(submitted.id, after="$")


async def test_events_are_capped(settings: Settings, job: Make) -> None:
    queue = Queue.connect(load(environ={}, flags=[
        f"redis.url={settings.redis_url}", f"instance={settings.instance}", "queue.events_max=5",
    ]))  # fmt: skip
    await queue.submit(job())
    for _ in range(10):
        [lease] = await claim(queue)
        await queue.release(lease)
    assert len(await queue.events(lease.job.id)) == 5
    await queue.close()


async def test_announced_nodes_are_known_until_they_fall_silent(
    queue: Queue, settings: Settings
) -> None:
    record = NodeRecord(
        id="n1", address="unix:/x", started_at="", version="0", isolation=["userns"],
        languages=["c"], cpu_capacity=1, cpu_reserved=0, memory_capacity=1, memory_reserved=0,
        pools={"default": 4}, running=0, counters={"x": 1.5},
    )  # fmt: skip
    await queue.announce(record, ttl=60)
    await queue.announce(replace(record, id="n0"), ttl=0.001)
    while len(found := await queue.nodes()) > 1:
        await asyncio.sleep(0.001)
    assert found == [record]
