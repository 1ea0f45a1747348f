"""One connection of the gateway's: frames in, frames out, and the end of the other side noticed."""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import AsyncIterator

from sandboxd.model.agent import Decoder, FrameError, Kind

_READ = 256 << 10


class Hangup(Exception):
    """The gateway has closed the connection: the call that runs is given up."""


class Link:
    def __init__(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder()
        self._frames: deque[tuple[Kind, bytes]] = deque(self._decoder.feed(first))
        self._sending = asyncio.Lock()

    async def next_call(self) -> bytes | None:
        """The payload of the next CALL; what is left of the one before is thrown away. None at the
        end."""
        while True:
            frame = await self.next()
            if frame is None:
                return None
            if frame[0] is Kind.CALL:
                return frame[1]
            if frame[0] not in (Kind.DATA, Kind.END, Kind.RESIZE, Kind.SIGNAL):
                raise FrameError(f"{frame[0].name} where a call is to come")

    async def next(self) -> tuple[Kind, bytes] | None:
        """The next frame; None at the end."""
        while not self._frames:
            data = await self._reader.read(_READ)
            if not data:
                return None
            self._frames.extend(self._decoder.feed(data))
        return self._frames.popleft()

    def put_back(self, frame: tuple[Kind, bytes]) -> None:
        self._frames.appendleft(frame)

    async def content(self) -> AsyncIterator[bytes]:
        """DATA until END. Raises Hangup if the connection ends before, FrameError for anything
        else."""
        while True:
            frame = await self.next()
            if frame is None:
                raise Hangup
            kind, payload = frame
            if kind is Kind.END:
                return
            if kind is not Kind.DATA:
                raise FrameError(f"{kind.name} within a content")
            yield payload

    async def send(self, data: bytes) -> None:
        """Waits until the gateway takes it."""
        async with self._sending:
            self._writer.write(data)
            await self._writer.drain()

    async def send_all(self, *parts: bytes) -> None:
        """One frame in parts, without copying them together."""
        async with self._sending:
            self._writer.writelines(parts)
            await self._writer.drain()

    async def hand_over(self, data: bytes, fd: int) -> None:
        """A frame with a copy of the descriptor."""
        async with self._sending:
            await self._writer.drain()
            # Nothing is buffered: what was sent before it has gone, on a connection of this call's own.
            with socket.socket(
                fileno=os.dup(self._writer.get_extra_info("socket").fileno())
            ) as line:
                socket.send_fds(line, [data], [fd])

    finish = send

    async def gone(self) -> None:
        """Until the gateway hangs up; for calls that take no input. Raises Hangup."""
        while True:
            frame = await self.next()
            if frame is None:
                raise Hangup
            if frame[0] is Kind.CALL:  # sent ahead: it waits for its turn
                self.put_back(frame)
                await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
