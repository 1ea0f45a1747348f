"""URLs of files that are good without a token, as E2B's clients sign them themselves.

A client hashes the path, what it is for, the user and its sandbox' token. With host names the URL says
which sandbox is meant; else the signature is held against every token that this process has handed out.
"""

import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from time import time

from msgspec import Struct

from sandboxd.errors import Unauthorized
from sandboxd.gateway.adapters.e2b.identity import ENVD, Target

_MOST = 10_000
_BAD = "invalid signature"


class Signed(Struct, frozen=True):
    """What a signed request says."""

    operation: str
    path: str
    user: str
    signature: str
    expiration: str | None

    def matches(self, token: str) -> bool:
        said = [self.path, self.operation, self.user, token]
        if self.expiration is not None:
            said.append(self.expiration)
        digest = hashlib.sha256(":".join(said).encode()).digest()
        made = "v1_" + base64.b64encode(digest).rstrip(b"=").decode()
        return hmac.compare_digest(made.encode(), self.signature.encode())


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
    return Signed(
        "write" if method == "POST" else "read",
        query.get("path", ""),
        query.get("username", ""),
        signature,
        expiration,
    )


class Issued:
    """The latest tokens that were handed out, by their sandboxes."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def add(self, tenant: str, sandbox: str, token: str) -> None:
        self._tokens[sandbox] = (tenant, token)
        self._tokens.move_to_end(sandbox)
        while len(self._tokens) > _MOST:
            self._tokens.popitem(last=False)

    def target(self, request: Signed, sandbox: str | None) -> Target:
        """Whose signature it is. Raises Unauthorized."""
        if sandbox is not None:
            found = self._tokens.get(sandbox)
            if found is not None and request.matches(found[1]):
                return Target(found[0], sandbox, ENVD)
            raise Unauthorized(_BAD)
        for name, (tenant, token) in reversed(self._tokens.items()):
            if request.matches(token):
                return Target(tenant, name, ENVD)
        raise Unauthorized(_BAD)
