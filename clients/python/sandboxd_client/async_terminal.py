"""The live stream of a sandbox's process on an asyncio WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.model import Output
from sandboxd_client.sandbox_model import ProcessInfo
from sandboxd_client.sandbox_socket import (
    STDIN_EOF,
    SocketReader,
    path_of_exec,
    path_of_stream,
    resize_message,
    signal_message,
    stdin_messages,
)
from sandboxd_client.websocket import CLOSE_TIMEOUT, gone, stream_options, stream_refused


class AsyncTerminal:
    """Iterate it for `Output`; the iteration ends with the process, then `process` says how."""

    def __init__(self, endpoint: Endpoint, path: str, first: bytes, deadline: Deadline) -> None:
        """Use `started` or `attached`."""
        self._endpoint, self._path, self._first = endpoint, path, first
        self._deadline = deadline
        self._reader = SocketReader()
        self._connection: ClientConnection | None = None
        self._stack = AsyncExitStack()

    @classmethod
    def started(
        cls,
        endpoint: Endpoint,
        sandbox: str,
        body: bytes,
        deadline: Deadline,
        *,
        kill: bool = False,
    ) -> Self:
        """`body` is a command to start; with `kill`, it ends when the stream is left."""
        return cls(endpoint, path_of_exec(sandbox, kill=kill), body, deadline)

    @classmethod
    def attached(
        cls, endpoint: Endpoint, sandbox: str, process: str, deadline: Deadline, *, history: bool
    ) -> Self:
        return cls(endpoint, path_of_stream(sandbox, process, history=history), b"", deadline)

    @property
    def process(self) -> ProcessInfo | None:
        """The process, as it was last seen; None before its first message."""
        return self._reader.process

    async def __aenter__(self) -> Self:
        self._connection = await self._connect()
        if self._first:
            await self._send(self._first.decode())
        while self._reader.process is None:
            await self._message(self._deadline)  # `started` is the first of all
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is None:
            return
        if not self._reader.ended:
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

    async def receive(self, timeout: float | None = None) -> Output | None:
        """The next piece of output, or None when the process has ended. Raises Timeout if there is
        none within `timeout` seconds; nothing is lost by it."""
        patience = self._deadline if timeout is None else Deadline(timeout)
        while not self._reader.ended:
            output = await self._message(patience)
            if output is not None:
                return output
        return None

    async def write(self, data: str | bytes) -> None:
        """To its stdin, or as if typed; waits while the process does not read. What comes after its
        end is dropped."""
        for message in stdin_messages(data.encode() if isinstance(data, str) else data):
            await self._send(message)

    async def close_stdin(self) -> None:
        """Ends its stdin. A terminal has no such end: write its end-of-file character."""
        await self._send(STDIN_EOF)

    async def resize(self, rows: int, cols: int) -> None:
        await self._send(resize_message(rows, cols))

    async def signal(self, signal: int | str) -> None:
        """To it and its process group."""
        await self._send(signal_message(signal))

    async def wait(self) -> ProcessInfo:
        """How it ended; reads and drops the output that was not iterated."""
        async for _ in self:
            pass
        assert self._reader.process is not None  # the exit names it
        return self._reader.process

    async def _message(self, patience: Deadline) -> Output | None:
        wait = min((patience, self._deadline), key=Deadline.remaining)
        try:
            async with asyncio.timeout(wait.check()):
                message = await self._open.recv()
        except TimeoutError as error:
            raise wait.passed() from error
        except ConnectionClosed as error:
            raise self._broken(error) from error
        return self._reader.feed(message)

    def _broken(self, error: ConnectionClosed) -> Exception:
        if not self._deadline.remaining():
            return self._deadline.passed()
        return self._reader.broken(str(error))

    @property
    def _open(self) -> ClientConnection:
        if self._connection is None:
            raise RuntimeError("use it as a context manager: async with sandbox.pty.open()")
        return self._connection

    async def _send(self, message: bytes | str) -> None:
        try:
            async with asyncio.timeout(self._deadline.check()):
                await self._open.send(message)
        except TimeoutError as error:
            raise self._deadline.passed() from error
        except ConnectionClosed as error:
            if not gone(error):
                raise self._broken(error) from error

    async def _connect(self) -> ClientConnection:
        uri = self._endpoint.ws_origin + self._path
        options = stream_options(self._endpoint, self._deadline)
        try:
            if self._endpoint.uds is not None:
                context = unix_connect(self._endpoint.uds, uri, **options)
            else:
                context = connect(uri, proxy=None, **options)
            return await self._stack.enter_async_context(context)
        except (OSError, ValueError, WebSocketException) as error:
            raise stream_refused(error, self._deadline) from error
