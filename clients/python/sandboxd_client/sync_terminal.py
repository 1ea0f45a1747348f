"""The live stream of a sandbox's process for threads: the asyncio one on a loop of its own, see
`sync_worker`."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from sandboxd_client.async_terminal import AsyncTerminal
from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.model import Output
from sandboxd_client.sandbox_model import ProcessInfo
from sandboxd_client.sync_worker import Worker


class Terminal:
    """Iterate it for `Output`; the iteration ends with the process, then `process` says how. One
    thread may write while another reads."""

    def __init__(self, terminal: AsyncTerminal) -> None:
        """Use `started` or `attached`."""
        self._terminal = terminal
        self._worker = Worker("terminal")

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
        return cls(AsyncTerminal.started(endpoint, sandbox, body, deadline, kill=kill))

    @classmethod
    def attached(
        cls, endpoint: Endpoint, sandbox: str, process: str, deadline: Deadline, *, history: bool
    ) -> Self:
        return cls(AsyncTerminal.attached(endpoint, sandbox, process, deadline, history=history))

    @property
    def process(self) -> ProcessInfo | None:
        """The process, as it was last seen; None before its first message."""
        return self._terminal.process

    def __enter__(self) -> Self:
        self._worker.enter(self._terminal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.leave(self._terminal, kind, error, trace)

    def __iter__(self) -> Iterator[Output]:
        while (piece := self.receive()) is not None:
            yield piece

    def receive(self, timeout: float | None = None) -> Output | None:
        """The next piece of output, or None when the process has ended. Raises Timeout if there is
        none within `timeout` seconds; nothing is lost by it."""
        return self._worker.do(self._terminal.receive(timeout))

    def write(self, data: str | bytes) -> None:
        """To its stdin, or as if typed; waits while the process does not read. What comes after its
        end is dropped."""
        self._worker.do(self._terminal.write(data))

    def close_stdin(self) -> None:
        """Ends its stdin. A terminal has no such end: write its end-of-file character."""
        self._worker.do(self._terminal.close_stdin())

    def resize(self, rows: int, cols: int) -> None:
        self._worker.do(self._terminal.resize(rows, cols))

    def signal(self, signal: int | str) -> None:
        """To it and its process group."""
        self._worker.do(self._terminal.signal(signal))

    def wait(self) -> ProcessInfo:
        """How it ended; reads and drops the output that was not iterated."""
        return self._worker.do(self._terminal.wait())
