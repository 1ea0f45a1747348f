"""Clients and programs that behave badly cost their neighbours nothing.

Every test keeps an ordinary client at work beside the bad ones, and looks at what that one gets.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.service.footprint import Footprint, calm
from tests.service.instance import Service, running
from tests.service.misbehaviour import MiB
from tests.service.stock import fixed_stock

pytestmark = [pytest.mark.root, pytest.mark.service]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

BAD_ONES = 40
ORDINARY = 25
CLOSED_WITHIN = 30.0
HEADER_TIMEOUT, BODY_TIMEOUT = 2, 3

HOGS: tuple[dict[str, Any], ...] = (
    {"command": ["sh", "-c", "f() { f | f & }; f; wait"], "limits": {"pids": 32, "cpu_time": 1}},
    {"command": ["sh", "-c", "while :; do :; done"], "limits": {"cpu_time": 1}},
    {"command": ["yes"], "limits": {"output": 8 * MiB}},
    {
        "command": ["sh", "-c", "head -c 500M /dev/zero > /dev/shm/file"],
        "limits": {"memory": 128 * MiB, "disk": 512 * MiB},
    },
    {"command": ["sh", "-c", "head -c 500M /dev/zero > file"], "limits": {"disk": 32 * MiB}},
)


@pytest.fixture(scope="module")
def own() -> Iterator[Service]:
    """A service that is impatient with slow senders."""
    impatient = f"gateway.header_timeout={HEADER_TIMEOUT}", f"gateway.body_timeout={BODY_TIMEOUT}"
    with fixed_stock() as stock, running(*impatient, stock) as service:
        yield service


def _shell(script: str, **request: Any) -> dict[str, Any]:
    return {"template": "default", "command": ["sh", "-c", script], **request}


async def _ordinary(service: Service) -> None:
    """One client's ordinary day: every answer is right."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        for index in range(ORDINARY):
            response = await client.post("/v1/runs", json=_shell("cat", stdin=f"line {index}\n"))
            assert response.status_code == 200, response.text
            answer = response.json()
            assert (answer["status"], answer["stdout"]) == ("ok", f"line {index}\n"), answer


@asynccontextmanager
async def _connections(
    service: Service, count: int, **options: Any
) -> AsyncIterator[list[Streams]]:
    url = httpx.URL(service.url)
    opened = await asyncio.gather(
        *(asyncio.open_connection(url.host, url.port, **options) for _ in range(count))
    )
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _post(body: dict[str, Any], length: int | None = None) -> bytes:
    data = json.dumps(body).encode()
    head = (
        "POST /v1/runs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data) if length is None else length}\r\n\r\n"
    )
    return head.encode() + data


