"""The live stream of a run, between a WebSocket client and an agent on a unix socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sandboxd.gateway.context import Gateway
from sandboxd.model import Lease, Result, Status
from sandboxd.model.frames import Decoder, Kind, encode
from sandboxd.settings import Settings
from tests.gateway.fakes import FakeNode, hello, until_quiet

RUN = {"language": "python", "source": "1", "interactive": True}
ASYNC = {"Prefer": "respond-async"}
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def agent(node: FakeNode, serve: Peer) -> AsyncIterator[None]:
    """An agent whose connections are served by `serve`."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(connected, str(node.agent))
    try:
        yield
    finally:
        server.close()


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[Kind, bytes]]:
    decoder = Decoder()
    while data := await reader.read(1 << 16):
        for frame in decoder.feed(data):
            yield frame


def document(run: str) -> bytes:
    return msgspec.json.encode(Result(id=run, status=Status.OK, exit_code=0))


async def start(api: httpx.AsyncClient, **more: Any) -> str:
    return str((await api.post("/v1/runs", json=RUN | more, headers=ASYNC)).json()["id"])


def attach(port: int, run: str, **options: Any) -> connect:
    return connect(
        f"ws://127.0.0.1:{port}/v1/runs/{run}/stream",
        **{"compression": None, "max_size": None, "ping_interval": None} | options,
    )


