"""The node's end of live streams: a unix socket that only this installation's gateway may reach.

The first byte of a connection tells what it is for. It follows one run, in frames of `model/frames.py`,
or it speaks of sessions, in frames of `model/agent.py`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sandboxd.model.agent import FrameError as SessionFrameError
from sandboxd.model.agent import Kind as SessionKind
from sandboxd.model.frames import Decoder, FrameError, Hello, Kind, encode
from sandboxd.node.live import CHUNK, Feed, Live
from sandboxd.node.sessions.server import Server
from sandboxd.node.sockets import bind

log = logging.getLogger(__name__)

_HELLO_TIMEOUT = 10.0
_hello = msgspec.json.Decoder(Hello)


class Agent:
    def __init__(self, runs: Mapping[str, Live], sessions: Server | None = None) -> None:
        """`runs` are the live runs of this node by id; it changes under our eyes."""
        self._runs, self._sessions = runs, sessions
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path, uid: int) -> None:
        """Serve on `path`, for root and for `uid` alone."""
        listener = await asyncio.to_thread(bind, path, uid)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=CHUNK)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT):
                first = await reader.read(CHUNK)
            if first and self._sessions is not None and first[0] >= min(SessionKind):
                await self._sessions.serve(first, reader, writer)
            elif first:
                await self._follow(first, reader, writer)
        except (
            ConnectionError,
            FrameError,
            SessionFrameError,
            msgspec.DecodeError,
            TimeoutError,
        ) as error:
            log.debug("stream ended: %s", error)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _follow(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        decoder = Decoder()
        frames = list(decoder.feed(first))
        if not frames:
            async with asyncio.timeout(_HELLO_TIMEOUT):
                frames = await _next(reader, decoder)
        if not frames or frames[0][0] is not Kind.HELLO:
            raise FrameError("no hello")
        live = self._runs.get(_hello.decode(frames[0][1]).run)
        if live is None:
            writer.write(encode(Kind.ERROR, b'{"code":"not_found","detail":"not running here"}'))
            return
        seat = live.sit()
        up = asyncio.create_task(_uplink(reader, decoder, frames[1:], live, seat))
        down = asyncio.create_task(_downlink(writer, live))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            if live.stdin is not None and live.sits(seat):
                live.stdin.close()


async def _next(reader: asyncio.StreamReader, decoder: Decoder) -> list[tuple[Kind, bytes]]:
    """The next frames, at least one; none at the end of the stream."""
    while data := await reader.read(CHUNK):
        if frames := list(decoder.feed(data)):
            return frames
    return []


async def _uplink(
    reader: asyncio.StreamReader,
    decoder: Decoder,
    frames: list[tuple[Kind, bytes]],
    live: Live,
    seat: object,
) -> None:
    """Client to stdin, as long as no later client sits there. Raises ConnectionError when the client
    is gone."""
    while True:
        for kind, payload in frames:
            await live.opened()
            if live.stdin is None or not live.sits(seat):
                continue
            if kind is Kind.STDIN:
                await live.stdin.write(payload)
            elif kind is Kind.STDIN_EOF:
                live.stdin.close()
        frames = await _next(reader, decoder)
        if not frames:
            raise ConnectionResetError("the client left")


async def _downlink(writer: asyncio.StreamWriter, live: Live) -> None:
    """stdout, stderr and at last the result to the client."""
    feeds = await live.attach()
    if feeds is not None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(writer, feeds[0], Kind.STDOUT))
                group.create_task(_pump(writer, feeds[1], Kind.STDERR))
        except* ConnectionError as errors:
            raise errors.exceptions[0] from None
        finally:
            for feed in feeds:
                feed.leave()
    result = await asyncio.shield(live.result)
    writer.write(encode(Kind.EXIT, msgspec.json.encode(result)))
    await writer.drain()


async def _pump(writer: asyncio.StreamWriter, feed: Feed, kind: Kind) -> None:
    async for chunk in feed.chunks():
        writer.write(encode(kind, chunk))
        await writer.drain()
