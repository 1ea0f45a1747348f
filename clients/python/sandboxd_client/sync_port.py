"""A TCP connection to a server in a sandbox for threads: the asyncio one on a loop of its own."""

from types import TracebackType
from typing import Self

from sandboxd_client.async_port import AsyncPortStream
from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.sync_stream import _Worker


class PortStream:
    """Write to it, read from it until None, the server's end. One thread may write while another
    reads."""

    def __init__(self, stream: AsyncPortStream) -> None:
        self._stream = stream
        self._worker = _Worker("port")

    @classmethod
    def to(cls, endpoint: Endpoint, sandbox: str, port: int, deadline: Deadline) -> Self:
        return cls(AsyncPortStream.to(endpoint, sandbox, port, deadline))

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

    def read(self) -> bytes | None:
        """What comes next, or None when the server has closed its direction."""
        return self._worker.do(self._stream.read())

    def write(self, data: bytes) -> None:
        """Waits while the server does not read. What comes after its end is dropped."""
        self._worker.do(self._stream.write(data))

    def close_write(self) -> None:
        """Ends our direction; the server's goes on."""
        self._worker.do(self._stream.close_write())
