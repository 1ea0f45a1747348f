"""Which header fields pass between a client and a server in a sandbox. Pure.

What is said to the next hop alone ends here (RFC 9110, 7.6.1); how long a message is, is said anew by the
library that writes it. What we add about the client replaces what the client says of itself, unless it is
a reverse proxy on this machine. Our own credentials never pass.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.forwarding import tokens
from sandboxd.gateway.forwarding.errors import BadAnswer
from sandboxd.gateway.forwarding.names import Place

Fields = list[tuple[bytes, bytes]]

_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_OURS = frozenset(
    {
        b"host", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip",
        b"x-forwarded-proto", b"x-forwarded-port", b"x-forwarded-prefix", tokens.HEADER.encode(),
    }
)  # fmt: skip
_HANDSHAKE = b"sec-websocket-"
_OF_ORIGIN = frozenset(
    {
        b"set-cookie", b"clear-site-data", b"strict-transport-security", b"service-worker-allowed",
        b"alt-svc", b"report-to", b"reporting-endpoints", b"nel",
    }
)  # fmt: skip
"""What an answer says of all that its host serves."""
_CONFINED: Fields = [
    (
        b"content-security-policy",
        b"sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts",
    ),
    (b"referrer-policy", b"no-referrer"),
]
"""For pages on the API's own origin: a browser then gives them another, that nobody shares."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOO_MANY = 256


class Client(Struct, frozen=True, kw_only=True):
    """Who asks, as the server inside is told."""

    address: str
    """Empty: it came by a unix socket."""
    scheme: str
    host: str
    """The Host header."""
    trusted: bool
    """It is on this machine: what it says of those it speaks for is passed on."""
    secret_authorization: bool
    """Its Authorization header is a key of ours."""


class Target(Struct, frozen=True, kw_only=True):
    """What a request is for, after it was found to be allowed."""

    tenant: str
    place: Place
    path: bytes
    """Path and query, as the server inside sees them."""
    host: str
    """The Host header that it sees."""
    prefix: str = ""
    """What was taken from the beginning of the path."""
    own_origin: bool = False
    """Nobody else's pages are on the host that the client asked."""
    client: Client


def request(given: Iterable[tuple[bytes, bytes]], target: Target, *, chunked: bool) -> Fields:
    """The fields for the server inside; all but those that say how long the body is, if `chunked`.
    Raises InvalidRequest for what cannot be passed on."""
    given, client = list(given), target.client
    _check(given, InvalidRequest)
    drop = _named_by_connection(given)
    fields: Fields = [(b"Host", target.host.encode())]
    for name, value in given:
        if name in _HOP or name in _OURS or name in drop or name.startswith(_HANDSHAKE):
            continue
        if name == b"authorization" and client.secret_authorization:
            continue
        if name == b"cookie":
            if not target.own_origin:
                continue
            value = tokens.without_cookie(value.decode("latin-1")).encode("latin-1")
            if not value:
                continue
        if name == b"content-length" and chunked:
            continue
        fields.append((name, value.strip()))
    return [*fields, *_about(given, target)]


def response(given: Iterable[tuple[bytes, bytes]], status: int, *, own_origin: bool) -> Fields:
    """The fields for the client, `own_origin` if nobody else's pages are on the host that it asked.
    Raises BadAnswer for those that no client could be given."""
    given = list(given)
    _check(given, BadAnswer)
    drop = _named_by_connection(given) | {b"date"}  # we say when we answer
    if status in (204, 304):
        drop |= {b"content-length"}
    if not own_origin:
        drop |= _OF_ORIGIN
    fields = [
        (name, value)
        for name, value in given
        if name not in _HOP and name not in drop and not name.startswith(_HANDSHAKE)
    ]
    return fields if own_origin else [*fields, *_CONFINED]


def _named_by_connection(fields: Fields) -> frozenset[bytes]:
    """What a Connection field lists; it may not take away what gives the message its meaning."""
    named = b",".join(value for name, value in fields if name == b"connection").lower()
    return frozenset(part.strip() for part in named.split(b",")) - {
        b"host", b"content-length", b"content-type", b"content-encoding", b"authorization", b"cookie",
        b"set-cookie",
    }  # fmt: skip


def _about(given: Fields, target: Target) -> Fields:
    client = target.client
    said = dict(given) if client.trusted else {}
    ways = [said.get(b"x-forwarded-for", b"").decode("latin-1"), client.address]
    scheme = said.get(b"x-forwarded-proto", b"").decode("latin-1")
    if scheme not in ("http", "https"):
        scheme = client.scheme
    about = {
        "x-forwarded-for": ", ".join(way for way in ways if way),
        "x-forwarded-host": client.host,
        "x-forwarded-proto": scheme,
        "x-forwarded-prefix": target.prefix,
    }
    return [(name.encode(), value.encode("latin-1")) for name, value in about.items() if value]


def _check(fields: Fields, error: type[InvalidRequest | BadAnswer]) -> None:
    if len(fields) > _TOO_MANY:
        raise error(f"more than {_TOO_MANY} header fields")
    for name, value in fields:
        if _CONTROL.search(value):
            raise error(f"the header {name.decode('latin-1')} has control characters in it")
