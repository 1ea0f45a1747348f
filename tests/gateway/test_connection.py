"""Clients that dawdle, flood or do not read cost nobody else anything."""

import asyncio
import contextlib
import json
import os
import socket as sockets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from msgspec.structs import replace

from sandboxd.gateway import stall
from sandboxd.model import Lease, Result, Status
from sandboxd.settings import Settings
from tests.gateway.fakes import FakeNode, until_quiet

HEAD = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:])}
    return (
        int(head[0].split()[1]),
        headers,
        await reader.readexactly(int(headers["content-length"])),
    )


async def trickle(writer: asyncio.StreamWriter, data: bytes) -> None:
    """One byte at a time, for as long as the other side takes them."""
    while True:
        for number in data:
            writer.write(bytes([number]))
            await writer.drain()
            await asyncio.sleep(0.05)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:  # what we sent came after its end
            return b""


async def test_head_that_comes_byte_by_byte_is_cut_off(port: int) -> None:
    async with connected(port) as (reader, writer):
        dripping = asyncio.create_task(trickle(writer, HEAD))
        status, headers, body = await answer(reader)
        assert (status, json.loads(body)["code"]) == (408, "request_timeout")
        assert headers["connection"] == "close"
        assert await until_closed(reader) == b""
        dripping.cancel()


async def test_silent_connection_is_closed(port: int) -> None:
    async with connected(port) as (reader, _):
        assert await until_closed(reader) == b""


async def test_empty_lines_do_not_keep_a_connection(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        dripping = asyncio.create_task(trickle(writer, b"\r\n"))
        assert await until_closed(reader) == b""
        dripping.cancel()


async def test_body_that_comes_byte_by_byte_is_408(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
        dripping = asyncio.create_task(trickle(writer, b" "))
        status, headers, body = await answer(reader)
        assert (status, json.loads(body)["code"]) == (408, "request_timeout")
        assert headers["connection"] == "close"
        dripping.cancel()


class TestBodyNobodyReads:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, gateway=replace(settings.gateway, body_timeout=0.1))

    async def test_it_is_cut_off_too(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sandboxd.gateway.connection._BODY_GRACE", 0.2)
        async with connected(port) as (reader, writer):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n")
            assert (await answer(reader))[0] == 200
            dripping = asyncio.create_task(trickle(writer, b"x"))
            assert await until_closed(reader) == b""
            dripping.cancel()


async def test_connection_is_kept_between_requests(port: int) -> None:
    async with connected(port) as (reader, writer):
        for _ in range(3):
            writer.write(GET)
            assert (await answer(reader))[0] == 200
            await asyncio.sleep(0.5)


async def test_waiting_for_a_result_is_not_idling(port: int, node: FakeNode) -> None:
    node.gate.clear()
    body = b'{"language": "python", "source": "1"}'
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await node.started.get()
        await asyncio.sleep(1.5)  # longer than every timeout of the request's arrival
        node.gate.set()
        assert (await answer(reader))[0] == 200


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"X-Long: " + b"x" * 400_000,
        lambda: b"".join(b"X-%d: %s\r\n" % (n, b"y" * 500) for n in range(200)),
    ],
    ids=["one-field", "many-fields"],
)
async def test_endless_head_is_431(port: int, make: Callable[[], bytes]) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + make())
        status, _, body = await answer(reader)
        assert (status, json.loads(body)["code"]) == (431, "head_too_large")


