"""Calls to the node of this machine about images and volumes; see `model/images_wire.py`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from sandboxd.errors import DriverFault, Unavailable, known
from sandboxd.model.agent import MAX_DATA, Decoder, FrameError, Kind, Problem, frame, message
from sandboxd.model.building import Progress
from sandboxd.model.images_wire import Call

T = TypeVar("T")
_CHUNK = 1 << 18


class NodeLink:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, call: Call, kind: type[T]) -> T:
        """The node's answer. Raises its error, or Unavailable if it is not there."""
        return msgspec.msgpack.decode(await self.follow(call, None, lambda _: None), type=kind)

    async def follow(
        self,
        call: Call,
        body: AsyncIterator[bytes] | None,
        tell: Callable[[Progress], None],
        take: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> bytes:
        """Send a call, with its input if it has one, and hear its events to its answer (msgpack).

        `take` is given what the node sends besides. Cancelling closes the connection, which ends
        the call on the node.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._path), limit=_CHUNK)
        except OSError:
            raise Unavailable("no node of this machine answers", retry_after=1.0) from None
        feed = None
        try:
            writer.write(message(Kind.CALL, call))
            if body is not None:
                feed = asyncio.create_task(_feed(writer, body))
            return await _answer(reader, tell, take, feed)
        except (FrameError, msgspec.DecodeError) as error:
            raise DriverFault("node", "images", str(error)) from error
        except ConnectionError:
            raise Unavailable("the node was lost", retry_after=1.0) from None
        finally:
            if feed is not None:
                feed.cancel()
                await asyncio.gather(feed, return_exceptions=True)
            writer.close()


async def _feed(writer: asyncio.StreamWriter, body: AsyncIterator[bytes]) -> None:
    async for piece in body:
        for start in range(0, len(piece), MAX_DATA):
            writer.write(frame(Kind.DATA, piece[start : start + MAX_DATA]))
            await writer.drain()
    writer.write(frame(Kind.END))
    await writer.drain()


async def _answer(
    reader: asyncio.StreamReader,
    tell: Callable[[Progress], None],
    take: Callable[[bytes], Awaitable[None]] | None,
    feed: asyncio.Task[None] | None,
) -> bytes:
    decoder = Decoder()
    reading = asyncio.create_task(reader.read(_CHUNK))
    try:
        while True:
            waits = {reading} if feed is None or feed.done() else {reading, feed}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if feed is not None and feed.done() and feed.exception() is not None:
                # The node's refusal, if there is one, says more than a broken pipe.
                error = feed.exception()
                if not isinstance(error, ConnectionError):
                    assert error is not None
                    raise error
            if not reading.done():
                continue
            data = reading.result()
            if not data:
                raise ConnectionResetError
            for kind, payload in decoder.feed(data):
                if kind is Kind.REPLY:
                    return payload
                await _hear(kind, payload, tell, take)
            reading = asyncio.create_task(reader.read(_CHUNK))
    finally:
        reading.cancel()


async def _hear(
    kind: Kind,
    payload: bytes,
    tell: Callable[[Progress], None],
    take: Callable[[bytes], Awaitable[None]] | None,
) -> None:
    if kind is Kind.EVENT:
        tell(msgspec.msgpack.decode(payload, type=Progress))
    elif kind is Kind.DATA and take is not None:
        await take(payload)
    elif kind is Kind.ERROR:
        _fail(msgspec.msgpack.decode(payload, type=Problem))


def _fail(problem: Problem) -> None:
    error = known(problem.code)
    raise error(problem.detail, field=problem.field, retry_after=problem.retry_after)
