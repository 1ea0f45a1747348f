"""Bodies that the kernel moves: whole, within their length, and the connection goes on behind them.

The loop here is asyncio's; uvloop's, which the service has, is under `tests/sandboxes/test_transfers`.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from sandboxd.descriptors import Writer
from sandboxd.errors import RequestTimeout
from sandboxd.gateway.raw_body import RawBody, pour
from sandboxd.gateway.waiting import ClientGone
from sandboxd.settings import GatewaySettings
from tests.gateway.serving import serving
from tests.patience import PATIENCE

MIB = 1 << 20
WAIT = 20 * PATIENCE
STALL = 2.0 * PATIENCE


class Taker:
    """The application: each body goes through a pipe, and the answer says what came out of it."""

    def __init__(self) -> None:
        self.given = 0
        """Bodies that were poured."""
        self.pours, self.stall = True, STALL
        self.ends: list[str] = []
        self.asked = asyncio.Event()
        """A request has begun, and taken or been refused its body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: RawBody | None = scope["sandboxd.raw_body"]()
        self.asked.set()
        if body is None:
            whole = b""
            while (piece := await receive())["type"] == "http.request" and piece["more_body"]:
                whole += piece["body"]
            await self._answer(send, f"read {hashlib.sha256(whole + piece['body']).hexdigest()}")
            return
        scope["sandboxd.patient"]()
        if not self.pours:
            body.close()
            await self._answer(send, "not poured")
            return
        self.given += 1
        theirs, ours = os.pipe()
        pipe = Writer(ours)
        reading = asyncio.create_task(asyncio.to_thread(_hashed, theirs))
        try:
            await pour(body, pipe, self.stall)
        except (ClientGone, RequestTimeout) as error:
            self.ends.append(type(error).__name__)
            if isinstance(error, ClientGone):
                return
        finally:
            pipe.close()
            digest = await reading
        await self._answer(send, f"poured {digest}")

    async def _answer(self, send: Send, text: str) -> None:
        head = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": text.encode()})


def _hashed(fd: int) -> str:
    found = hashlib.sha256()
    with open(fd, "rb", buffering=0) as file:
        while piece := file.read(MIB):
            found.update(piece)
    return found.hexdigest()


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
async def served(taker: Taker) -> AsyncIterator[int]:
    settings = GatewaySettings(body_timeout=1.0)
    async with serving(taker, settings, lambda: None, patience=WAIT) as port:
        yield port


