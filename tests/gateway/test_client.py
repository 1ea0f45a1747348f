"""The client SDK and the real gateway understand each other; each alone is tested elsewhere."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from sandboxd_client import AsyncClient, Client, RequestError

from sandboxd.model import FileContent, Status
from sandboxd.model.frames import Decoder, Kind, encode
from sandboxd.queue import Queue
from tests.gateway.fakes import FakeNode, hello


@pytest.fixture
async def client(port: int) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"http://127.0.0.1:{port}") as client:
        yield client


async def test_run_and_its_result(client: AsyncClient, node: FakeNode) -> None:
    answer = await client.run(language="python", source="a", stdin="b", limits={"wall_time": 5})
    assert (answer.ok, answer.stdout, answer.node) == (True, "ab", "n1")
    with pytest.raises(RequestError) as caught:
        await client.run(language="python", source="a", limits={"memory": 1 << 40})
    assert (caught.value.code, caught.value.field) == ("limit_above_maximum", "limits.memory")


async def test_blocking_client_against_the_gateway(port: int, node: FakeNode) -> None:
    def work() -> str:
        with Client(f"http://127.0.0.1:{port}") as client:
            assert [each.name for each in client.languages() if each.available] == ["python"]
            assert client.health().ready
            run = client.submit(template="default", command=["x"], stdin="s")
            assert [event.type for event in run.events()][-1] == "finished"
            return run.wait().stdout

    assert await asyncio.to_thread(work) == "s"


async def test_same_idempotency_key_is_one_run(client: AsyncClient, node: FakeNode) -> None:
    first = await client.run(language="python", source="a", idempotency_key="k")
    second = await client.run(language="python", source="a", idempotency_key="k")
    assert first.id == second.id


async def test_events_wait_and_cancel(client: AsyncClient, queue: Queue) -> None:
    run = await client.submit(language="python", source="a")
    waiting = asyncio.create_task(run.wait())
    events = run.events()
    assert (await anext(events)).type == "queued"
    await run.cancel()
    await run.cancel()
    assert [event.type async for event in events][-1] == "finished"
    assert (await waiting).status == "cancelled"
    assert (await run.record()).state == "finished"


async def test_stream_both_ways(client: AsyncClient, node: FakeNode) -> None:
    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder, seen = Decoder(), b""
        while data := await reader.read(1 << 16):
            for kind, payload in decoder.feed(data):
                if kind is Kind.STDIN:
                    seen += payload
                    writer.write(encode(Kind.STDOUT, payload))
                elif kind is Kind.STDIN_EOF:
                    writer.write(encode(Kind.STDERR, b"%d" % len(seen)))
                    node.gate.set()
                    writer.close()
        await writer.wait_closed()

    node.gate.clear()
    server = await asyncio.start_unix_server(agent, str(node.agent))
    async with server:
        run = await client.submit(language="python", source="", interactive=True)
        pieces = {"stdout": b"", "stderr": b""}
        async with run.stream() as stream:
            await stream.write(bytes(range(256)) * 1000)
            await stream.close_stdin()
            async for piece in stream:
                pieces[piece.stream] += piece.data
            assert (await stream.result()).ok
    assert pieces == {"stdout": bytes(range(256)) * 1000, "stderr": b"256000"}


async def test_collected_files_and_unknown_run(client: AsyncClient, node: FakeNode) -> None:
    files = {"a": FileContent.of(b"\xff")}
    node.answer = lambda lease: replace(hello(lease), files=files, status=Status.OUTPUT_EXCEEDED)
    answer = await client.run(language="python", source="", collect=["a"])
    assert answer.files == {"a": b"\xff"} and answer.status == "output_exceeded"
    with pytest.raises(RequestError) as caught:
        await client.attach("run_" + "0" * 26).wait()
    assert caught.value.code == "not_found"
    with pytest.raises(RequestError):
        async with client.attach("run_" + "0" * 26).stream():
            pass


async def test_no_node_is_not_ready(client: AsyncClient) -> None:
    assert not (await client.health()).ready