async def _closed(reader: asyncio.StreamReader) -> bytes:
    """What the service said until it closed the connection."""
    async with asyncio.timeout(CLOSED_WITHIN):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def _drip(streams: Streams, data: bytes) -> None:
    """One byte at a time, for as long as the service listens."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            streams[1].write(bytes([byte]))
            await streams[1].drain()
            await asyncio.sleep(0.3)


async def test_clients_that_vanish_leave_no_run_behind(own: Service) -> None:
    before = await calm(own)
    async with _connections(own, BAD_ONES) as opened:
        for _, writer in opened:
            writer.write(_post(_shell("sleep 60", limits={"wall_time": 60})))
            await writer.drain()
        await asyncio.sleep(0.5)  # some of them run by now, the others wait
        for _, writer in opened:
            # A reset, not a farewell: what a crashed client's kernel sends.
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await _ordinary(own)
    assert _held(await calm(own)) == _held(before)


async def test_clients_that_send_one_byte_at_a_time_are_dropped(own: Service) -> None:
    whole = _post(_shell("echo never"))
    async with _connections(own, BAD_ONES) as opened, asyncio.TaskGroup() as group:
        drips = [group.create_task(_drip(streams, whole)) for streams in opened]
        group.create_task(_ordinary(own))
        said = await asyncio.gather(*(_closed(reader) for reader, _ in opened))
        for drip in drips:
            drip.cancel()
    assert all(b"200 OK" not in words for words in said)


async def test_clients_that_never_finish_their_body_are_dropped(own: Service) -> None:
    async with _connections(own, BAD_ONES) as opened:
        for _, writer in opened:
            writer.write(_post(_shell("echo never"), length=1_000_000))
            await writer.drain()
        async with asyncio.TaskGroup() as group:
            group.create_task(_ordinary(own))
            said = [group.create_task(_closed(reader)) for reader, _ in opened]
    assert all(b" 408 " in task.result().split(b"\r\n")[0] for task in said)


async def test_clients_that_stop_reading_hold_up_nobody(own: Service) -> None:
    before = await calm(own)
    large = _shell("head -c 4M /dev/zero", limits={"output": 8 * MiB})
    async with _connections(own, 8, limit=1024) as opened:
        for reader, writer in opened:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(_post(large))
            await writer.drain()
        await _ordinary(own)
        for _, writer in opened:
            writer.transport.abort()
    assert _held(await calm(own)) == _held(before)


async def test_a_stream_that_nobody_reads_ends_with_its_run(own: Service) -> None:
    async with httpx.AsyncClient(base_url=own.url, timeout=60) as client:
        accepted = await client.post(
            "/v1/runs",
            json=_shell("yes", limits={"output": 16 * MiB, "wall_time": 5}),
            headers={"prefer": "respond-async"},
        )
        run = accepted.raise_for_status().json()["id"]
        upgrade = (
            f"GET /v1/runs/{run}/stream HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n"
            "upgrade: websocket\r\nsec-websocket-version: 13\r\n"
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        async with _connections(own, 1, limit=1024) as [(reader, writer)]:
            writer.write(upgrade.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 101 " in head.split(b"\r\n")[0], head
            await _ordinary(own)
            result = await _result(client, run)
    assert result["status"] in ("output_exceeded", "wall_time_exceeded")


async def test_hogs_do_not_change_a_neighbours_verdict(own: Service) -> None:
    hog_ends = {"cpu_time_exceeded", "output_exceeded", "memory_exceeded", "disk_exceeded"}
    async with (
        httpx.AsyncClient(base_url=own.url, timeout=90) as client,
        asyncio.TaskGroup() as group,
    ):
        hogs = [
            group.create_task(client.post("/v1/runs", json={"template": "default", **hog}))
            for hog in HOGS * 2
        ]
        neighbours = [
            group.create_task(
                client.post("/v1/runs", json=_shell(f"echo {i}; exit {i % 3}"), timeout=90)
            )
            for i in range(30)
        ]
    for index, task in enumerate(neighbours):
        answer = task.result().json()
        code = index % 3
        assert answer["status"] == ("nonzero_exit" if code else "ok"), answer
        assert (answer["exit_code"], answer["stdout"]) == (code, f"{index}\n")
        assert answer["cpu_time"] < 1 and answer["peak_memory"] < 64 * MiB, answer
    ends = [task.result().json()["status"] for task in hogs]
    assert set(ends[1:5]) | set(ends[6:]) == hog_ends, ends
    assert "internal_error" not in ends


async def test_a_flood_of_connections_leaves_no_descriptor_open(own: Service) -> None:
    gateway = own.role("gateway")
    await _flood(own)  # the first one fills the pool of connections to the queue
    before = await calm(own)
    for _ in range(4):
        await _flood(own)
    assert own.role("gateway") == gateway
    assert await calm(own) == before


async def _flood(service: Service) -> None:
    body = _post(_shell("exit 0"))
    async with _connections(service, 100) as opened:
        for _, writer in opened:
            writer.write(body)
        heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in opened))
    assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)


def _held(found: Footprint) -> Footprint:
    """Without descriptors: a process keeps connections to the queue as many as it once needed."""
    return replace(found, fds={})


async def _result(client: httpx.AsyncClient, run: str) -> dict[str, Any]:
    """The result, once the run's events say that there is one."""
    async with client.stream("GET", f"/v1/runs/{run}/events") as response:
        async for line in response.aiter_lines():
            if line == "event: finished":
                break
    record: dict[str, Any] = (await client.get(f"/v1/runs/{run}")).json()
    result: dict[str, Any] = record["result"]
    return result
