"""The live stream of a run on an asyncio WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.model import Output, Result
from sandboxd_client.streaming import STDIN_EOF, StreamReader, stdin_frames
from sandboxd_client.websocket import CLOSE_TIMEOUT, ended, gone, stream_options, stream_refused


class AsyncStream:
    """Iterate it for `Output`; the iteration ends with the run, then `result()` is there."""

    def __init__(self, endpoint: Endpoint, run: str, deadline: Deadline) -> None:
        self._endpoint, self._deadline = endpoint, deadline
        self._reader = StreamReader(run)
        self._connection: ClientConnection | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._connection = await self._connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is None:
            return
        if self._reader.result is None:
            # Left early: a handshake would wait for a peer that may not listen.
            self._connection.transport.abort()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._stack.__aexit__(kind, error, trace)
        except TimeoutError:
            self._connection.transport.abort()

    async def __aiter__(self) -> AsyncIterator[Output]:
        while (piece := await self.receive()) is not None:
            yield piece

    async def receive(self) -> Output | None:
        """The next piece of output, or None when the run has ended."""
        while self._reader.result is None:
            try:
                async with asyncio.timeout(self._deadline.check()):
                    frame = await self._open.recv()
            except TimeoutError as error:
                raise self._deadline.passed() from error
            except ConnectionClosed as error:
                raise ended(error, self._reader, self._deadline) from error
            output = self._reader.feed(frame)
            if output is not None:
                return output
        return None

    async def write(self, data: bytes) -> None:
        """Sends `data` to the program's stdin; waits while the program does not read. Data for a
        program that has ended is dropped."""
        for frame in stdin_frames(data):
            await self._send(frame)

    async def close_stdin(self) -> None:
        """Ends the program's stdin."""
        await self._send(STDIN_EOF)

    async def result(self) -> Result:
        """The result; reads and drops the output that was not iterated."""
        async for _ in self:
            pass
        assert self._reader.result is not None  # what ends the iteration
        return self._reader.result

    @property
    def _open(self) -> ClientConnection:
        if self._connection is None:
            raise RuntimeError("use the stream as a context manager: async with run.stream()")
        return self._connection

    async def _send(self, frame: bytes | str) -> None:
        try:
            async with asyncio.timeout(self._deadline.check()):
                await self._open.send(frame)
        except TimeoutError as error:
            raise self._deadline.passed() from error
        except ConnectionClosed as error:
            if not gone(error):
                raise ended(error, self._reader, self._deadline) from error

    async def _connect(self) -> ClientConnection:
        uri = f"{self._endpoint.ws_origin}/v1/runs/{self._reader.run}/stream"
        options = stream_options(self._endpoint, self._deadline)
        try:
            if self._endpoint.uds is not None:
                context = unix_connect(self._endpoint.uds, uri, **options)
            else:
                context = connect(uri, proxy=None, **options)
            return await self._stack.enter_async_context(context)
        except (OSError, ValueError, WebSocketException) as error:
            raise stream_refused(error, self._deadline) from error
