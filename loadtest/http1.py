"""The cheapest HTTP/1.1 client that still checks what it gets.

It shares the cores with the service it measures: requests are bytes made beforehand, one
connection carries one exchange at a time, and of the answer only the status line and
Content-Length are parsed.
"""

import asyncio
import re
import socket
from collections.abc import Sequence

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
_MAX_HEAD = 65_536
_SIP = 4_096
"""Bytes of the receive buffer of a slow reader."""


class ExchangeError(Exception):
    """No answer: `kind` is `timeout`, `connection` or `malformed`. The connection is gone."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


class Connection:
    """Keep-alive to one server, opened again after it was lost. With `pause`, in seconds, it reads
    some KiB and rests that long before the next."""

    def __init__(self, host: str, port: int, pause: float = 0.0) -> None:
        self._host, self._port, self._pause = host, port, pause
        self._wire: _Wire | None = None

    async def connect(self) -> "_Wire":
        """The open wire. Raises ExchangeError."""
        if self._wire is None or self._wire.lost:
            try:
                self._wire = await self._open()
            except OSError as error:
                raise ExchangeError("connection", str(error)) from error
        return self._wire

    async def _open(self) -> "_Wire":
        loop = asyncio.get_running_loop()
        if not self._pause:
            return (await loop.create_connection(_Wire, self._host, self._port))[1]
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setblocking(False)
            # Before it connects: the window that the server is told of follows from it.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SIP)
            await loop.sock_connect(made, address)
            return (await loop.create_connection(lambda: _SlowWire(self._pause), sock=made))[1]
        except BaseException:
            made.close()
            raise

    async def exchange(self, request: bytes, timeout: float) -> tuple[int, bytes]:
        """Sends `request`, returns status and body. Raises ExchangeError.

        `timeout` is in seconds and does not cover connecting.
        """
        wire = await self.connect()
        return await wire.exchange(request, timeout)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.abort()
            self._wire = None


class _Wire(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self) -> None:
        self.lost = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._buffer = bytearray()
        self._body_start = self._end = 0

    async def exchange(self, request: bytes, timeout: float) -> tuple[int, bytes]:
        assert self._transport is not None
        self._buffer.clear()
        self._end = 0
        waiter: asyncio.Future[tuple[int, bytes]] = self._loop.create_future()
        self._waiter = waiter
        alarm = self._loop.call_later(timeout, self._fail, "timeout", f"after {timeout:g} s")
        self._transport.write(request)
        try:
            return await waiter
        finally:
            alarm.cancel()
            if waiter.cancelled():
                self.abort()

    def abort(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's classes; only their methods are the contract.
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("connection", str(exc) if exc else "closed by the server")

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()  # nobody asked: what follows could not be matched to a request
            return
        self._buffer += data
        if not self._end and not self._parse_head():
            return
        if len(self._buffer) == self._end:
            status = int(self._buffer[9:12])
            self._waiter.set_result((status, bytes(self._buffer[self._body_start :])))
        elif len(self._buffer) > self._end:
            self._fail("malformed", "more bytes than Content-Length says")

    def _parse_head(self) -> bool:
        """True once the head is whole and sound."""
        blank = self._buffer.find(b"\r\n\r\n")
        if blank < 0:
            if len(self._buffer) > _MAX_HEAD:
                self._fail("malformed", "the head does not end")
            return False
        head = bytes(self._buffer[: blank + 2])
        length = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 ") or not head[9:12].isdigit() or length is None:
            self._fail("malformed", head[:200].decode("latin-1"))
            return False
        self._body_start = blank + 4
        self._end = self._body_start + int(length[1])
        return True

    def _fail(self, kind: str, detail: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ExchangeError(kind, detail))
        self.abort()


class _SlowWire(_Wire):
    """Rests after each piece."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self._pause = pause

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.lost and self._waiter is not None and not self._waiter.done():
            assert self._transport is not None
            self._transport.pause_reading()
            self._loop.call_later(self._pause, self._resume)

    def _resume(self) -> None:
        if not self.lost and self._transport is not None:
            self._transport.resume_reading()


def request(
    method: str,
    target: str,
    host: str,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The bytes of one request. Raises ValueError for a header that would break out of its line."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("line break in a header")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
