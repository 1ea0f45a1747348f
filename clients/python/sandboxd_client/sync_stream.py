"""The live stream of a run on a blocking WebSocket. One thread may write while another reads."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect, unix_connect

from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.model import Output, Result
from sandboxd_client.streaming import STDIN_EOF, StreamReader, stdin_frames
from sandboxd_client.websocket import ended, gone, stream_options, stream_refused


class Stream:
    """Iterate it for `Output`; the iteration ends with the run, then `result()` is there."""

    def __init__(self, endpoint: Endpoint, run: str, deadline: Deadline) -> None:
        self._endpoint, self._deadline = endpoint, deadline
        self._reader = StreamReader(run)
        self._connection: ClientConnection | None = None
        self._watch: threading.Timer | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._connection = self._connect()
        # websockets has no timeout for a send that the peer does not take.
        self._watch = threading.Timer(self._deadline.remaining(), self._hang_up)
        self._watch.daemon = True
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._reader.result is None:
            # Left early: a handshake would wait for a peer that may not listen.
            self._hang_up()
        self._stack.__exit__(kind, error, trace)
        if self._watch is not None:
            self._watch.cancel()

    def __iter__(self) -> Iterator[Output]:
        while self._reader.result is None:
            try:
                frame = self._open.recv()
            except ConnectionClosed as error:
                raise ended(error, self._reader, self._deadline) from error
            output = self._reader.feed(frame)
            if output is not None:
                yield output

    def write(self, data: bytes) -> None:
        """Sends `data` to the program's stdin; waits while the program does not read. Data for a
        program that has ended is dropped."""
        for frame in stdin_frames(data):
            self._send(frame)

    def close_stdin(self) -> None:
        """Ends the program's stdin."""
        self._send(STDIN_EOF)

    def result(self) -> Result:
        """The result; reads and drops the output that was not iterated."""
        for _ in self:
            pass
        assert self._reader.result is not None  # what ends the iteration
        return self._reader.result

    @property
    def _open(self) -> ClientConnection:
        if self._connection is None:
            raise RuntimeError("use the stream as a context manager: with run.stream() as stream")
        return self._connection

    def _send(self, frame: bytes | str) -> None:
        try:
            self._open.send(frame)
        except ConnectionClosed as error:
            if not gone(error):
                raise ended(error, self._reader, self._deadline) from error

    def _hang_up(self) -> None:
        if self._connection is not None:
            try:
                self._connection.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # closed meanwhile

    def _connect(self) -> ClientConnection:
        uri = f"{self._endpoint.ws_origin}/v1/runs/{self._reader.run}/stream"
        options = stream_options(self._endpoint, self._deadline)
        try:
            if self._endpoint.uds is not None:
                context = unix_connect(self._endpoint.uds, uri, **options)
            else:
                context = connect(uri, proxy=None, **options)
            connection: ClientConnection = self._stack.enter_context(context)
        except (OSError, ValueError, WebSocketException) as error:
            raise stream_refused(error, self._deadline) from error
        return connection
