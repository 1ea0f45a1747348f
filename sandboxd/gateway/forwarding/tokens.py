"""Tokens: signed, expiring words that open one port of one sandbox to whoever has them. Pure.

One comes in a link's query, in a header, or in the cookie that a link leaves behind.
"""

import base64
import hashlib
import hmac

import msgspec
from msgspec import Struct
from starlette.datastructures import Headers

from sandboxd.gateway.forwarding.names import Place

QUERY = "sandboxd-token"
HEADER = "x-sandboxd-token"
COOKIE = "sandboxd-token"
SHARED = "/v1/ports/"
"""The path below which a token opens a port on the API's own host."""
_QUERY = QUERY.encode()
_KIND = b"port-token\0"
_MAX = 1024
_MARK = hashlib.sha256().digest_size


class Grant(Struct, frozen=True, array_like=True):
    tenant: str
    sandbox: str
    port: int
    expires: float
    """Seconds since the epoch."""

    @property
    def place(self) -> Place:
        return Place(self.sandbox, self.port)


def seal(secret: bytes, granted: Grant) -> str:
    said = msgspec.msgpack.encode(granted)
    mark = hmac.digest(secret, _KIND + said, hashlib.sha256)
    return base64.urlsafe_b64encode(mark + said).rstrip(b"=").decode()


def unseal(secret: bytes, text: str, now: float) -> Grant | None:
    """None for what was not signed, and for what has expired."""
    if len(text) > _MAX:
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    mark, said = data[:_MARK], data[_MARK:]
    if not hmac.compare_digest(mark, hmac.digest(secret, _KIND + said, hashlib.sha256)):
        return None
    granted = msgspec.msgpack.decode(said, type=Grant)
    return granted if granted.expires >= now else None


def shown(headers: Headers, query: bytes) -> list[str]:
    """The tokens of a request, most explicit first. A cookie only counts on requests that the port's own
    pages made, or that somebody went to: sites beside it must not act for their visitor."""
    found = headers.getlist(HEADER)
    found += [value.decode("latin-1") for name, value in _parameters(query) if name == _QUERY]
    if _own_page(headers):
        found += _cookies(headers)
    return found[:8]


def without(query: bytes) -> bytes:
    """The query as the server inside is to see it, else byte for byte."""
    parts = query.split(b"&")
    return b"&".join(part for part in parts if part.partition(b"=")[0] != _QUERY)


def without_cookie(value: str) -> str:
    """A Cookie header without ours."""
    parts = (part.strip() for part in value.split(";"))
    return "; ".join(part for part in parts if part.partition("=")[0].strip() != COOKIE)


def cookie(text: str, left: float, *, secure: bool) -> str:
    """A Set-Cookie header's value, good for `left` seconds."""
    words = f"{COOKIE}={text}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max(1, int(left))}"
    return f"{words}; Secure" if secure else words


def _parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    pairs = (part.partition(b"=") for part in query.split(b"&"))
    return [(name, value) for name, _, value in pairs]


def _cookies(headers: Headers) -> list[str]:
    found = []
    for part in ";".join(headers.getlist("cookie")).split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            found.append(value)
    return found


def _own_page(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    return headers.get("sec-fetch-mode") == "navigate" and origin is None
