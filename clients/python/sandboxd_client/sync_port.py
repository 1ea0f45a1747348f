"""A TCP connection to a server in a sandbox for threads: the asyncio one on a loop of its own."""

from types import TracebackType
from typing import Self

from sandboxd_client.async_port import AsyncPortStream
from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.sync_worker import Worker


class PortStream:
    """Write to it, read from it until None, the server's end. One thread may write while another
    reads."""

    def __init__(self, stream: AsyncPortStream) -> None:
        self._stream = stream
        self._worker = Worker("port")

    @classmethod
    def to(cls, endpoint: Endpoint, sandbox: str, port: int, deadline: Deadline) -> Self:
        return cls(AsyncPortStream.to(endpoint, sandbox, port, deadline))

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

    def read(self) -> bytes | None:
        """What comes next, or None when the server has closed its direction."""
        return self._worker.do(self._stream.read())

    def write(self, data: bytes) -> None:
        """Waits while the server does not read. What comes after its end is dropped."""
        self._worker.do(self._stream.write(data))

    def close_write(self) -> None:
        """Ends our direction; the server's goes on."""
        self._worker.do(self._stream.close_write())
