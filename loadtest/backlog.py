"""One point of growth: a queue of so many jobs, and one more.

One job holds all memory that the node hands out; behind it the queue grows. Then it is cancelled.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from loadtest import cpu, footprint
from loadtest.curve import BrokenError, Point, at
from loadtest.http1 import Connection
from loadtest.job import Expectation, job
from loadtest.measurement import Failure
from loadtest.peers.http import Server
from loadtest.service import Service

MEMORY = 1 << 30
"""Bytes that the node shall hand out: the first job takes them all."""
ANSWER_WITHIN = 3_600.0
_THROUGH = 5_000
"""Jobs of a long queue that are measured going through; the others are still behind them."""
_IN_PLACE = 2.0
"""Seconds in which a job that waits for its answer has surely got its place in the queue."""
_FILLERS = 16
"""Connections that fill the queue."""
_HELD = {
    "language": "bash", "source": "sleep 590", "limits": {"memory": MEMORY, "wall_time": 600},
}  # fmt: skip
_SMALL = {"template": "default", "command": ["/bin/echo", "hello"]}
"""What waits carries nothing along: the curve is about the queue, not about what lies in it."""
_HELLO = Expectation(exit_code=0, stdout="hello\n")


async def measure(depth: int, started: Service, sample: int) -> Point:
    """p50 and p99 are of submitting one more, `sample` times; the CPU is of the jobs that go through once
    the first is gone, _THROUGH of a long queue; what is held is with all of them waiting.

    Raises BrokenError, ExchangeError.
    """
    server = msgspec.structs.replace(started.server, timeout=ANSWER_WITHIN)
    first = await _accepted(server, msgspec.json.encode(_HELD))
    await _until_running(server, first)
    body = msgspec.json.encode(_SMALL)
    ahead = min(depth, _THROUGH)
    await _fill(server, body, ahead)
    async with _waiting(server, now=ahead < depth) as last:
        await _fill(server, body, depth - ahead)
        took = await _submit(server, body, sample)
        held = footprint.read(started.pid, started.instance)
        before, began = cpu.read(started.pid), time.perf_counter()
        await _cancel(server, first)
        failure = await last()
    if failure:
        raise BrokenError(f"depth {depth}: {failure}")
    seconds = time.perf_counter() - began
    count = ahead + 1 if ahead < depth else depth + sample + 1
    spent = cpu.between(before, cpu.read(started.pid))
    return Point(
        size=depth, p50=at(took, 0.5) * 1e3, p99=at(took, 0.99) * 1e3,
        cpu=sum(spent.values()) * 1e3 / count, per_second=count / seconds, held=held,
    )  # fmt: skip


@asynccontextmanager
async def _waiting(
    server: Server, *, now: bool
) -> AsyncIterator[Callable[[], Awaitable[Failure | None]]]:
    """One job whose answer tells that all before it are through: submitted `now`, or when asked for."""
    client = await server.connect()
    run = partial(client.run, job("echo", _SMALL, _HELLO))
    task = asyncio.create_task(run()) if now else None
    try:
        if task is not None:
            await asyncio.wait([task], timeout=_IN_PLACE)
        yield lambda: task if task is not None else run()
    finally:
        if task is not None and not task.done():
            task.cancel()
        client.close()


async def _fill(server: Server, body: bytes, count: int) -> None:
    shares = [count // _FILLERS + (number < count % _FILLERS) for number in range(_FILLERS)]
    await asyncio.gather(*(_submit(server, body, share) for share in shares))


async def _cancel(server: Server, run: str) -> None:
    client = await server.connect()
    try:
        await client.ask("DELETE", f"/v1/runs/{run}")
    finally:
        client.close()


async def _submit(server: Server, body: bytes, count: int) -> list[float]:
    """Seconds until each was accepted, one after the other."""
    if not count:
        return []
    clock = time.perf_counter  # uvloop's own clock counts milliseconds
    connection, took = Connection(server.host, server.port), list[float]()
    sent = _async_request(server, body)
    try:
        for _ in range(count):
            began = clock()
            status, answer = await connection.exchange(sent, server.timeout)
            took.append(clock() - began)
            if status != 202:
                raise BrokenError(f"submitting: {status} {answer[:300]!r}")
    finally:
        connection.close()
    return took


async def _accepted(server: Server, body: bytes) -> str:
    """The id of a run that nobody waits for."""
    connection = Connection(server.host, server.port)
    try:
        status, answer = await connection.exchange(_async_request(server, body), server.timeout)
    finally:
        connection.close()
    if status != 202:
        raise BrokenError(f"submitting: {status} {answer[:300]!r}")
    return str(msgspec.json.decode(answer)["id"])


def _async_request(server: Server, body: bytes) -> bytes:
    whole = server.request("POST", "/v1/runs", body, "application/json")
    return whole.replace(b"\r\n", b"\r\nPrefer: respond-async\r\n", 1)


async def _until_running(server: Server, run: str) -> None:
    """Asked every 50 ms; it is no part of what is measured."""
    client = await server.connect()
    try:
        async with asyncio.timeout(60):
            while True:
                _, answer = await client.ask("GET", f"/v1/runs/{run}")
                if msgspec.json.decode(answer)["state"] == "started":
                    return
                await asyncio.sleep(0.05)
    finally:
        client.close()
