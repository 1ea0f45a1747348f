"""What a long life and a full or dying server do to the queue."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from redis import Redis

from sandboxd.errors import Unavailable
from sandboxd.model import Job, Lease, Result, RunRequest, RunState, Status
from sandboxd.queue import Queue
from sandboxd.queue.connections import Connections
from sandboxd.settings import Settings

Make = Callable[..., Job]


async def finish_one(queue: Queue, job: Job, key: str | None = None) -> None:
    await queue.submit(job, idempotency_key=key)
    [lease] = await queue.claim("n1", jobs=1, cpu=1000, memory=0)
    await queue.start(lease)
    await queue.complete(lease, Result(id=job.id, status=Status.OK))


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


async def test_a_thousand_finished_jobs_leave_nothing_behind(
    settings: Settings, redis: Redis, job: Make
) -> None:
    brief = replace(settings, queue=replace(settings.queue, result_ttl=0.5, lease=0.2))
    queue = Queue.connect(brief)

    def keys() -> set[bytes]:
        return set(redis.scan_iter(f"sandboxd:{{{settings.instance}}}:*", count=1000))

    for number in range(1000):
        await finish_one(queue, job(reply_to="g1", tenant=f"t{number}"), f"key{number}")
        if number % 10 == 0:
            await queue.replies("g1")
    lasting = {b"counters", b"idle"}
    await asyncio.sleep(1.0)  # the last result, and the inbox of a node gone silent
    assert {key.rpartition(b":")[2] for key in keys()} == lasting
    assert redis.hlen(f"sandboxd:{{{settings.instance}}}:counters") == 3
    await queue.close()


async def test_a_read_result_is_dropped_from_the_reply_stream(
    queue: Queue, settings: Settings, redis: Redis, job: Make
) -> None:
    for _ in range(5):
        await finish_one(queue, job(reply_to="g1"))
    stream = f"sandboxd:{{{settings.instance}}}:replies:g1"
    assert len(await queue.replies("g1")) == 5
    assert redis.xlen(stream) == 5
    await queue.replies("g1", 0.001)
    assert redis.xlen(stream) == 0


async def test_the_source_is_not_kept_with_the_result(
    queue: Queue, settings: Settings, redis: Redis, job: Make
) -> None:
    one = job(request=RunRequest(language="c", source="SOURCE" * 10_000))
    await finish_one(queue, one)
    names = list(redis.scan_iter(f"sandboxd:{{{settings.instance}}}:*{one.id}"))
    assert sum(redis.memory_usage(name) or 0 for name in names) < 10_000


async def test_a_full_server_refuses_runs_and_still_finishes_the_accepted(
    private: "Server", settings: Settings, job: Make
) -> None:
    queue = Queue.connect(replace(settings, redis=replace(settings.redis, url=private.url)))
    accepted = job(reply_to="g1")
    await queue.submit(accepted)
    with Redis.from_url(private.url) as client:
        client.config_set("maxmemory", "1mb")
    with pytest.raises(Unavailable) as refused:
        await queue.submit(job())
    assert refused.value.retry_after
    [lease] = await queue.claim("n1", jobs=1, cpu=1000, memory=0)
    assert await queue.start(lease)
    assert await queue.renew("n1", [(accepted.id, 1)]) == set()
    assert await queue.complete(lease, Result(id=accepted.id, status=Status.OK))
    assert len(await queue.replies("g1")) == 1
    await queue.close()


class Server:
    """A Redis that can be killed and started again on its data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"unix://{directory}/redis.sock"

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            "redis-server", "--port", "0", "--unixsocket", f"{self.directory}/redis.sock",
            "--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "no",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        connections = Connections(self.url)
        while self.process.returncode is None:
            try:
                await connections.call("PING")
            except Unavailable:
                await asyncio.sleep(0.01)
            else:
                await connections.close()
                return
        raise AssertionError("redis-server did not start")

    async def kill(self) -> None:
        """At once, as by a crash."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@pytest.fixture
async def private(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def test_kill_of_the_server_loses_no_accepted_job(
    private: Server, settings: Settings, job: Make
) -> None:
    queue = Queue.connect(replace(settings, redis=replace(settings.redis, url=private.url)))
    jobs = [job(reply_to="g1") for _ in range(40)]
    for each in jobs:
        await queue.submit(each)
    leases = await queue.claim("n1", jobs=20, cpu=1_000_000, memory=0)
    for lease in leases[:10]:
        await queue.start(lease)
    waiting = asyncio.create_task(queue.replies("g1", 30))
    await asyncio.sleep(0.02)
    await private.kill()
    with pytest.raises(Unavailable) as refused:
        await queue.start(leases[10])
    assert refused.value.retry_after
    with pytest.raises(Unavailable):
        await waiting
    await private.start()
    await asyncio.gather(*[end(queue, lease) for lease in leases])
    while later := await queue.claim("n1", jobs=7, cpu=1_000_000, memory=0):
        await asyncio.gather(*[end(queue, lease) for lease in later])
    replies = await queue.replies("g1")
    assert sorted(result.id for result in replies) == sorted(each.id for each in jobs)
    for each in jobs:
        found = await queue.record(each.id)
        assert found and found[1].state is RunState.FINISHED
    await queue.close()


async def test_a_claim_whose_answer_was_lost_is_answered_by_the_next(
    queue: Queue, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = [job(), job(), job()]
    for each in submitted:
        await queue.submit(each)
    answered = Connections.call

    async def cut(self: Connections, *command: str | bytes | int) -> None:
        await answered(self, *command)
        raise Unavailable("cut", retry_after=1.0)

    with monkeypatch.context() as patch:
        patch.setattr(Connections, "call", cut)
        with pytest.raises(Unavailable):
            await queue.claim("n1", jobs=2, cpu=1_000_000, memory=0)
    assert (await queue.stats()).leased == 2
    assert await queue.wait("n1", 60) == []  # at once, so that the node claims
    leases = await queue.claim("n1", jobs=2, cpu=1_000_000, memory=0)
    assert [lease.job for lease in leases] == submitted[:2]
    assert [lease.attempt for lease in leases] == [1, 1]
    [lease] = await queue.claim("n1", jobs=2, cpu=1_000_000, memory=0)
    assert lease.job == submitted[2]


async def end(queue: Queue, lease: Lease) -> None:
    assert await queue.start(lease)
    assert await queue.complete(lease, Result(id=lease.job.id, status=Status.OK))


async def test_a_hundred_calls_at_once_share_few_connections(
    queue: Queue, redis: Redis, job: Make
) -> None:
    before = redis.info("clients")["connected_clients"]
    blocked = [asyncio.create_task(queue.wait(f"w{i}", 30)) for i in range(20)]
    await asyncio.gather(*[queue.submit(job()) for _ in range(100)])
    assert redis.info("clients")["connected_clients"] - before <= 16 + 20
    for wait in blocked:
        wait.cancel()
    await asyncio.wait(blocked)
    await queue.ping()
