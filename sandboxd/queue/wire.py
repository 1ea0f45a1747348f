"""One connection to Redis: commands out, their answers in.

redis-py connects, with whatever the URL asks for; then this takes its transport over. An answer is
parsed by hiredis as its bytes come and wakes whoever waits for it, with nothing in between.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Self, cast

import hiredis
from redis import exceptions
from redis._parsers import BaseParser
from redis.asyncio import Connection

Command = Sequence[str | bytes | int]


class Wire(asyncio.Protocol):
    """For one exchange at a time. One that was broken off leaves it out of step: close it then."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self._connection, self._transport = connection, transport
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader(
            replyError=BaseParser.parse_error, protocolError=exceptions.InvalidResponse
        )
        self._left = 0
        self._answers: list[Any] = []
        self._done: asyncio.Future[list[Any]] | None = None
        self._lost = False

    @classmethod
    async def connect(cls, connection: Connection) -> Self:
        """Raises redis.exceptions.ConnectionError, TimeoutError, OSError."""
        await connection.connect()  # type: ignore[no-untyped-call]
        assert connection._writer is not None
        transport = cast(asyncio.Transport, connection._writer.transport)
        wire = cls(connection, transport)
        transport.set_protocol(wire)
        return wire

    async def exchange(self, commands: Sequence[Command], timeout: float) -> list[Any]:
        """The answers of commands sent together, refusals among them as exceptions of redis-py.

        Raises redis.exceptions.ConnectionError, and TimeoutError after `timeout` seconds.
        """
        if self._lost:
            raise exceptions.ConnectionError("connection lost")
        self._left, self._answers = len(commands), []
        self._done = self._loop.create_future()
        timer = self._loop.call_later(timeout, self._fail, TimeoutError("no answer in time"))
        self._transport.write(b"".join([_packed(each) for each in commands]))
        try:
            return await self._done
        finally:
            timer.cancel()
            self._done = None

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while self._left and (answer := self._parser.gets()) is not False:
                self._answers.append(answer)
                self._left -= 1
        except exceptions.RedisError as error:
            self._fail(error)
            return
        if not self._left and self._done is not None and not self._done.done():
            self._done.set_result(self._answers)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._fail(exceptions.ConnectionError(str(error or "connection closed by the server")))

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


def _packed(command: Command) -> bytes:
    # Its stub knows commands of one word only.
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]
    return packed
