"""The hosts that a stream of HTTP/1 requests asks for, each before the request's first byte goes on.

A connection that was let through for one name may carry requests for another, so every head is read
(llhttp, by httptools), not only the first. Bodies are not kept.
"""

import asyncio
from urllib.parse import urlsplit

import httptools

_HEAD_MAX = 65_536


class NotHttp(Exception):
    """What came is no request that a server and we would read alike."""


class Requests:
    """Feed it what the client sends; `hosts` are what was asked for so far.

    A client may ask to speak another protocol, which nobody reads, in its first request only; and
    has then to wait until the server has agreed, as told by `answered`.
    """

    def __init__(self) -> None:
        self.hosts: list[str] = []
        """Each once, in the order in which they were first asked for."""
        self._count = 0
        self.settled = asyncio.Event()
        """Not set while the client has asked to upgrade and the server has not said anything."""
        self.settled.set()
        self._upgraded = False
        self._parser = httptools.HttpRequestParser(self)
        self._in_head = False
        self._host: list[bytes] = []
        self._url = b""
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be sent on: whole heads, and what belongs to bodies. Raises NotHttp."""
        if self._upgraded:
            return data
        self._held += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._count != 1 or upgrade.args[0] != len(data):
                raise NotHttp("an upgrade out of turn") from None
            self._upgraded = True
            self.settled.clear()
        except httptools.HttpParserError as error:
            raise NotHttp(str(error)) from error
        if self._in_head or not self.hosts:
            if len(self._held) > _HEAD_MAX:
                raise NotHttp("an endless head")
            return b""
        held, self._held = self._held, b""
        return held

    def answered(self, data: bytes) -> None:
        """The server's first bytes after an upgrade was asked for. Raises NotHttp unless it agrees."""
        if not self.settled.is_set():
            if not data.startswith((b"HTTP/1.1 101", b"HTTP/1.0 101")):
                raise NotHttp("no upgrade")
            self.settled.set()

    def on_message_begin(self) -> None:
        self._in_head, self._host, self._url = True, [], b""

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self._host.append(value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self._host) != 1:
            raise NotHttp("needs one Host")
        if self._parser.get_method() == b"CONNECT":
            raise NotHttp("a tunnel")
        try:
            host = urlsplit(f"//{self._host[0].decode('ascii')}").hostname
            aim = self._url.decode("ascii")
            if not aim.startswith("/") and aim != "*" and urlsplit(aim).hostname != host:
                raise NotHttp("two hosts")
        except ValueError as error:
            raise NotHttp("a host that is none") from error
        self._count += 1
        if (host or "") not in self.hosts:
            self.hosts.append(host or "")
