"""Connections to nodes' agents, kept open from one call to the next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandboxd.errors import Unavailable
from sandboxd.gateway.sessions.line import Line


class NodeUnreachable(Unavailable):
    code, title = "node_unreachable", "The sandbox is on another machine"
    retryable = False


_IDLE_MAX = 64
"""Connections that are kept for each node while nobody uses them."""


class Agents:
    def __init__(self) -> None:
        self._idle: dict[str, list[Line]] = {}

    @asynccontextmanager
    async def line(self, address: str) -> AsyncIterator[Line]:
        """A connection for one call. If that is not over at the end of the block, it is given up.

        Raises Unavailable if the node is not there, NodeUnreachable if it is another machine's.
        """
        line = self._kept(address) or await _connected(address)
        try:
            yield line
        finally:
            idle = self._idle.setdefault(address, [])
            if line.usable and len(idle) < _IDLE_MAX:
                idle.append(line)
            else:
                line.close()

    def _kept(self, address: str) -> Line | None:
        idle = self._idle.get(address, [])
        while idle:
            line = idle.pop()
            if line.usable:
                return line
            line.close()
        return None

    def close(self) -> None:
        for lines in self._idle.values():
            for line in lines:
                line.close()
        self._idle.clear()


def path_of(address: str) -> str:
    """Of the agent's socket. Raises NodeUnreachable."""
    scheme, _, path = address.partition(":")
    if scheme != "unix":
        raise NodeUnreachable(
            f"its node is at {address}, and only a node of the gateway's own machine is reached as yet"
        )
    return path


async def _connected(address: str) -> Line:
    path = path_of(address)
    try:
        _, line = await asyncio.get_running_loop().create_unix_connection(Line, path)
    except OSError as error:
        raise Unavailable(f"the sandbox's node does not answer: {error}", retry_after=1.0) from None
    return line
