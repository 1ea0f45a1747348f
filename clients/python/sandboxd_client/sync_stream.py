"""The live stream of a run for threads: the asyncio stream on a loop of its own.

websockets' own blocking client holds one lock while it sends and needs it to receive. Against a
program that both reads and writes much, as `cat` does, each side would wait for the other for ever.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar

from sandboxd_client.async_stream import AsyncStream
from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.errors import ConnectionFailed
from sandboxd_client.model import Output, Result

T = TypeVar("T")


class Stream:
    """Iterate it for `Output`; the iteration ends with the run, then `result()` is there. One
    thread may write while another reads."""

    def __init__(self, endpoint: Endpoint, run: str, deadline: Deadline) -> None:
        self._stream = AsyncStream(endpoint, run, deadline)
        self._worker = _Worker(f"stream of {run}")

    def __enter__(self) -> Self:
        self._worker.start()
        try:
            self._worker.do(self._stream.__aenter__())
        except BaseException:
            self._worker.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._worker.do(self._stream.__aexit__(kind, error, trace))
        finally:
            self._worker.stop()

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


class _Worker:
    """A thread with an event loop; runs coroutines for other threads until it is stopped."""

    def __init__(self, name: str) -> None:
        # A daemon, so that a stream which is never left does not keep the process.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._name = name

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Ends the loop; whoever still waits for it gets ConnectionFailed."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._end is not None:
            loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None:
                work.close()
                if self._thread.ident is None:
                    raise RuntimeError("use the stream as a context manager: with run.stream()")
                raise ConnectionFailed(f"the {self._name} was left")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise ConnectionFailed(f"the {self._name} was left") from None
        except BaseException:
            future.cancel()  # an interrupted caller takes no answer any more
            raise

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._end.wait()
