"""Connections to Redis, and the one place where its failures become ours.

redis-py's client objects cost as much again as the exchange itself (locks, retries, callbacks,
telemetry), and its streams once more, so it only connects here: see `wire`. A blocking command holds a
connection of its own; the short ones share a few, because the server answers one at a time anyway.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis import exceptions
from redis.asyncio import ConnectionPool

from sandboxd.errors import DriverFault, Unavailable
from sandboxd.queue.wire import Command, Wire

_CONNECT_TIMEOUT = 1.0
_ANSWER_TIMEOUT = 5.0
"""Seconds; a server that forks or syncs a slow disk may take this long."""
_SHORT_CALLS = 16
_IDLE_MAX = 64
_RETRY_AFTER = 1.0
_BUSY = ("OOM", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "UNBLOCKED")
"""Refusals that pass by themselves or with the operator's help, as opposed to our own mistakes."""


class Connections:
    def __init__(self, url: str) -> None:
        self._factory: ConnectionPool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            socket_timeout=None,
            driver_info=None,
        )
        self._idle: list[Wire] = []
        self._closed = False
        self._short = asyncio.Semaphore(_SHORT_CALLS)

    async def call(self, *command: str | bytes | int) -> Any:
        """Answer of a command that does not block; or Unavailable, NoScriptError, DriverFault."""
        async with self._short:
            return (await self._exchange((command,), 0.0))[0]

    async def block(self, *commands: Command, seconds: float) -> list[Any]:
        """Answers of commands sent together, the last of which may block for `seconds`."""
        return await self._exchange(commands, seconds)

    async def close(self) -> None:
        self._closed = True
        await self._drop_idle()

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _exchange(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        try:
            wire = self._kept()
            if wire is not None:
                try:
                    return await self._try(wire, commands, seconds)
                except exceptions.ConnectionError:
                    # The server restarted while the connection lay idle; so have the others'.
                    await self._drop_idle()
            return await self._try(await self._connect(), commands, seconds)
        except exceptions.NoScriptError:
            raise
        except exceptions.OutOfMemoryError as error:
            raise Unavailable("the queue's memory is full", retry_after=_RETRY_AFTER) from error
        except (
            exceptions.ConnectionError,
            exceptions.TimeoutError,
            exceptions.ReadOnlyError,
            OSError,  # the timeout above is one too
        ) as error:
            detail = str(error) or "no answer in time"
            raise Unavailable(f"queue: {detail}", retry_after=_RETRY_AFTER) from error
        except exceptions.ResponseError as error:
            if str(error).startswith(_BUSY):
                raise Unavailable(f"queue: {error}", retry_after=_RETRY_AFTER) from error
            raise DriverFault("redis", str(commands[-1][0]), str(error)) from error

    async def _try(self, wire: Wire, commands: Sequence[Command], seconds: float) -> list[Any]:
        try:
            answers = await wire.exchange(commands, _ANSWER_TIMEOUT + seconds)
        except BaseException:
            await wire.close()
            raise
        if self._closed or len(self._idle) >= _IDLE_MAX:
            await wire.close()
        else:
            self._idle.append(wire)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _connect(self) -> Wire:
        connection = self._factory.make_connection()  # type: ignore[no-untyped-call]
        async with asyncio.timeout(_ANSWER_TIMEOUT):
            return await Wire.connect(connection)

    def _kept(self) -> Wire | None:
        return self._idle.pop() if self._idle else None
