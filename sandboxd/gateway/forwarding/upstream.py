"""One connection to a port of a sandbox, for one request.

It is never used again, so nothing that either side sends too much can become part of another's exchange.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandboxd.errors import DriverFault, PortClosed
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding.errors import NoAnswer, NobodyListens
from sandboxd.gateway.forwarding.headers import Target
from sandboxd.gateway.sessions.line import Line
from sandboxd.model import agent
from sandboxd.model.agent import Kind

_CONNECT = 15.0
"""Seconds; a sandbox that is paused wakes in them."""


class Upstream:
    """Bytes to and from the server."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._over = False
        self._writing = asyncio.Lock()

    async def send(self, data: bytes) -> None:
        """Waits while the server does not read; what comes after its end is dropped. Raises NodeLost."""
        async with self._writing:
            if data and not self._over:
                await self._line.write_data(data)

    async def receive(self) -> bytes:
        """What comes next; empty: the server has closed its direction. Raises NodeLost."""
        while not self._over:
            kind, payload = await self._line.next()
            if kind is Kind.REPLY:
                self._over = True
            elif payload:
                return payload
        return b""


@asynccontextmanager
async def connected(gateway: Gateway, target: Target) -> AsyncIterator[Upstream]:
    """Raises NobodyListens, NoAnswer, NotFound, SandboxEnded, Unavailable."""
    place = target.place
    call = agent.Connect(tenant=target.tenant, sandbox=place.sandbox, port=place.port)
    context = gateway.sandboxes.open(call)
    try:
        async with asyncio.timeout(_CONNECT):
            line, (kind, _) = await context.__aenter__()
    except TimeoutError:
        raise NoAnswer(f"port {place.port} took no connection in {_CONNECT:g} seconds") from None
    except PortClosed as error:
        raise NobodyListens(error.detail) from None
    try:
        if kind is not Kind.EVENT:
            raise DriverFault("agent", "connect", f"{kind.name} where EVENT was to come")
        yield Upstream(line)
    finally:
        await context.__aexit__(None, None, None)
