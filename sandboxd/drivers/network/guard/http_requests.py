"""The hosts that a stream of HTTP/1 requests asks for, each before the request's first byte goes on.

A connection that was let through for one name may carry requests for another, so every head is read
(llhttp, by httptools), not only the first. Bodies are not kept.
"""

import asyncio
import re
from collections import Counter

import httptools

_HEAD_MAX = 65_536
_AUTHORITY = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")
_AIM = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?#]*)([/?].*)?")
_OFFERS = re.compile(rb"^(?:upgrade|http2-settings)[ \t]*:[^\r\n]*\r?\n", re.I | re.M)


class NotHttp(Exception):
    """What came is no request that a server and we would read alike."""


def host_of(authority: bytes) -> str:
    """The host of a Host header, in lower case. Nothing but a port may follow it and nothing stand
    before it: a server might take that for the host. Raises NotHttp."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise NotHttp("a host that is none")
    return found[1].decode().lower()


class Requests:
    """Feed it what the client sends; `hosts` are what was asked for so far.

    A client may ask to speak WebSocket, which nobody reads, in its first request only; and has then to
    wait until the server has agreed, as told by `answered`. Offers to speak anything else, HTTP/2 above
    all, which names a host in each request again, do not go on.
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
        self._in_head = self._in_body = False
        self._begun = 0
        """Messages that begin in what is held; one that had begun before counts as well."""
        self._fields: Counter[bytes] = Counter()
        self._host = self._upgrade = self._url = b""
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be sent on: whole heads, and what belongs to bodies. Raises NotHttp."""
        if self._upgraded:
            return data
        if not self._held:
            self._begun = int(self._in_body)
        self._held += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = len(data) - upgrade.args[0]
            if self._upgrade.lower() != b"websocket":
                return self._without_offer(rest)
            if self._count != 1 or rest:
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

    def _without_offer(self, rest: int) -> bytes:
        """As if the head that is held, with so many bytes behind it, had not offered to upgrade."""
        if self._begun != 1:
            raise NotHttp("an upgrade out of turn")  # where its head begins is not known
        end = len(self._held) - rest
        data = _OFFERS.sub(b"", self._held[:end]) + self._held[end:]
        self._held, self._in_body = b"", False
        self._count -= 1
        self._parser = httptools.HttpRequestParser(self)
        return self.feed(data)

    def answered(self, data: bytes) -> None:
        """The server's first bytes after an upgrade was asked for. Raises NotHttp unless it agrees."""
        if not self.settled.is_set():
            if not data.startswith((b"HTTP/1.1 101", b"HTTP/1.0 101")):
                raise NotHttp("no upgrade")
            self.settled.set()

    def on_message_begin(self) -> None:
        self._in_head, self._begun = True, self._begun + 1
        self._fields.clear()
        self._host = self._upgrade = self._url = b""

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        field = name.lower()
        self._fields[field] += 1
        if field == b"host":
            self._host = value
        elif field == b"upgrade":
            self._upgrade = value

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        if self._fields[b"host"] != 1:
            raise NotHttp("needs one Host")
        if self._parser.get_method() == b"CONNECT":
            raise NotHttp("a tunnel")
        if self._fields[b"upgrade"] > 1 or (self._upgrade and not self._parser.should_upgrade()):
            raise NotHttp("an offer to upgrade in a form of its own")
        host = host_of(self._host)
        if not self._url.startswith(b"/") and self._url != b"*":
            aim = _AIM.fullmatch(self._url)
            if aim is None or host_of(aim[1]) != host:
                raise NotHttp("two hosts")
        self._count += 1
        if host not in self.hosts:
            self.hosts.append(host)

    def on_message_complete(self) -> None:
        self._in_body = False
