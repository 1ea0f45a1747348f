"""The live stream of a run for threads: the asyncio one on a loop of its own, see `sync_worker`."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from sandboxd_client.async_stream import AsyncStream
from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.model import Output, Result
from sandboxd_client.sync_worker import Worker


class Stream:
    """Iterate it for `Output`; the iteration ends with the run, then `result()` is there. One
    thread may write while another reads."""

    def __init__(self, endpoint: Endpoint, run: str, deadline: Deadline) -> None:
        self._stream = AsyncStream(endpoint, run, deadline)
        self._worker = Worker(f"stream of {run}")

    def __enter__(self) -> Self:
        self._worker.enter(self._stream)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.leave(self._stream, kind, error, trace)

    def __iter__(self) -> Iterator[Output]:
        while (piece := self._worker.do(self._stream.receive())) is not None:
            yield piece

    def write(self, data: bytes) -> None:
        """Sends `data` to the program's stdin; waits while the program does not read. Data for a
        program that has ended is dropped."""
        self._worker.do(self._stream.write(data))

    def close_stdin(self) -> None:
        """Ends the program's stdin."""
        self._worker.do(self._stream.close_stdin())

    def result(self) -> Result:
        """The result; reads and drops the output that was not iterated."""
        return self._worker.do(self._stream.result())