async def test_endless_url_is_431(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /" + b"x" * 100_000)
        assert (await answer(reader))[0] == 431


async def test_trailers_count_as_head(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        writer.write(b"".join(b"X-%d: %s\r\n" % (n, b"y" * 500) for n in range(200)))
        assert (await answer(reader))[0] == 431


async def test_what_is_not_http_is_a_problem(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        status, headers, _ = await answer(reader)
        assert (status, headers["content-type"]) == (400, "application/problem+json")


async def test_short_pipeline_is_served_and_a_long_one_is_not(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(GET * 5)
        assert [(await answer(reader))[0] for _ in range(5)] == [200] * 5
        writer.write(GET * 500)
        assert b" 400 " in await until_closed(reader)


class TestManyConnections:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        gateway = replace(settings.gateway, max_connections=4, header_timeout=60)
        return replace(settings, gateway=gateway)

    async def test_those_beyond_the_limit_get_503_and_far_beyond_nothing(self, port: int) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(connected(port))
            reader, writer = await stack.enter_async_context(connected(port))
            beyond, _ = await stack.enter_async_context(connected(port))
            with contextlib.suppress(ConnectionResetError):
                assert await until_closed(beyond) == b""
            writer.write(GET)
            status, headers, body = await answer(reader)
            assert (status, json.loads(body)["code"]) == (503, "unavailable")
            assert headers["retry-after"] == "1" and headers["connection"] == "close"

    async def test_those_within_it_are_served(self, port: int) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(4):
                reader, writer = await stack.enter_async_context(connected(port))
            writer.write(GET)
            assert (await answer(reader))[0] == 200


async def test_many_large_bodies_at_once_are_not_all_held(port: int) -> None:
    """Each is within the cap, and none of them ends."""
    async with AsyncExitStack() as stack:
        answers = []
        for _ in range(12):
            reader, writer = await stack.enter_async_context(connected(port))
            writer.write(HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 900_000)
            await writer.drain()
            answers.append(asyncio.create_task(answer(reader)))
        statuses = [status for status, _, _ in await asyncio.gather(*answers)]
    assert set(statuses) == {408, 503}
    assert statuses.count(408) <= 9


class TestReaderThatStops:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, gateway=replace(settings.gateway, body_timeout=0.3))

    async def test_connection_is_given_up(
        self, port: int, node: FakeNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def large(lease: Lease) -> Result:
            return Result(id=lease.job.id, status=Status.OK, stdout="x" * (16 << 20))

        node.answer = large
        body = b'{"language": "python", "source": "1"}'
        raw = sockets.socket()
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(raw, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        aborted = asyncio.Event()
        look = stall.WriteStall._look

        def watched(self: stall.WriteStall) -> None:
            look(self)
            if self._transport.is_closing():
                aborted.set()

        monkeypatch.setattr(stall.WriteStall, "_look", watched)
        async with asyncio.timeout(10):
            await aborted.wait()
        raw.close()

    async def test_slow_reader_that_goes_on_gets_everything(
        self, port: int, node: FakeNode
    ) -> None:
        node.answer = lambda lease: Result(
            id=lease.job.id, status=Status.OK, stdout="x" * (2 << 20)
        )
        body = b'{"language": "python", "source": "1"}'
        async with connected(port) as (reader, writer):
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            got = 0
            while got < size:
                got += len(await reader.read(1 << 18))
                await asyncio.sleep(0.05)
        assert got == size


class TestPings:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        """So patient that the connection is not given up for its silence."""
        return replace(settings, gateway=replace(settings.gateway, body_timeout=60))

    async def test_pings_that_nobody_hears_back_do_not_pile_up(
        self, port: int, wire: httpx.AsyncClient
    ) -> None:
        """A client that sends pings and never reads the pongs is not read any further."""
        run = await wire.post(
            "/v1/runs",
            json={"language": "python", "source": "1"},
            headers={"Prefer": "respond-async"},
        )
        raw = sockets.socket()
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(
            raw,
            f"GET {run.headers['location']}/stream HTTP/1.1\r\nHost: localhost\r\n".encode()
            + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        assert b" 101 " in await loop.sock_recv(raw, 64)
        ping = (b"\x89\xfd\0\0\0\0" + os.urandom(125)) * 100
        sent, total = 0, 1500  # 20 MB, more than the kernel's own buffers take

        async def flood() -> None:
            nonlocal sent
            while sent < total:
                await loop.sock_sendall(raw, ping)
                sent += 1

        flooding = asyncio.create_task(flood())
        await until_quiet(lambda: sent)
        assert not flooding.done()
        flooding.cancel()
        raw.close()
