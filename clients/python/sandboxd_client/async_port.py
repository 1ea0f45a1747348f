"""A TCP connection to a server in a sandbox, on an asyncio WebSocket."""

import asyncio
import json
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.errors import ConnectionFailed, SandboxdError, from_problem
from sandboxd_client.model import parse
from sandboxd_client.sandbox_socket import CHUNK
from sandboxd_client.websocket import CLOSE_TIMEOUT, gone, stream_options, stream_refused

_EOF = json.dumps({"type": "eof"})


class AsyncPortStream:
    """Write to it, read from it until None, the server's end."""

    def __init__(self, endpoint: Endpoint, path: str, deadline: Deadline) -> None:
        self._endpoint, self._path, self._deadline = endpoint, path, deadline
        self._connection: ClientConnection | None = None
        self._stack = AsyncExitStack()
        self._over = False

    @classmethod
    def to(cls, endpoint: Endpoint, sandbox: str, port: int, deadline: Deadline) -> Self:
        return cls(endpoint, f"/v1/sandboxes/{sandbox}/ports/{int(port)}", deadline)

    async def __aenter__(self) -> Self:
        uri = self._endpoint.ws_origin + self._path
        options = stream_options(self._endpoint, self._deadline)
        try:
            if self._endpoint.uds is not None:
                context = unix_connect(self._endpoint.uds, uri, **options)
            else:
                context = connect(uri, proxy=None, **options)
            self._connection = await self._stack.enter_async_context(context)
        except (OSError, ValueError, WebSocketException) as error:
            raise stream_refused(error, self._deadline) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is None:
            return
        if not self._over:
            self._connection.transport.abort()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._stack.__aexit__(kind, error, trace)
        except TimeoutError:
            self._connection.transport.abort()

    async def read(self) -> bytes | None:
        """What comes next, or None when the server has closed its direction."""
        while not self._over:
            try:
                async with asyncio.timeout(self._deadline.check()):
                    message = await self._open.recv()
            except TimeoutError as error:
                raise self._deadline.passed() from error
            except ConnectionClosed as error:
                raise self._broken(error) from error
            if isinstance(message, bytes):
                return message
            document = parse(message, dict)
            if document.get("type") == "error":
                problem = document.get("problem")
                raise from_problem(problem if isinstance(problem, dict) else {})
            self._over = document.get("type") == "eof"
        return None

    async def write(self, data: bytes) -> None:
        """Waits while the server does not read. What comes after its end is dropped."""
        for start in range(0, len(data), CHUNK):
            await self._send(data[start : start + CHUNK])

    async def close_write(self) -> None:
        """Ends our direction; the server's goes on."""
        await self._send(_EOF)

    @property
    def _open(self) -> ClientConnection:
        if self._connection is None:
            raise RuntimeError("use it as a context manager: with sandbox.ports.connect(port)")
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

    def _broken(self, error: ConnectionClosed) -> SandboxdError:
        if not self._deadline.remaining():
            return self._deadline.passed()
        return ConnectionFailed(f"the connection to the port broke: {error}")
