"""What is still to come of a request's body, as a descriptor instead of bytes.

A large body that only goes on to somebody else need not be read here: the connection is stopped after
what it has parsed, and the kernel moves the rest (`pour`). It offers that to a handler as
`scope["sandboxd.raw_body"]`, a function that gives a RawBody, or None where there is no such rest.
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress

from sandboxd.descriptors import Writer
from sandboxd.errors import RequestTimeout
from sandboxd.gateway.waiting import ClientGone

_AT_ONCE = 1 << 20
"""Bytes of one turn of the loop."""


class RawBody:
    """Owns a descriptor of its own of the connection; the connection reads nothing until `complete`."""

    def __init__(
        self,
        connection: int,
        begun: bytes,
        left: int,
        completed: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._socket = socket.socket(fileno=os.dup(connection))
        self.begun = begun
        """What had come already."""
        self.left = left
        """Bytes that follow."""
        self._completed, self._lost = completed, lost

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def complete(self) -> None:
        """The bytes were taken: the connection goes on with its next request."""
        self._completed()

    def lost(self) -> None:
        """The client has left, which the connection does not see while it does not read."""
        self._lost()

    def cut(self) -> None:
        """The connection is over: whoever reads the rest sees its end."""
        if self.fd >= 0:
            with suppress(OSError):  # the peer was faster
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


async def pour(body: RawBody, pipe: Writer, stall: float) -> bool:
    """The body into `pipe`; whether all of it went, or nobody reads the pipe any more.

    Raises RequestTimeout when nothing comes for `stall` seconds, ClientGone.
    """
    try:
        if not await pipe.write(body.begun):
            return False
        whole = await _Pouring(body, pipe.fd, stall).done()
        if whole:
            body.complete()
        return whole
    except ClientGone:
        body.lost()
        raise
    finally:
        body.close()


class _Pouring:
    """The kernel moves pages from the socket to the pipe whenever the one has some and the other room."""

    def __init__(self, body: RawBody, pipe: int, stall: float) -> None:
        self._source, self._left = body.fd, body.left
        self._pipe, self._stall = pipe, stall
        self._loop = asyncio.get_running_loop()
        self._room = select.poll()
        self._room.register(pipe, select.POLLOUT)
        self._ended: asyncio.Future[bool] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._moved_at = 0.0

    async def done(self) -> bool:
        self._wait_for_bytes()
        try:
            return await self._ended
        finally:
            self._rest()

    def _wait_for_bytes(self) -> None:
        self._loop.add_reader(self._source, self._move)
        self._moved_at = self._loop.time()
        self._timer = self._loop.call_later(self._stall, self._look)

    def _wait_for_room(self) -> None:
        """Not the client's time: as long as it takes."""
        self._rest()
        self._loop.add_writer(self._pipe, self._go_on)

    def _go_on(self) -> None:
        self._rest()
        self._wait_for_bytes()

    def _rest(self) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._pipe)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _move(self) -> None:
        flags = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
        try:
            moved = os.splice(self._source, self._pipe, min(self._left, _AT_ONCE), flags=flags)
        except BlockingIOError:
            if not self._room.poll(0):
                self._wait_for_room()
            return
        except BrokenPipeError:
            self._end(False)
            return
        except OSError:
            moved = 0
        if moved == 0:
            self._end(ClientGone())
            return
        self._left -= moved
        self._moved_at = self._loop.time()
        if self._left == 0:
            self._end(True)

    def _look(self) -> None:
        left = self._moved_at + self._stall - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._end(RequestTimeout(f"nothing of the body came for {self._stall:g} seconds"))

    def _end(self, how: bool | Exception) -> None:
        if self._ended.done():
            return
        if isinstance(how, Exception):
            self._ended.set_exception(how)
        else:
            self._ended.set_result(how)
