"""One connection to a node's agent, in the protocol of `model/agent.py`.

Payloads of DATA and STDERR are handed on as they come, in pieces of frames: a large file is never put
together here. What nobody takes is bounded: beyond `_HIGH` bytes nothing more is read.
"""

import asyncio
import struct
from collections import deque
from typing import Any, TypeVar, cast

import msgspec

from sandboxd.errors import DriverFault, SandboxdError, Unavailable, known
from sandboxd.model.agent import (
    MAX_ANSWER,
    MAX_CALL,
    MAX_DATA,
    Call,
    Kind,
    Problem,
    frame,
    head,
    message,
)

T = TypeVar("T")

_HEAD = struct.Struct(">BI")
_HIGH, _LOW = 1 << 20, 256 << 10
_SMALL = 65_536
_CEILING = {
    Kind.REPLY: MAX_ANSWER,
    Kind.EVENT: MAX_CALL,
    Kind.DATA: MAX_DATA,
    Kind.STDERR: MAX_DATA,
}
_PIECEMEAL = (Kind.DATA, Kind.STDERR)
_LAST = (Kind.REPLY, Kind.ERROR)


class NodeLost(Unavailable):
    """The node went away while a call was under way: what it has done of it is unknown."""

    code, title, retryable = "node_lost", "The sandbox's node was lost", False


class Line(asyncio.Protocol):
    """Made by `Agents`. One task reads; one other may write."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._frames: deque[tuple[Kind, bytes]] = deque()
        self._held = 0
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._head = bytearray()
        self._kind = Kind.REPLY
        self._left = 0
        self._parts: list[bytes] = []
        self._fault: Exception | None = None
        self.free = True
        """No call is under way: the connection may be used for another."""

    @property
    def usable(self) -> bool:
        """It is free, and the node has not closed it."""
        return self.free and self._fault is None and not self._frames

    @property
    def answered(self) -> bool:
        """Something has come that nobody has taken, or the node is gone: `next` does not wait."""
        return bool(self._frames) or self._fault is not None

    async def start(self, call: Call) -> None:
        """Send a call. Raises Unavailable if it cannot have been heard, else NodeLost."""
        if self._fault is not None:
            raise self._gone()
        self.free = False
        await self.write(message(Kind.CALL, call))

    async def write(self, *parts: bytes) -> None:
        """Waits until the node takes it. Raises NodeLost."""
        if self._fault is not None or self._transport is None:
            raise self._gone()
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)
        if self._writable is not None:
            await asyncio.shield(self._writable)
            if self._fault is not None:
                raise self._gone()

    async def write_data(self, data: bytes) -> None:
        """DATA frames of any number of bytes."""
        if len(data) <= MAX_DATA:
            await self.write(head(Kind.DATA, len(data)), data)
            return
        for at in range(0, len(data), MAX_DATA):
            await self.write(frame(Kind.DATA, data[at : at + MAX_DATA]))

    async def next(self) -> tuple[Kind, bytes]:
        """The next frame, or piece of a frame of data.

        Raises the error that the node answered, NodeLost, and DriverFault for what is no frame.
        """
        while not self._frames:
            if self._fault is not None:
                raise self._gone()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        kind, payload = self._frames.popleft()
        self._held -= len(payload)
        if self._paused and self._held < _LOW and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        if kind in _LAST:
            self.free = True
            if kind is Kind.ERROR:
                raise problem_of(payload)
        return kind, payload

    async def expect(self, kind: Kind, what: type[T]) -> T:
        """A frame that must come now. Raises as `next`."""
        found, payload = await self.next()
        if found is not kind:
            raise DriverFault("agent", "call", f"{found.name} where {kind.name} was to come")
        return decoded(payload, what)

    def close(self) -> None:
        """Gives up the call that is under way, if one is."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 20)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("the node closed the connection"))

    def eof_received(self) -> bool:
        self._fail(ConnectionResetError("the node closed the connection"))
        return False

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def data_received(self, data: bytes) -> None:
        try:
            self._take(data)
        except ValueError as error:
            self._fail(DriverFault("agent", "stream", str(error)))
            self.close()
            return
        if self._held > _HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _take(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._left == 0:
                at = self._take_head(data, at)
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            self._take_piece(piece)

    def _take_head(self, data: bytes, at: int) -> int:
        missing = _HEAD.size - len(self._head)
        self._head += data[at : at + missing]
        at += missing
        if len(self._head) == _HEAD.size:
            number, self._left = _HEAD.unpack(self._head)
            self._head.clear()
            self._kind = Kind(number)  # raises ValueError
            if self._left > _CEILING.get(self._kind, _SMALL):
                raise ValueError(f"{self._kind.name} of {self._left} bytes")
            if self._left == 0:
                self._put(b"")
        return at

    def _take_piece(self, piece: bytes) -> None:
        if self._kind in _PIECEMEAL:
            self._put(piece)
            return
        self._parts.append(piece)
        if self._left == 0:
            whole = b"".join(self._parts) if len(self._parts) > 1 else piece
            self._parts.clear()
            self._put(whole)

    def _put(self, payload: bytes) -> None:
        self._frames.append((self._kind, payload))
        self._held += len(payload)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._fault is None:
            self._fault = error
        self.resume_writing()
        self._wake()

    def _gone(self) -> SandboxdError:
        if isinstance(self._fault, SandboxdError):
            return self._fault
        kind = Unavailable if self.free else NodeLost
        return kind(f"the sandbox's node was lost: {self._fault}", retry_after=1.0)


def decoded(payload: bytes, what: type[T]) -> T:
    """Raises DriverFault if it is something else: the node is of another version."""
    try:
        return msgspec.msgpack.decode(payload, type=what)
    except msgspec.DecodeError as error:
        raise DriverFault("agent", "call", str(error)) from error


def problem_of(payload: bytes) -> SandboxdError:
    """The error that an ERROR frame tells."""
    problem = decoded(payload, Problem)
    kind: Any = known(problem.code)
    error: SandboxdError = kind(
        problem.detail, field=problem.field, retry_after=problem.retry_after
    )
    return error
