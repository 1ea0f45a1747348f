"""URLs of files that are good without a token, as E2B's clients sign them themselves.

A client hashes the path, what it is for, the user and its sandbox' token. With host names the URL says
which sandbox is meant; else the signature is held against every token that this process has handed out.
"""

import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from time import time

from msgspec import Struct

from sandboxd.errors import Unauthorized
from sandboxd.gateway.adapters.e2b.identity import ENVD, Target

PATH_MAX = 4096
"""Characters of a signed path, and of a user's name; the rest of a request line is the server's."""
_MOST = 4_000
"""Tokens that a signature may be held against: some milliseconds for anybody who asks."""
_BAD = "invalid signature"


class Signed(Struct, frozen=True):
    """What a signed request says."""

    operation: str
    path: str
    user: str
    signature: str
    expiration: str | None

    def first_of(self, tokens: Iterable[str]) -> str | None:
        """The token that it was made with. What all have in common is hashed once."""
        said = hashlib.sha256(f"{self.path}:{self.operation}:{self.user}:".encode())
        last = "" if self.expiration is None else f":{self.expiration}"
        for token in tokens:
            whole = said.copy()
            whole.update(f"{token}{last}".encode())
            made = b"v1_" + base64.b64encode(whole.digest()).rstrip(b"=")
            if hmac.compare_digest(made, self.signature.encode()):
                return token
        return None


def signed(method: str, query: Mapping[str, str]) -> Signed | None:
    """None if the request is not signed. Raises Unauthorized for one that is not good any more."""
    signature = query.get("signature")
    if signature is None or method not in ("GET", "HEAD", "POST"):
        return None
    expiration = query.get("signature_expiration")
    if expiration is not None:
        if not (expiration.isascii() and expiration.isdecimal() and len(expiration) < 16):
            raise Unauthorized(_BAD)
        if int(expiration) < time():
            raise Unauthorized("signature is already expired")
    path, user = query.get("path", ""), query.get("username", "")
    if len(path) > PATH_MAX or len(user) > PATH_MAX:
        raise Unauthorized(_BAD)
    return Signed(
        "write" if method == "POST" else "read",
        path,
        user,
        signature,
        expiration,
    )


class Issued:
    """The latest tokens that were handed out, by their sandboxes."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """By sandbox: tenant and token."""

    def add(self, tenant: str, sandbox: str, token: str) -> None:
        self._tokens[sandbox] = (tenant, token)
        self._tokens.move_to_end(sandbox)
        while len(self._tokens) > _MOST:
            self._tokens.popitem(last=False)

    def target(self, request: Signed, sandbox: str | None) -> Target:
        """Whose signature it is. Raises Unauthorized."""
        held = self._tokens
        if sandbox is not None:
            held = OrderedDict({sandbox: held[sandbox]} if sandbox in held else {})
        by_token = {token: (tenant, name) for name, (tenant, token) in held.items()}
        made_with = request.first_of(reversed(by_token))
        if made_with is None:
            raise Unauthorized(_BAD)
        tenant, name = by_token[made_with]
        return Target(tenant, name, ENVD)
