"""Puts a policy's secrets into requests to the hosts that it names.

The sandbox speaks TLS with us, by a certificate of the node's own authority, which may speak for these
hosts alone; we speak TLS with the host, by the authorities of the outside. Between the two every request
is read (h11), must be for this host, and gets the header instead of its own. HTTP/1.1 alone, no upgrades.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping, Sequence

import h11

from sandboxd.drivers.network.guard.http_requests import NotHttp, host_of
from sandboxd.drivers.network.guard.messages import Attached
from sandboxd.drivers.network.guard.relay import Link
from sandboxd.drivers.network.guard.tls_end import TlsEnd

_CHUNK = 65_536
_HEAD_MAX = 65_536
_HANDSHAKE = 10.0
_PROTOCOLS = ["http/1.1"]


class Attaching:
    def __init__(self, certificates: Mapping[str, int], authorities: str) -> None:
        """A descriptor of certificate and key for each host, which is closed. Raises OSError."""
        self._inward = {name: _inward(fd) for name, fd in certificates.items()}
        self.outward = ssl.create_default_context(cafile=authorities or None)
        self.outward.set_alpn_protocols(_PROTOCOLS)

    def knows(self, name: str) -> bool:
        return name in self._inward

    async def carry(
        self, link: Link, data: bytes, attached: Sequence[Attached],
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        """From the ClientHello, `data`, to the end of the connection. Raises NotHttp, OSError."""
        inner = TlsEnd(self._inward[link.name], link.reader, link.writer, data)
        async with asyncio.timeout(_HANDSHAKE):
            await inner.handshake()
        exchange = _Exchange(link, attached, inner, reader, writer)
        while await exchange.one():
            pass
        await inner.close()


class _Exchange:
    """The requests of one connection, one after the other."""

    def __init__(
        self, link: Link, attached: Sequence[Attached], inner: TlsEnd,
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        self._link, self._inner, self._reader, self._writer = link, inner, reader, writer
        self._fields = [(each.header.encode(), each.value.encode()) for each in attached]
        self._down = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_MAX)
        self._up = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_MAX)

    async def one(self) -> bool:
        """A request and its answer; False if it was the last. Raises NotHttp, OSError."""
        try:
            request = await self._asked()
            if not isinstance(request, h11.Request):
                return False
            await self._send_up(self._up.send(self._changed(request)))
            asking = asyncio.create_task(self._ask())
            try:
                await self._answer()
                if not asking.done():
                    return False  # answered before it had said all: nobody waits for the rest
                asking.result()
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            if {self._down.our_state, self._down.their_state, self._up.our_state,
                    self._up.their_state} != {h11.DONE}:  # fmt: skip
                return False
            self._down.start_next_cycle()
            self._up.start_next_cycle()
        except (h11.LocalProtocolError, h11.RemoteProtocolError) as error:
            raise NotHttp(str(error)) from error
        return True

    def _changed(self, request: h11.Request) -> h11.Request:
        """Raises NotHttp."""
        host = next((value for name, value in request.headers if name == b"host"), b"")
        if host_of(host).removesuffix(".") != self._link.name:
            raise NotHttp("another host")
        if not request.target.startswith(b"/") and request.target != b"*":
            raise NotHttp("a target that names a host")
        if request.method.upper() == b"TRACE":
            raise NotHttp("a method whose answer is the request, and the secret in it")
        ours = {name.lower() for name, _ in self._fields}
        kept = [
            (name, value)
            for name, value in request.headers.raw_items()
            if name.lower() not in ours and name.lower() != b"upgrade"
        ]
        return h11.Request(
            method=request.method, target=request.target, headers=[*kept, *self._fields]
        )

    async def _ask(self) -> None:
        while isinstance(event := await self._asked(), h11.Data):
            await self._send_up(self._up.send(event))
        if not isinstance(event, h11.EndOfMessage):
            raise NotHttp("a request that breaks off")
        await self._send_up(self._up.send(event))

    async def _answer(self) -> None:
        while True:
            event = await self._answered()
            if not isinstance(event, h11.InformationalResponse | h11.Response | h11.Data
                              | h11.EndOfMessage):  # fmt: skip
                raise ConnectionResetError("the host closed the connection")
            data = self._down.send(event) or b""
            self._link.received += len(data)
            await self._inner.write(data)
            if isinstance(event, h11.EndOfMessage):
                return

    async def _asked(self) -> object:
        while (event := self._down.next_event()) is h11.NEED_DATA:
            data = await self._inner.read()
            self._moved()
            self._down.receive_data(data)
        return event

    async def _answered(self) -> object:
        while (event := self._up.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(_CHUNK)
            self._moved()
            self._up.receive_data(data)
        return event

    async def _send_up(self, data: bytes | None) -> None:
        self._link.sent += len(data or b"")
        self._writer.write(data or b"")
        await self._writer.drain()

    def _moved(self) -> None:
        self._link.moved_at = asyncio.get_running_loop().time()


def _inward(fd: int) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    try:
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context
