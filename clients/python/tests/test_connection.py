"""A service that is not there, breaks off, dawdles or babbles: which error, how often, how long."""

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from sandboxd_client import ConnectionFailed, SandboxdError, ServerError, Timeout

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"


class Peer:
    """Answers each connection's first request with the given pieces; None leaves it open."""

    def __init__(self, pieces: list[bytes | None], gap: float) -> None:
        self.connections = 0
        self._pieces, self._gap = pieces, gap
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(1 << 16)
                for piece in self._pieces:
                    if piece is None:
                        self._over.wait(10)
                        return
                    connection.sendall(piece)
                    if self._over.wait(self._gap):
                        return
            except OSError:
                return


@contextmanager
def peer(*pieces: bytes | None, gap: float = 0.0) -> Iterator[Peer]:
    found = Peer(list(pieces), gap)
    try:
        yield found
    finally:
        found.close()


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_nobody_there_is_a_retryable_failed_connection(connect):
    with pytest.raises(ConnectionFailed) as caught:
        await connect(closed_port(), retries=1).run(language="python", source="")
    assert caught.value.code == "connection_failed" and caught.value.retryable
    with pytest.raises(ConnectionFailed):
        await connect(closed_port(), retries=0).health()
    with pytest.raises(ConnectionFailed):
        async with connect(closed_port()).attach("run_1").stream():
            pass


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_missing_unix_socket_is_a_failed_connection(connect, tmp_path):
    with pytest.raises(ConnectionFailed):
        await connect(f"unix:{tmp_path}/none", retries=0).languages()
    gc.collect()  # httpcore leaves the socket that it could not connect to the collector


class Refusing(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Refuses the first `times` requests before they are sent, then lets them through."""

    def __init__(self, times: int) -> None:
        self.left = times
        self._sync, self._async = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()

    def _refuse(self) -> None:
        self.left -= 1
        if self.left >= 0:
            raise httpx.ConnectError("refused")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._refuse()
        return self._sync.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._refuse()
        return await self._async.handle_async_request(request)

    async def aclose(self) -> None:
        await self._async.aclose()

    def close(self) -> None:
        self._sync.close()


async def test_refused_connection_is_tried_again(connect, service):
    client = connect(service.url, transport=Refusing(2))
    assert (await client.run(language="python", source="", stdin="x")).stdout == "x"
    assert len(service.sent("POST")) == 1


async def test_run_that_may_have_been_taken_is_never_sent_twice(connect):
    with peer() as gone:
        with pytest.raises(ConnectionFailed) as caught:
            await connect(gone.url, retries=5).run(language="python", source="")
        assert not caught.value.retryable and gone.connections == 1


async def test_question_that_changes_nothing_is_asked_again_after_a_break(connect):
    with peer() as gone:
        with pytest.raises(ConnectionFailed):
            await connect(gone.url, retries=2).languages()
        assert gone.connections == 3


@pytest.mark.parametrize(
    "pieces",
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n",),
        (HEAD + b'{"id":',),
        (b"HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\n",),
    ],
)
async def test_broken_answer_is_a_failed_connection(connect, pieces):
    with peer(*pieces) as babbling, pytest.raises(ConnectionFailed) as caught:
        await connect(babbling.url).run(language="python", source="")
    assert isinstance(caught.value.__cause__, httpx.TransportError)


async def test_answer_that_is_not_json_is_a_server_error(connect):
    page = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"
    with peer(page) as proxy, pytest.raises(ServerError) as caught:
        await connect(proxy.url).run(language="python", source="")
    assert caught.value.code == "bad_answer"


@pytest.mark.parametrize(
    ("pieces", "gap"),
    [
        ((None,), 0.0),
        ((HEAD, None), 0.0),
        ((HEAD, *[b" "] * 100), 0.1),
    ],
    ids=["silent", "silent after the head", "byte by byte"],
)
async def test_deadline_holds_however_the_service_dawdles(connect, pieces, gap):
    with peer(*pieces, gap=gap) as slow:
        client = connect(slow.url)
        async with asyncio.timeout(5):
            with pytest.raises(Timeout) as caught:
                await client.run(language="python", source="", timeout=0.4)
    assert caught.value.code == "timeout" and "0.4 s" in str(caught.value)


async def test_deadline_holds_for_events_that_never_come(connect):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    with peer(head, *[b": keep-alive\n\n"] * 50, gap=0.1) as slow, pytest.raises(Timeout):
        await connect(slow.url).attach("run_1").wait(timeout=0.4)


async def test_deadline_holds_while_no_connection_is_free(connect, service):
    client = connect(service.url, max_connections=1)
    holding = asyncio.create_task(client.run(language="python", source="hold"))
    assert await asyncio.to_thread(service.submitted.wait, 10)
    with pytest.raises(Timeout):
        await client.languages(timeout=0.2)
    service.finish("run_1")
    assert (await holding).ok


async def test_line_without_end_in_the_events_is_refused(connect):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    with peer(head, *[b"x" * (1 << 20)] * 3) as endless, pytest.raises(ServerError) as caught:
        await connect(endless.url).attach("run_1").wait(timeout=10)
    assert "too long" in str(caught.value)


async def test_many_runs_at_once_share_the_pool(connect, service):
    client = connect(service.url, max_connections=4)
    runs = [client.run(language="python", source="", stdin=str(n)) for n in range(32)]
    answers = await asyncio.gather(*runs)
    assert [answer.stdout for answer in answers] == [str(n) for n in range(32)]


def test_every_error_is_of_the_one_tree():
    for kind in (ConnectionFailed, ServerError, Timeout):
        assert issubclass(kind, SandboxdError) and kind("x").code != SandboxdError.code
