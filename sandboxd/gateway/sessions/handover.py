"""Descriptors from a node's agent: of a large file, or of the pipe that takes one.

What is large then does not pass the node, whose copy of it would cost as much again. The gateway gets
nothing by it that a call would not give: the content of one file, or a way to say one.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandboxd.descriptors import readable
from sandboxd.errors import DriverFault, Unavailable
from sandboxd.gateway.sessions.agents import path_of
from sandboxd.gateway.sessions.line import Line, NodeLost, problem_of
from sandboxd.model.agent import Decoder, Kind, ReadFile, WriteFile, message

LARGE = 1 << 20
"""Bytes from which on a connection of its own is worth it."""
_FDS_MAX = 2


@asynccontextmanager
async def handed(
    address: str, call: ReadFile | WriteFile
) -> AsyncIterator[tuple[Line, bytes, int]]:
    """What comes first of a call with `handover`: the line that it goes on with, its EVENT, and the
    descriptor, which the block closes. Raises what the node answers, Unavailable, NodeLost."""
    loop = asyncio.get_running_loop()
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.setblocking(False)
    fds: list[int] = []
    try:
        try:
            await loop.sock_connect(raw, path_of(address))
        except OSError as error:
            raise Unavailable(
                f"the sandbox's node does not answer: {error}", retry_after=1.0
            ) from None
        try:
            await loop.sock_sendall(raw, message(Kind.CALL, call))
            kind, payload = await _first(raw, fds)
        except OSError as error:
            raise NodeLost(f"the sandbox's node was lost: {error}", retry_after=1.0) from None
        if kind is Kind.ERROR:
            raise problem_of(payload)
        if kind is not Kind.EVENT or len(fds) != 1:
            raise DriverFault("agent", "hand over", f"{kind.name} with {len(fds)} descriptors")
        _, line = await loop.create_unix_connection(Line, sock=raw)
        line.free = False
    except BaseException:
        raw.close()
        for fd in fds:
            os.close(fd)
        raise
    try:
        yield line, payload, fds[0]
    finally:
        line.close()


async def _first(raw: socket.socket, fds: list[int]) -> tuple[Kind, bytes]:
    """The first frame; its descriptors are added to `fds`. No byte is read beyond it: the kernel ends a
    message that has descriptors, and an error is the last that is said."""
    decoder = Decoder()
    while True:
        await readable(raw.fileno())
        data, found, flags, _ = socket.recv_fds(raw, 65_536, _FDS_MAX, socket.MSG_CMSG_CLOEXEC)
        fds += found
        if not data:
            raise ConnectionResetError("the node closed the connection")
        if flags & socket.MSG_CTRUNC:
            raise DriverFault("agent", "hand over", "descriptors were lost")
        if frames := decoder.feed(data):
            return frames[0]
