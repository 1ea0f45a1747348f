"""The live stream of a sandbox's process on an asyncio WebSocket."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from sandboxd_client.async_socket import AsyncSocket
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


class AsyncTerminal:
    """Iterate it for `Output`; the iteration ends with the process, then `process` says how."""

    def __init__(self, endpoint: Endpoint, path: str, first: bytes, deadline: Deadline) -> None:
        """Use `started` or `attached`."""
        self._first, self._deadline = first, deadline
        self._reader = SocketReader()
        self._socket = AsyncSocket(endpoint, path, deadline, self._reader.broken)

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
        await self._socket.open()
        if self._first:
            await self._socket.send(self._first.decode())
        while self._reader.process is None:
            await self._message(self._deadline)  # `started` is the first of all
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._socket.close(over=self._reader.ended)

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
            await self._socket.send(message)

    async def close_stdin(self) -> None:
        """Ends its stdin. A terminal has no such end: write its end-of-file character."""
        await self._socket.send(STDIN_EOF)

    async def resize(self, rows: int, cols: int) -> None:
        await self._socket.send(resize_message(rows, cols))

    async def signal(self, signal: int | str) -> None:
        """To it and its process group."""
        await self._socket.send(signal_message(signal))

    async def wait(self) -> ProcessInfo:
        """How it ended; reads and drops the output that was not iterated."""
        async for _ in self:
            pass
        assert self._reader.process is not None  # the exit names it
        return self._reader.process

    async def _message(self, patience: Deadline) -> Output | None:
        return self._reader.feed(await self._socket.receive(patience))
