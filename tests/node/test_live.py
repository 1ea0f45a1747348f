"""Live streams over a real unix socket, with a run whose program is this test."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sandboxd.model import Status
from sandboxd.model.frames import Kind, encode
from sandboxd.node import agent as agent_module
from sandboxd.node.agent import Agent
from sandboxd.node.live import Live
from tests.node.streams import CAP, House, until


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    runs: dict[str, Live] = {}
    agent = Agent(runs)
    path = tmp_path / "node" / "agent.sock"
    await agent.listen(path, os.getuid())
    house = House(path, runs)
    yield house
    await house.leave()
    await agent.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:  # what serves a connection ends with it
        await asyncio.wait(others, timeout=10)
    assert not [task for task in others if not task.done()]


def test_socket_is_for_root_and_the_gateway_alone(house: House) -> None:
    assert house.path.stat().st_mode & 0o777 == 0o600
    assert house.path.parent.stat().st_mode & 0o777 == 0o710


async def test_output_from_before_the_client_came_is_replayed(house: House) -> None:
    program = house.program()
    await program.write(b"early ")
    await until(lambda: program.kept == 6)
    client = await house.follow()
    await client.have(Kind.STDOUT, 6)
    await program.write(b"late")
    await program.write(b"oops", stream=1)
    assert await client.have(Kind.STDOUT, 10) == b"early late"
    assert await client.have(Kind.STDERR, 4) == b"oops"
    program.end()
    assert (await client.result()).status is Status.OK


async def test_client_that_comes_after_the_end_gets_all_of_it(house: House) -> None:
    program = house.program()
    await program.write(b"all")
    program.end(Status.NONZERO_EXIT)
    client = await house.follow()
    assert (await client.result()).status is Status.NONZERO_EXIT
    assert client.got[Kind.STDOUT] == b"all"


async def test_client_that_comes_before_the_program_waits_for_it(house: House) -> None:
    program = house.program(interactive=True, start=False)
    client = await house.follow()
    client.send(Kind.STDIN, b"hello")
    client.send(Kind.STDIN_EOF)
    program.start()
    assert await program.read(100) == b"hello"
    program.end()
    assert (await client.result()).status is Status.OK


async def test_run_that_never_had_a_program_still_ends(house: House) -> None:
    program = house.program(start=False)
    client = await house.follow()
    program.end(Status.COMPILE_ERROR)
    assert (await client.result()).status is Status.COMPILE_ERROR


async def test_run_that_goes_on_elsewhere_lets_its_clients_go(house: House) -> None:
    program = house.program(start=False)
    client = await house.follow()
    await asyncio.sleep(0.02)
    program.live.abandon()
    while not client.ended:
        await client.more()
    assert client.got[Kind.EXIT] == b""


async def test_unknown_run_is_not_found(house: House) -> None:
    client = await house.follow("run_other")
    while not client.ended:
        await client.more()
    assert msgspec.json.decode(client.got[Kind.ERROR])["code"] == "not_found"


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 20, b"\x02\xff\xff\xff\xff", encode(Kind.STDIN, b"x"),
     encode(Kind.HELLO, b"{"), encode(Kind.HELLO, b'{"run": 1}'), encode(Kind.HELLO, b"\xff")],
)  # fmt: skip
async def test_garbage_instead_of_a_hello_ends_the_connection(house: House, garbage: bytes) -> None:
    house.program()
    client = await house.connect()
    client.writer.write(garbage)
    while not client.ended:
        await client.more()
    assert not any(client.got.values())


async def test_garbage_after_the_hello_ends_the_connection_and_not_the_run(house: House) -> None:
    program = house.program(interactive=True)
    client = await house.follow()
    client.writer.write(b"\xee" * 10)
    while not client.ended:
        await client.more()
    again = await house.follow()
    await program.write(b"still here")
    await again.have(Kind.STDOUT, 10)


async def test_silent_connection_is_closed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_HELLO_TIMEOUT", 0.05)
    client = await house.connect()
    client.writer.write(encode(Kind.HELLO, b"{}")[:3])
    await client.more()
    assert client.ended


async def test_stdin_passes_through_and_ends(house: House) -> None:
    program = house.program(interactive=True)
    client = await house.follow()
    sent = os.urandom(300_000)
    for at in range(0, len(sent), 50_000):
        client.send(Kind.STDIN, sent[at : at + 50_000])
    client.send(Kind.STDIN_EOF)
    assert await program.read(len(sent) + 1) == sent


async def test_stdin_of_a_run_that_takes_none_is_dropped(house: House) -> None:
    program = house.program(interactive=False)
    client = await house.follow()
    client.send(Kind.STDIN, b"unwanted")
    client.send(Kind.STDIN_EOF)
    await program.write(b"goes on")
    await client.have(Kind.STDOUT, 7)


async def test_program_that_does_not_read_holds_its_client_up(house: House) -> None:
    program = house.program(interactive=True)
    client = await house.follow()
    chunk = b"x" * 60_000

    async def flood() -> None:
        for _ in range(40):
            client.send(Kind.STDIN, chunk)
            await client.writer.drain()

    flooding = asyncio.create_task(flood())
    await asyncio.sleep(0.1)
    assert not flooding.done()
    assert len(await program.read(40 * len(chunk))) == 40 * len(chunk)
    await flooding


async def test_client_that_leaves_ends_stdin(house: House) -> None:
    program = house.program(interactive=True)
    client = await house.follow()
    client.send(Kind.STDIN, b"last")
    await client.writer.drain()
    client.close()
    assert await program.read(100) == b"last"


@pytest.mark.parametrize("interactive", [True, False])
async def test_slow_client_holds_up_an_interactive_program_and_no_other(
    house: House, interactive: bool
) -> None:
    program = house.program(interactive=interactive)
    client = await house.follow()
    await program.write(b"x")
    await client.have(Kind.STDOUT, 1)
    data = os.urandom(CAP - 1)
    writing = asyncio.create_task(program.write(data))
    if interactive:
        await until(lambda: not program._outputs[0]._reader.reading)
        await asyncio.sleep(0.05)
        assert not writing.done() and program.kept < CAP // 2
    else:
        await asyncio.wait_for(writing, 20)  # nobody waits for the client
    assert (await client.have(Kind.STDOUT, CAP))[1:] == data
    await writing


async def test_slow_client_that_leaves_sets_the_program_free(house: House) -> None:
    program = house.program(interactive=True)
    client = await house.follow()
    writing = asyncio.create_task(program.write(b"y" * CAP))
    await until(lambda: not program._outputs[0]._reader.reading)
    client.writer.transport.abort()
    await asyncio.wait_for(writing, 20)


async def test_second_client_takes_over_and_the_first_ones_leaving_changes_nothing(
    house: House,
) -> None:
    program = house.program(interactive=True)
    first = await house.follow()
    await program.write(b"a")
    await first.have(Kind.STDOUT, 1)
    second = await house.follow()
    await second.have(Kind.STDOUT, 1)
    first.close()
    await asyncio.sleep(0.05)
    await program.write(b"b")
    assert await second.have(Kind.STDOUT, 2) == b"ab"
    second.send(Kind.STDIN, b"mine")
    assert await program.read(4) == b"mine"
    second.send(Kind.STDIN_EOF)
    assert await program.read(1) == b""