@contextlib.asynccontextmanager
async def connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(WAIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


def put(size: int, *more: str) -> bytes:
    head = ["PUT /x HTTP/1.1", "Host: x", f"Content-Length: {size}", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


async def answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return (await reader.readexactly(length)).decode(), head


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_bodies_arrive_and_what_is_behind_them_is_the_next_request(
    served: int, taker: Taker
) -> None:
    first, second = os.urandom(3 * MIB + 7), os.urandom(2 * MIB)
    async with connected(served) as (reader, writer):
        for data in (first, second):
            writer.write(put(len(data)) + data)
        writer.write(put(3) + b"end")
        for data in (first, second):
            assert (await answer(reader))[0] == f"poured {digest(data)}"
        assert (await answer(reader))[0] == f"read {digest(b'end')}"
    assert taker.given == 2


async def test_a_body_in_pieces_is_whole_wherever_it_is_cut(served: int, taker: Taker) -> None:
    data = os.urandom(200_000)
    async with connected(served) as (reader, writer):
        for cut in (0, 1, 70_000, len(data) - 1):
            taker.asked.clear()
            writer.write(put(len(data)) + data[:cut])
            await taker.asked.wait()
            writer.write(data[cut:])
            assert (await answer(reader))[0] == f"poured {digest(data)}"
    assert taker.given == 4


async def test_a_connection_that_is_to_end_with_its_answer_does(served: int) -> None:
    data = os.urandom(MIB)
    async with connected(served) as (reader, writer):
        writer.write(put(len(data), "Connection: close") + data)
        text, head = await answer(reader)
        assert text == f"poured {digest(data)}" and b"connection: close" in head.lower()
        assert await reader.read() == b""


async def test_a_client_that_asks_first_is_told_to_go_on(served: int) -> None:
    data = os.urandom(MIB)
    async with connected(served) as (reader, writer):
        writer.write(put(len(data), "Expect: 100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(data)
        assert (await answer(reader))[0] == f"poured {digest(data)}"


async def test_chunks_and_bodies_that_are_here_are_read(served: int, taker: Taker) -> None:
    async with connected(served) as (reader, writer):
        writer.write(
            b"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        await taker.asked.wait()
        writer.write(b"0\r\n\r\n")
        assert (await answer(reader))[0] == f"read {digest(b'abc')}"
        writer.write(put(3) + b"abc")
        assert (await answer(reader))[0] == f"read {digest(b'abc')}"
    assert taker.given == 0


async def test_a_client_that_leaves_ends_its_request_and_connection(
    served: int, taker: Taker
) -> None:
    for reset in (False, True):
        async with connected(served) as (reader, writer):
            taker.asked.clear()
            writer.write(put(MIB) + bytes(1000))
            await taker.asked.wait()
            if reset:
                writer.transport.abort()
                continue
            writer.write_eof()
            assert await reader.read() == b"", "no answer, no connection"
    async with asyncio.timeout(WAIT):
        while len(taker.ends) < 2:
            await asyncio.sleep(0.01)
    assert taker.ends == ["ClientGone", "ClientGone"]


async def test_slowness_is_not_silence(served: int) -> None:
    data = os.urandom(5)
    async with connected(served) as (reader, writer):
        writer.write(put(len(data)))
        for number in data:  # longer together than one silence may be
            await asyncio.sleep(STALL / 4)
            writer.write(bytes([number]))
        assert (await answer(reader))[0] == f"poured {digest(data)}"


async def test_silence_is_bounded(served: int, taker: Taker) -> None:
    taker.stall = 0.05
    async with connected(served) as (reader, writer):
        writer.write(put(6) + b"abc")
        assert (await answer(reader))[0] == f"poured {digest(b'abc')}"
    assert taker.ends == ["RequestTimeout"]


async def test_a_body_that_was_not_taken_to_its_end_ends_its_connection(
    served: int, taker: Taker
) -> None:
    """What is left of it would be taken for a request, or a request for it."""
    taker.pours = False
    async with connected(served) as (reader, writer):
        writer.write(put(MIB) + bytes(1000))
        assert (await answer(reader))[0] == "not poured"
        assert await reader.read() == b""


class Ends:
    """A body between two sockets of a test, and the pipe that it goes into."""

    def __init__(self, size: int) -> None:
        self.client, self._server = socket.socketpair()
        self._server.setblocking(False)
        self.theirs, ours = os.pipe()
        self.pipe = Writer(ours)
        self.told: list[str] = []
        self.body = RawBody(
            self._server.fileno(), b"", size,
            lambda: self.told.append("complete"), lambda: self.told.append("lost"),
        )  # fmt: skip

    def close(self) -> None:
        self.client.close()
        self._server.close()
        self.pipe.close()
        with contextlib.suppress(OSError):
            os.close(self.theirs)


async def test_a_pipe_that_nobody_reads_any_more_ends_it() -> None:
    with contextlib.closing(Ends(MIB)) as ends:
        os.close(ends.theirs)
        ends.client.sendall(bytes(1000))
        assert await pour(ends.body, ends.pipe, WAIT) is False
        assert ends.told == []


async def test_time_in_which_the_pipe_is_full_is_not_the_clients() -> None:
    size = 100_000
    with contextlib.closing(Ends(size)) as ends:
        # All is there before it begins, and more than fits: a page of a pipe holds no two messages.
        fcntl.fcntl(ends.pipe.fd, fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(4):
            ends.client.sendall(bytes(size // 4))
        pouring = asyncio.create_task(pour(ends.body, ends.pipe, 0.05))
        await asyncio.sleep(0.3)
        assert not pouring.done()
        reading = asyncio.create_task(asyncio.to_thread(_exactly, ends.theirs, size))
        async with asyncio.timeout(WAIT):
            assert await pouring is True
            assert await reading == size
        assert ends.told == ["complete"]


async def test_no_byte_behind_the_body_is_touched() -> None:
    with contextlib.closing(Ends(10)) as ends:
        ends.client.sendall(b"0123456789behind")
        assert await pour(ends.body, ends.pipe, WAIT)
        assert os.read(ends.theirs, 100) == b"0123456789"
        assert ends._server.recv(100) == b"behind"


async def test_a_body_that_is_cut_off_ends_as_one_whose_client_left() -> None:
    with contextlib.closing(Ends(MIB)) as ends:
        pouring = asyncio.create_task(pour(ends.body, ends.pipe, WAIT))
        await asyncio.sleep(0.01)
        ends.body.cut()
        with pytest.raises(ClientGone):
            await pouring
        assert ends.told == ["lost"]
        ends.body.cut()  # of no consequence once it is over


def _exactly(fd: int, size: int) -> int:
    got = 0
    while got < size and (piece := os.read(fd, MIB)):
        got += len(piece)
    return got
