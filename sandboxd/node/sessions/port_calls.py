"""Calls about servers in a sandbox: reached through its own loopback, whatever network it has."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sandboxd.errors import Overload, PortClosed
from sandboxd.model import agent
from sandboxd.model.agent import Closed, Connected, Kind, PortState, frame, message
from sandboxd.native import socket_inside
from sandboxd.node.sessions.link import Hangup, Link
from sandboxd.node.sessions.session import Session

_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_CHUNK = 65_536
_LOOK_FIRST, _LOOK_MAX = 0.01, 0.25
"""Seconds between two looks at a port: the kernel tells nobody that a socket listens."""


async def _open(session: Session, port: int) -> socket.socket:
    """A connection to the port. Raises PortClosed."""
    loop = asyncio.get_running_loop()
    for family, address in _LOOPBACKS:
        try:
            fd = await session.work(socket_inside, session.built.slot.fd, int(family))
        except OSError as error:
            raise Overload(f"no socket: {error}", retry_after=1.0) from error
        line = socket.socket(fileno=fd)
        line.setblocking(False)
        try:
            await loop.sock_connect(line, (address, port))
        except OSError:
            line.close()
        except BaseException:
            line.close()
            raise
        else:
            return line
    raise PortClosed(f"nobody listens on port {port}")


async def connect(session: Session, call: agent.Connect, link: Link) -> Closed:
    with await _open(session, call.port) as line:
        await link.send(message(Kind.EVENT, Connected(call.port)))
        counts = [0, 0]
        up = asyncio.ensure_future(_uplink(line, link, counts))
        down = asyncio.ensure_future(_downlink(line, link, counts))
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not down.done():
                up.result()  # raises: it ends by a hang-up alone
            await down
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
    return Closed(*counts)


async def _uplink(line: socket.socket, link: Link, counts: list[int]) -> None:
    loop = asyncio.get_running_loop()
    writing = True
    while True:
        received = await link.next()
        if received is None:
            raise Hangup
        kind, payload = received
        try:
            if kind is Kind.DATA and writing:
                await loop.sock_sendall(line, payload)
                counts[0] += len(payload)
            elif kind is Kind.END and writing:
                writing = False
                line.shutdown(socket.SHUT_WR)
        except OSError:
            writing = False  # the server has gone: what it sent before is still to come
        if kind is Kind.CALL:  # sent ahead: it waits for its turn
            link.put_back(received)
            await loop.create_future()


async def _downlink(line: socket.socket, link: Link, counts: list[int]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(line, _CHUNK)
        except OSError:
            return
        if not data:
            return
        counts[1] += len(data)
        await link.send(frame(Kind.DATA, data))


async def wait(session: Session, call: agent.WaitForPort, link: Link) -> PortState:
    end = time.monotonic() + call.timeout
    pause = _LOOK_FIRST
    while True:
        try:
            (await _open(session, call.port)).close()
        except PortClosed:
            left = end - time.monotonic()
            if left <= 0:
                return PortState(call.port, False)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _LOOK_MAX)
        else:
            return PortState(call.port, True)


PORT_CALLS: dict[type, Callable[[Session, Any, Link], Awaitable[object]]] = {
    agent.Connect: connect,
    agent.WaitForPort: wait,
}
