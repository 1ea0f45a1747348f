"""The live stream of a run on an asyncio WebSocket."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from sandboxd_client.async_socket import AsyncSocket
from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.model import Output, Result
from sandboxd_client.streaming import STDIN_EOF, StreamReader, stdin_frames


class AsyncStream:
    """Iterate it for `Output`; the iteration ends with the run, then `result()` is there."""

    def __init__(self, endpoint: Endpoint, run: str, deadline: Deadline) -> None:
        self._reader = StreamReader(run)
        self._socket = AsyncSocket(
            endpoint, f"/v1/runs/{run}/stream", deadline, self._reader.broken
        )

    async def __aenter__(self) -> Self:
        await self._socket.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._socket.close(over=self._reader.result is not None)

    async def __aiter__(self) -> AsyncIterator[Output]:
        while (piece := await self.receive()) is not None:
            yield piece

    async def receive(self) -> Output | None:
        """The next piece of output, or None when the run has ended."""
        while self._reader.result is None:
            output = self._reader.feed(await self._socket.receive())
            if output is not None:
                return output
        return None

    async def write(self, data: bytes) -> None:
        """Sends `data` to the program's stdin; waits while the program does not read. Data for a
        program that has ended is dropped."""
        for frame in stdin_frames(data):
            await self._socket.send(frame)

    async def close_stdin(self) -> None:
        """Ends the program's stdin."""
        await self._socket.send(STDIN_EOF)

    async def result(self) -> Result:
        """The result; reads and drops the output that was not iterated."""
        async for _ in self:
            pass
        assert self._reader.result is not None  # what ends the iteration
        return self._reader.result
