"""One WebSocket of the service, for asyncio: what streams of runs, processes and ports share."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.errors import SandboxdError
from sandboxd_client.websocket import CLOSE_TIMEOUT, gone, stream_options, stream_refused


class AsyncSocket:
    """Every wait ends with `deadline`. Raises SandboxdError, and nothing else for what goes wrong on the
    way."""

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        deadline: Deadline,
        broken: Callable[[str], SandboxdError],
    ) -> None:
        """`broken` is the error for a connection that ended before it was to."""
        self._endpoint, self._path = endpoint, path
        self._deadline, self._broken = deadline, broken
        self._connection: ClientConnection | None = None
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        uri = self._endpoint.ws_origin + self._path
        options = stream_options(self._endpoint, self._deadline)
        try:
            if self._endpoint.uds is not None:
                context = unix_connect(self._endpoint.uds, uri, **options)
            else:
                context = connect(uri, proxy=None, **options)
            self._connection = await self._stack.enter_async_context(context)
        except (OSError, ValueError, WebSocketException) as error:
            raise stream_refused(error, self._deadline, self._endpoint) from error

    async def close(self, *, over: bool) -> None:
        """Left early, not `over`: a handshake would wait for a peer that may not listen."""
        if self._connection is None:
            return
        if not over:
            self._connection.transport.abort()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._stack.aclose()
        except TimeoutError:
            self._connection.transport.abort()

    async def receive(self, patience: Deadline | None = None) -> bytes | str:
        """The next message. Raises Timeout after `patience` too; nothing is lost by it."""
        wait = min((patience or self._deadline, self._deadline), key=Deadline.remaining)
        try:
            async with asyncio.timeout(wait.check()):
                return await self._open.recv()
        except TimeoutError as error:
            raise wait.passed() from error
        except ConnectionClosed as error:
            raise self._end(error) from error

    async def send(self, message: bytes | str) -> None:
        """Waits while the service does not take it. What comes after its end is dropped."""
        try:
            async with asyncio.timeout(self._deadline.check()):
                await self._open.send(message)
        except TimeoutError as error:
            raise self._deadline.passed() from error
        except ConnectionClosed as error:
            if not gone(error):
                raise self._end(error) from error

    @property
    def _open(self) -> ClientConnection:
        if self._connection is None:
            raise RuntimeError("use it as a context manager: it is not open")
        return self._connection

    def _end(self, error: ConnectionClosed) -> SandboxdError:
        return self._broken(str(error)) if self._deadline.remaining() else self._deadline.passed()
