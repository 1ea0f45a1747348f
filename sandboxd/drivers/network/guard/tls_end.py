"""The server's end of TLS over streams that something was read from already."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")

_CHUNK = 65_536


class TlsEnd:
    """One task reads, one other writes."""

    def __init__(
        self, context: ssl.SSLContext, reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter, data: bytes,
    ) -> None:  # fmt: skip
        """`data` is what was read."""
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(data)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Raises ssl.SSLError."""
        await self._do(self._tls.do_handshake)

    async def read(self) -> bytes:
        """What comes next; empty at the end, however it came. Raises ssl.SSLError."""
        try:
            return await self._do(partial(self._tls.read, _CHUNK))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        if data:
            self._tls.write(data)
            await self._flush()

    async def close(self) -> None:
        """Say that no more comes."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _do(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._reader.read(_CHUNK)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                await self._flush()  # the other side is told why
                raise
            else:
                await self._flush()
                return done

    async def _flush(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())
        await self._writer.drain()