async def drain(socket: ClientConnection) -> tuple[bytes, bytes, dict[str, Any]]:
    """stdout, stderr and the last control message."""
    data = {1: b"", 2: b""}
    control: dict[str, Any] = {}
    with contextlib.suppress(ConnectionClosed):  # the tests look at the code it closed with
        async for message in socket:
            assert not control, "the control message is the last one"
            if isinstance(message, str):
                control = json.loads(message)
            else:
                data[message[0]] += message[1:]
    return data[1], data[2], control


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies stdin to stdout, says goodbye on stderr."""
    run = ""
    async for kind, payload in frames(reader):
        if kind is Kind.HELLO:
            run = json.loads(payload)["run"]
        elif kind is Kind.STDIN:
            writer.write(encode(Kind.STDOUT, payload))
        elif kind is Kind.STDIN_EOF:
            writer.write(encode(Kind.STDERR, b"bye") + encode(Kind.EXIT, document(run)))
            await writer.drain()
            return


async def test_stdin_goes_in_and_output_and_exit_come_out(
    port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    node.gate.clear()
    run = await start(wire)
    async with agent(node, echo), attach(port, run) as socket:
        await socket.send(b"\0hel")
        await socket.send(b"\0lo")
        await socket.send('{"type": "stdin_eof"}')
        out, err, control = await drain(socket)
    assert (out, err) == (b"hello", b"bye")
    assert control["type"] == "exit"
    assert control["result"]["id"] == run and control["result"]["exit_code"] == 0
    assert socket.close_code == 1000
    node.gate.set()


async def test_client_may_attach_before_the_run_is_started(
    port: int, wire: httpx.AsyncClient, make_node: Callable[[], Awaitable[FakeNode]]
) -> None:
    run = await start(wire)
    async with attach(port, run) as socket:
        await socket.send(b"\0early")
        await socket.send('{"type": "stdin_eof"}')
        node = await make_node()
        node.gate.clear()
        async with agent(node, echo):
            out, _, control = await drain(socket)
    assert (out, control["type"]) == (b"early", "exit")


async def test_finished_run_is_replayed(port: int, wire: httpx.AsyncClient, node: FakeNode) -> None:
    def both(lease: Lease) -> Result:
        return replace(hello(lease), stdout="é" * 100_000, stderr="no")

    node.answer = both
    run = (await wire.post("/v1/runs", json=RUN)).json()["id"]
    async with attach(port, run) as socket:
        out, err, control = await drain(socket)
    assert (out.decode(), err) == ("é" * 100_000, b"no")
    assert control["result"]["status"] == "ok" and socket.close_code == 1000


async def test_binary_output_is_replayed_as_it_was(
    port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    node.answer = lambda lease: replace(hello(lease), stdout="/wA=", encoding="base64")
    run = (await wire.post("/v1/runs", json=RUN)).json()["id"]
    async with attach(port, run) as socket:
        out, _, _ = await drain(socket)
    assert out == b"\xff\x00"


async def test_program_that_does_not_read_stops_its_client(
    port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    release = asyncio.Event()
    swallowed = 0

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal swallowed
        await release.wait()
        async for kind, payload in frames(reader):
            if kind is Kind.STDIN:
                swallowed += len(payload)
            if kind is Kind.STDIN_EOF:
                writer.write(encode(Kind.EXIT, document("x")))
                return

    node.gate.clear()
    run = await start(wire)
    total = 400
    async with agent(node, deaf), attach(port, run, write_limit=1 << 14) as socket:
        sent = 0

        async def pour() -> None:
            nonlocal sent
            while sent < total:
                await socket.send(b"\0" + b"x" * 65_536)
                sent += 1

        pouring = asyncio.create_task(pour())
        await until_quiet(lambda: sent)
        # What fits in the sockets' own buffers is sent; 26 MB would be a buffer of ours.
        assert not pouring.done() and sent < total // 2
        release.set()
        await pouring
        await socket.send('{"type": "stdin_eof"}')
        await drain(socket)
    assert swallowed == total * 65_536
    node.gate.set()


async def test_client_that_does_not_read_stops_the_program(
    port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    written = 0
    total = 400

    async def torrent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        for _ in range(total):
            writer.write(encode(Kind.STDOUT, b"x" * 65_536))
            await writer.drain()
            written += 1
        writer.write(encode(Kind.EXIT, document("x")))
        await writer.drain()

    node.gate.clear()
    run = await start(wire)
    async with agent(node, torrent), attach(port, run, max_queue=1) as socket:
        await until_quiet(lambda: written)
        assert 0 < written < total // 2
        out, _, control = await drain(socket)
    assert len(out) == total * 65_536 and control["type"] == "exit"
    node.gate.set()


async def test_agent_that_breaks_off_is_followed_by_the_queue_s_verdict(
    port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Kind.STDOUT, b"half"))
        await writer.drain()
        writer.close()
        node.gate.set()

    node.gate.clear()
    run = await start(wire)
    async with agent(node, dies), attach(port, run) as socket:
        out, _, control = await drain(socket)
    assert (out, control["type"], control["result"]["id"]) == (b"half", "exit", run)


async def test_agent_that_has_the_run_no_more_means_the_result(
    port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    async def forgot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await anext(frames(reader))
        writer.write(encode(Kind.ERROR, b'{"code": "not_found", "detail": "no such run"}'))
        await writer.drain()
        node.gate.set()

    node.gate.clear()
    run = await start(wire)
    async with agent(node, forgot), attach(port, run) as socket:
        out, _, control = await drain(socket)
    assert (out, control["result"]["status"]) == (b"1", "ok")


async def test_missing_agent_means_the_result(
    port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    node.gate.clear()
    run = await start(wire)
    await node.started.get()
    async with attach(port, run) as socket:
        node.gate.set()
        out, _, control = await drain(socket)
    assert (out, control["type"]) == (b"1", "exit")


@pytest.mark.parametrize(
    ("code", "seen", "close"),
    [("conflict", "conflict", 1008), ("broken", "internal_error", 1011)],
)
async def test_refusal_of_the_agent_is_a_problem(
    port: int, wire: httpx.AsyncClient, node: FakeNode, code: str, seen: str, close: int
) -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await anext(frames(reader))
        writer.write(encode(Kind.ERROR, json.dumps({"code": code, "detail": "why"}).encode()))
        await writer.drain()

    node.gate.clear()
    run = await start(wire)
    async with agent(node, refuses), attach(port, run) as socket:
        _, _, control = await drain(socket)
    assert (control["type"], control["problem"]["code"]) == ("error", seen)
    assert socket.close_code == close
    node.gate.set()


@pytest.mark.parametrize(
    "message", ["nonsense", '{"type": "nope"}', '{"type": "stdin_eof", "x": 1}', b"\1x", b""]
)
async def test_nonsense_of_the_client_is_a_problem(
    port: int, wire: httpx.AsyncClient, node: FakeNode, message: str | bytes
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    node.gate.clear()
    run = await start(wire)
    async with agent(node, silent), attach(port, run) as socket:
        await socket.send(message)
        _, _, control = await drain(socket)
    assert control["problem"]["code"] == "invalid_request" and socket.close_code == 1008
    node.gate.set()


async def test_message_above_a_frame_is_refused(port: int, wire: httpx.AsyncClient) -> None:
    async with attach(port, await start(wire)) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.send(b"\0" + b"x" * (1 << 17))
            await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


async def test_empty_fragments_are_not_collected(port: int, wire: httpx.AsyncClient) -> None:
    async def fragments() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b""

    async with attach(port, await start(wire)) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.send(fragments())
            await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/runs/run_" + "a" * 26 + "/stream", {}, 404),
        ("{run}", {"Origin": "http://evil.example"}, 403),
        ("{run}", {"Origin": "null"}, 403),
        ("{run}", {"Host": "evil.example"}, 403),
    ],
)
async def test_handshake_is_refused(
    wire: httpx.AsyncClient,
    path: str,
    headers: dict[str, str],
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = path.format(run=f"/v1/runs/{await start(wire)}/stream")
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    answer = await wire.get(path, headers=handshake | headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "uvicorn.error" not in {record.name for record in caplog.records}


async def test_page_of_the_same_origin_is_let_in(
    port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    run = (await wire.post("/v1/runs", json=RUN)).json()["id"]
    async with attach(port, run, origin=f"http://127.0.0.1:{port}") as socket:
        _, _, control = await drain(socket)
    assert control["type"] == "exit"


class TestShortTimeouts:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(
            settings,
            gateway=replace(
                settings.gateway, header_timeout=0.1, body_timeout=0.1, idle_timeout=0.1
            ),
        )

    async def test_stream_outlives_the_timeouts_of_its_request(
        self,
        port: int,
        wire: httpx.AsyncClient,
        node: FakeNode,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("sandboxd.gateway.connection._BODY_GRACE", 0.0)
        node.gate.clear()
        run = await start(wire)
        async with agent(node, echo), attach(port, run) as socket:
            await asyncio.sleep(0.5)
            await socket.send('{"type": "stdin_eof"}')
            _, err, _ = await drain(socket)
        assert err == b"bye"
        node.gate.set()


async def test_client_that_vanishes_frees_its_slot_and_the_agent(
    gateway: Gateway, port: int, wire: httpx.AsyncClient, node: FakeNode
) -> None:
    left = asyncio.Event()

    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Kind.STDOUT, b"x"))
        await reader.read()
        left.set()

    node.gate.clear()
    run = await start(wire)
    async with agent(node, patient):
        async with attach(port, run) as socket:
            await socket.recv()
            socket.transport.abort()
        async with asyncio.timeout(10):
            await left.wait()
            while gateway.slots.taken:
                await asyncio.sleep(0.01)
    node.gate.set()


async def test_stopping_gateway_says_so(
    gateway: Gateway, port: int, wire: httpx.AsyncClient
) -> None:
    async with attach(port, await start(wire)) as socket:
        gateway.close()
        _, _, control = await drain(socket)
    assert control["problem"]["code"] == "unavailable" and socket.close_code == 1011


async def test_too_many_streams_are_refused(
    gateway: Gateway, port: int, wire: httpx.AsyncClient
) -> None:
    gateway.slots.limit = 1
    run = await start(wire)
    async with attach(port, run):
        with pytest.raises(InvalidStatus) as refused:
            async with attach(port, run):
                pass
    assert refused.value.response.status_code == 503
