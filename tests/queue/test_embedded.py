"""The private server: who reaches it, and how it ends."""

import asyncio
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from redis import Redis
from redis.exceptions import NoPermissionError

from sandboxd.errors import DriverFault
from sandboxd.model import Job
from sandboxd.queue import Queue, embedded
from sandboxd.settings import Settings, SettingsError, load

Make = Callable[..., Job]
COUNTED = 2_000


@pytest.fixture
def settings() -> Iterator[Settings]:
    # pytest's own directories are closed to other users, such as the server's.
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as name:
        Path(name).chmod(0o755)
        yield load(environ={}, flags=[f"run_dir={name}/run", f"state_dir={name}/state"])


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[embedded.EmbeddedServer]:
    server = await embedded.start(settings)
    yield server
    await server.stop(0)


def connects(path: Path, uid: int, gid: int) -> bool:
    """Whether a process of that user and group gets a connection."""
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    process = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(path)],
        user=uid, group=gid, extra_groups=[], stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert process.returncode == 0 or b"PermissionError" in process.stderr
    return process.returncode == 0


@pytest.mark.root
async def test_only_root_and_the_gateway_reach_it(
    settings: Settings, server: embedded.EmbeddedServer
) -> None:
    socket, gateway = settings.redis_socket, settings.gateway.uid
    assert await asyncio.to_thread(connects, socket, 0, 0)
    assert await asyncio.to_thread(connects, socket, gateway, gateway)
    assert not await asyncio.to_thread(connects, socket, 65_534, 65_534)
    status = await asyncio.to_thread(Path(f"/proc/{server.pid}/status").read_text)
    assert f"Uid:\t{settings.redis.uid}\t{settings.redis.uid}" in status
    data = await asyncio.to_thread((settings.state_path / "redis").stat)
    assert (data.st_uid, stat.S_IMODE(data.st_mode)) == (settings.redis.uid, 0o700)


async def test_its_user_has_the_queue_and_no_server_commands(
    settings: Settings, server: embedded.EmbeddedServer, job: Make
) -> None:
    queue = Queue.connect(settings)
    await queue.submit(job())
    await queue.replies("g", 0.01)
    await queue.close()
    with Redis(unix_socket_path=str(settings.redis_socket)) as redis:
        assert redis.info("memory")["maxmemory"] == settings.redis.maxmemory
        for refused in (
            "CONFIG SET dir /tmp", "FLUSHALL", "ACL LIST", "SHUTDOWN", "SAVE",
            "KEYS *", "REPLICAOF localhost 1", "GET other", "MONITOR",
            "FUNCTION LIST",
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                redis.execute_command(*refused.split())


async def test_a_waiting_job_costs_so_little_that_its_memory_holds_a_million(
    settings: Settings, server: embedded.EmbeddedServer, job: Make
) -> None:
    gateway = replace(settings.gateway, tenant_max_jobs=COUNTED)
    queue = Queue.connect(replace(settings, gateway=gateway))
    await queue.submit(job())
    with Redis(unix_socket_path=str(settings.redis_socket)) as redis:
        before = redis.info("memory")["used_memory"]
        for _ in range(COUNTED - 1):
            await queue.submit(job())
        each = (redis.info("memory")["used_memory"] - before) / (COUNTED - 1)
    await queue.close()
    assert len(msgspec.json.encode(job())) < each < settings.redis.maxmemory / 1e6


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_an_accepted_job_survives_its_end(
    settings: Settings, job: Make, end: signal.Signals
) -> None:
    first = await embedded.start(settings)
    queue = Queue.connect(settings)
    submitted = job()
    await queue.submit(submitted)
    os.kill(first.pid, end)
    assert await first.wait() == (-end if end == signal.SIGKILL else 0)
    second = await embedded.start(settings)  # over the stale socket
    [lease] = await queue.claim("n1", jobs=1, cpu=1000, memory=0)
    assert lease.job == submitted
    await queue.close()
    assert await second.stop(5) == 0
    assert not settings.redis_socket.exists()


async def test_a_second_server_on_the_same_data_is_refused(
    settings: Settings, server: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LOCK_PATIENCE", 0.05)
    with pytest.raises(DriverFault, match="already runs"):
        await embedded.start(settings)
    queue = Queue.connect(settings)
    await queue.ping()
    await queue.close()


async def test_a_server_that_cannot_start_says_why(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="nosuchserver not found"):
        await embedded.start(
            replace(settings, redis=replace(settings.redis, server="nosuchserver"))
        )
    with pytest.raises(DriverFault, match=r"(?i)maxmemory"):
        await embedded.start(replace(settings, redis=replace(settings.redis, maxmemory=-1)))


STARTER = """
import asyncio, sys
from sandboxd.queue import embedded
from sandboxd.settings import load
async def main():
    server = await embedded.start(load(environ={}, flags=sys.argv[1:]))
    print(server.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_it_dies_with_a_killed_starter(settings: Settings) -> None:
    flags = [f"run_dir={settings.run_dir}", f"state_dir={settings.state_dir}"]
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, *flags],
        stdout=subprocess.PIPE, cwd=Path(embedded.__file__).parents[2],
    )  # fmt: skip
    with starter:
        assert starter.stdout is not None
        server = os.pidfd_open(int(starter.stdout.readline()))
        starter.kill()
    try:
        assert select.select([server], [], [], 20)[0]  # a pidfd is readable at its end
    finally:
        os.close(server)
