"""Thousands of jobs that misbehave leave the service as they found it."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from tests.service import host
from tests.service.footprint import calm
from tests.service.instance import Service, running
from tests.service.misbehaviour import Body, mixed
from tests.service.stock import fixed_stock

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.slow]

JOBS = 2_000
WARM_UP = 600
"""Jobs before the first look: what is allocated once is no growth."""
AT_ONCE = 8
WARM_UP_AT_ONCE = 32
"""More than the gateway's pool of connections to the queue, which fills then."""
SEED = 20_261_125
CONNECTIONS = 16
"""To Redis, that a process may keep of its busiest moment; a leak of one descriptor in a hundred jobs is
above it."""
RSS_MARGIN = 8 << 20
"""Bytes that a process of ours may gain over 2,000 jobs, for what allocators keep of their peak. A
leak of one request or one result per job is above it."""
REUSED_AT_ONCE = "quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
"""For ASan, which else keeps up to 256 MiB of what a process frees: no leak, but it looks like one."""


@pytest.fixture(scope="module")
def own() -> Iterator[Service]:
    """Results that expire at once, so that the queue's memory can be compared."""
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:{REUSED_AT_ONCE}"
    with (
        pytest.MonkeyPatch.context() as environment,
        fixed_stock() as stock,
    ):
        environment.setenv("ASAN_OPTIONS", options)  # heard by `make sanitize-all` alone
        with running("queue.result_ttl=1", stock) as service:
            yield service


async def _run(
    service: Service, count: int, seed: int, at_once: int = AT_ONCE
) -> Counter[tuple[str, str]]:
    """Runs `count` jobs. How often each pair of right and given status occurred."""
    ends: Counter[tuple[str, str]] = Counter()
    bodies = mixed(count, seed)

    async def worker(client: httpx.AsyncClient) -> None:
        for body, right in bodies:
            ends[right, await _status(client, body)] += 1

    # Every worker keeps its own connection, so the gateway's descriptors are countable.
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(at_once):
            group.create_task(worker(client))
    return ends


async def _status(client: httpx.AsyncClient, body: Body) -> str:
    response = await client.post("/v1/runs", json=body)
    if response.status_code != 200:
        return f"HTTP {response.status_code} {response.text[:200]}"
    status: str = response.json()["status"]
    return status


@pytest.mark.timeout(600)
async def test_two_thousand_misbehaving_jobs_leave_nothing_behind(own: Service) -> None:
    await _run(own, WARM_UP, SEED, WARM_UP_AT_ONCE)
    before = await calm(own)
    roles = own.pids()
    rss = {name: host.rss(pid) for name, pid in roles.items()}

    ends = await _run(own, JOBS, SEED + 1)
    assert {pair: times for pair, times in ends.items() if pair[0] != pair[1]} == {}
    assert ends.total() == JOBS

    after = await calm(own)
    assert own.pids() == roles, "a process of the service was replaced"
    assert replace(after, fds={}) == replace(before, fds={})
    more = {name: after.fds[name] - before.fds[name] for name in after.fds}
    assert {name: fds for name, fds in more.items() if fds > CONNECTIONS} == {}
    grown = {name: host.rss(pid) - rss[name] for name, pid in roles.items()}
    assert {name: size for name, size in grown.items() if size > RSS_MARGIN} == {}
