"""A thread with an event loop, on which streams for threads do what they do.

websockets' own blocking client holds one lock while it sends and needs it to receive. Against a
program that both reads and writes much, as `cat` does, each side would wait for the other for ever.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

from sandboxd_client.errors import ConnectionFailed

T = TypeVar("T")


class Worker:
    """A thread with an event loop; runs coroutines for other threads until it is stopped."""

    def __init__(self, name: str) -> None:
        # A daemon, so that a stream which is never left does not keep the process.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._name = name

    def enter(self, live: AbstractAsyncContextManager[Any]) -> None:
        """Start, and enter what lives on the loop."""
        self._thread.start()
        self._ready.wait()
        try:
            self.do(live.__aenter__())
        except BaseException:
            self.stop()
            raise

    def leave(
        self,
        live: AbstractAsyncContextManager[Any],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.do(live.__aexit__(kind, error, trace))
        finally:
            self.stop()

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
