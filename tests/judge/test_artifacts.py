"""Compiled programs are shared between nodes: within a size, by everything that decides about them."""

import asyncio
import os
import secrets
import signal
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from sandboxd.model import Outcome, Status
from sandboxd.node.judging.artifacts import Artifacts, host_packages
from sandboxd.node.judging.compiled import Compiled
from sandboxd.queue.store import Store
from sandboxd.settings import JudgeSettings, RedisSettings, Settings
from tests.service.instance import running

OUTCOME = Outcome(
    status=Status.OK, exit_code=0, signal=None, stdout="", stderr="said", stdout_truncated=False,
    stderr_truncated=False, encoding="utf-8", cpu_time=0.25, wall_time=0.5, peak_memory=4096,
)  # fmt: skip


def compiled(size):
    return Compiled(
        outcome=OUTCOME, files=[("main", 0o755, os.urandom(size))], layers=frozenset({"seccomp"})
    )


@pytest.fixture
async def store(redis_url):
    settings = Settings(
        instance=f"a{secrets.token_hex(4)}",
        redis=RedisSettings(url=redis_url),
        judge=JudgeSettings(artifacts_shared=10_000),
    )
    store = Store(settings)
    yield store
    await store.close()


async def test_what_one_node_made_another_finds_bytes_and_all(store):
    one, other = Artifacts(store, 5_000), Artifacts(store, 5_000)
    made = compiled(3_000)
    await one.share("key", made, 3_000)
    assert await other.find("key") == made
    assert await other.find("another key") is None


async def test_what_is_too_large_or_not_worth_it_is_not_shared(store):
    shared = Artifacts(store, 2_000)
    await shared.share("large", compiled(3_000), 3_000)
    await shared.share("cut short by a limit", compiled(10), -1)
    assert await shared.find("large") is None
    assert await shared.find("cut short by a limit") is None


async def test_the_least_recently_used_makes_room(store):
    shared = Artifacts(store, 5_000)
    for name in ("first", "second"):
        await shared.share(name, compiled(4_000), 4_000)
        await asyncio.sleep(0.01)  # uses are told apart by the millisecond
    assert await shared.find("first") is not None
    await shared.share("third", compiled(4_000), 4_000)
    found = {name: await shared.find(name) is not None for name in ("first", "second", "third")}
    assert found == {"first": True, "second": False, "third": True}
    assert not await store.keep_artifact("huge", b"x" * 10_001)
    assert await shared.find("first") is not None


async def test_without_the_store_the_compiler_is_asked():
    settings = replace(Settings(), redis=RedisSettings(url="unix:///nowhere/redis.sock"))
    store = Store(settings)
    shared = Artifacts(store, 5_000)
    await shared.share("key", compiled(1), 1)
    assert await shared.find("key") is None
    await store.close()


def test_hosts_are_told_apart_by_their_packages(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.write_text("Package: gcc\nVersion: 12\n")
    there.write_text("Package: gcc\nVersion: 13\n")
    assert host_packages(here) == host_packages(here) != host_packages(there)
    assert host_packages(tmp_path / "none") is None


@pytest.mark.skipif(not Path("/var/lib/dpkg/status").exists(), reason="nothing is shared here")
def test_a_node_that_remembers_nothing_does_not_compile_again():
    body = {"language": "c", "source": "int main(){return 0;}", "cases": [{}]}
    with running("queue.lease=3") as service, httpx.Client(base_url=service.url, timeout=60) as api:

        def compiler():
            answer = api.post("/v1/submissions", json=body).json()
            assert answer["verdict"] == "AC"
            return answer["compile"]

        first = compiler()
        os.kill(service.role("node"), signal.SIGKILL)
        service.wait_ready()
        # To the microsecond what it used the first time: it did not run a second time.
        assert compiler() == first
        body["source"] += "\n"
        assert compiler() != first
