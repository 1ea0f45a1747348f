"""Servers in an open sandbox are reached, and nothing else is."""

import asyncio
import socket

import pytest

from sandboxd.errors import PortClosed
from sandboxd.model import agent
from sandboxd.model.agent import Closed, Connected, Kind, PortState, frame, message
from tests.node.sessions.gateway import Box, Gateway, Line, decode

pytestmark = pytest.mark.root

SERVER = """
import socket, sys, time
time.sleep(float(sys.argv[2]))
s = socket.socket(socket.AF_INET6 if sys.argv[3] == "6" else socket.AF_INET)
s.bind(("::1" if sys.argv[3] == "6" else "127.0.0.1", int(sys.argv[1]))); s.listen()
while True:
    c, _ = s.accept()
    while True:
        d = c.recv(65536)
        if not d: break
        c.sendall(d.upper())
    c.sendall(b" bye"); c.close()
"""


async def _serve(box: Box, port: int, delay: float = 0.0, family: str = "4") -> None:
    await box.start("/usr/bin/python3", "-IS", "-c", SERVER, str(port), str(delay), family)


async def _connect(line: Line, box: Box, port: int) -> None:
    await line.send(message(Kind.CALL, box.fill(agent.Connect, port=port)))
    assert await line.expect(Kind.EVENT, Connected) == Connected(port)


@pytest.mark.parametrize("family", ["4", "6"])
async def test_a_server_is_waited_for_and_talked_to(
    gateway: Gateway, box: Box, family: str
) -> None:
    await _serve(box, 8000, 0.3, family)
    with pytest.raises(PortClosed):
        await box.ask(agent.Connect, Closed, port=8000)
    assert await box.ask(agent.WaitForPort, PortState, port=8000) == PortState(8000, True)
    async with gateway.line() as line:
        await _connect(line, box, 8000)
        await line.send(frame(Kind.DATA, b"hello"))
        assert await line.next() == (Kind.DATA, b"HELLO")
        big = b"x" * 200_000
        await line.send(frame(Kind.DATA, big), frame(Kind.END))
        data = b""
        while True:
            kind, payload = await line.next()
            if kind is Kind.REPLY:
                break
            data += payload
        assert data == b"X" * 200_000 + b" bye"
        assert decode(payload, Closed) == Closed(200_005, 200_009)
        assert await line.call(
            box.fill(agent.WaitForPort, port=9, timeout=0.05), PortState
        ) == PortState(9, False)


async def test_a_port_of_the_host_is_none_of_the_sandboxs(box: Box) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortClosed):
            await box.ask(agent.Connect, Closed, port=port)


async def test_sandboxes_do_not_meet(gateway: Gateway, box: Box) -> None:
    await _serve(box, 8000)
    assert (await box.ask(agent.WaitForPort, PortState, port=8000)).open
    other = await gateway.create()
    with pytest.raises(PortClosed):
        await other.ask(agent.Connect, Closed, port=8000)


async def test_a_server_that_reads_nothing_holds_the_client_up(gateway: Gateway, box: Box) -> None:
    deaf = (
        "import socket, time\ns = socket.socket()\ns.bind(('127.0.0.1', 8080))\ns.listen()\n"
        "c = s.accept()\ntime.sleep(60)"
    )
    await box.start("/usr/bin/python3", "-IS", "-c", deaf)
    assert (await box.ask(agent.WaitForPort, PortState, port=8080)).open
    async with gateway.line() as line:
        sent = 0
        await line.send(message(Kind.CALL, box.fill(agent.Connect, port=8080)))
        await line.expect(Kind.EVENT, Connected)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                while True:
                    await line.send(frame(Kind.DATA, bytes(65536)))
                    sent += 65536
        assert sent < 32 << 20
    assert await box.sh("echo on") == b"on\n"
