import asyncio
import json
import time

import pytest
from fake_service import FakeService

from loadtest.http1 import Connection, ExchangeError, request
from loadtest.peers.http import Server

ASK = request("POST", "/v1/runs", "test", b"{}")


@pytest.fixture
def connection(fake: FakeService) -> Connection:
    return Connection("127.0.0.1", fake.port)


async def test_one_connection_carries_many_exchanges(
    fake: FakeService, connection: Connection
) -> None:
    for _ in range(3):
        status, body = await connection.exchange(ASK, 5.0)
        assert status == 200 and b'"ok"' in body
    connection.close()
    assert (fake.served, fake.connections) == (3, 1)


async def test_an_answer_in_many_pieces_is_put_together(
    fake: FakeService, connection: Connection
) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-LENGTH:  10 \r\nx: y\r\n\r\n0123456789"
    reader_done = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        for byte in whole:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        reader_done.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        slow = Connection("127.0.0.1", server.sockets[0].getsockname()[1])
        assert await slow.exchange(ASK, 5.0) == (200, b"0123456789")
        slow.close()
    assert reader_done.is_set()


async def test_it_connects_again_after_the_server_hung_up(
    fake: FakeService, connection: Connection
) -> None:
    fake.hang_up = True
    with pytest.raises(ExchangeError) as failure:
        await connection.exchange(ASK, 5.0)
    assert failure.value.kind == "connection"
    fake.hang_up = False
    assert (await connection.exchange(ASK, 5.0))[0] == 200
    connection.close()


async def test_a_late_answer_is_never_taken_for_the_next_one(
    fake: FakeService, connection: Connection
) -> None:
    fake.open.clear()
    with pytest.raises(ExchangeError) as failure:
        await connection.exchange(ASK, 0.02)
    assert failure.value.kind == "timeout"
    fake.answer = lambda _: (201, {})
    fake.open.set()
    assert (await connection.exchange(ASK, 5.0))[0] == 201
    assert fake.connections == 2
    connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}",
        b"x" * 70_000,
    ],
)
async def test_an_answer_that_is_no_answer_is_malformed(
    fake: FakeService, connection: Connection, answer: bytes
) -> None:
    fake.raw = answer
    with pytest.raises(ExchangeError) as failure:
        await connection.exchange(ASK, 5.0)
    assert failure.value.kind == "malformed"


async def test_nobody_listening_is_a_connection_error(fake: FakeService) -> None:
    with pytest.raises(ExchangeError) as failure:
        await Connection("127.0.0.1", 1).exchange(ASK, 1.0)
    assert failure.value.kind == "connection"


def test_a_key_cannot_break_out_of_its_header() -> None:
    with pytest.raises(ValueError, match="line break"):
        Server(host="h", port=1, key="a\r\nX: y").request("GET", "/", b"", "text/plain")


@pytest.mark.parametrize("url", ["https://h:1", "h:1", "http://", "http://h:1/?q", "http://h:x"])
def test_a_url_that_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Server.of(url)


async def test_a_slow_reader_gets_the_same_and_takes_its_time(fake: FakeService) -> None:
    text = "x" * 60_000
    fake.answer = lambda _: (200, {"stdout": text})
    quick, slow = Connection("127.0.0.1", fake.port), Connection("127.0.0.1", fake.port, 0.01)
    took = []
    for connection in (quick, slow):
        began = time.monotonic()
        status, body = await connection.exchange(ASK, 20.0)
        took.append(time.monotonic() - began)
        assert (status, json.loads(body)["stdout"]) == (200, text)
        connection.close()
    assert took[1] > 0.05
