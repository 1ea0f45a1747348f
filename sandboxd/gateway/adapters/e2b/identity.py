"""Names and tokens: whose request it is, and of which sandbox.

E2B's clients put ids into host names, where there is no underscore: there an id has a hyphen. What they
present to a sandbox is its access token, which says whose it is and cannot be guessed: nothing has to be
looked up to believe it.
"""

import base64
import hashlib
import hmac
import re

from msgspec import Struct
from starlette.datastructures import Headers

from sandboxd.errors import NotFound, Unauthorized
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions.names import is_sandbox_id

_OURS, _THEIRS = "sbx_", "sbx-"
ENVD, INTERPRETER = 49983, 49999
"""Ports inside at which E2B's own servers listen."""
_HOST = re.compile(r"(?P<port>[0-9]{1,5})-(?P<id>sbx[-_][a-z2-7]{26})\..+")


class Target(Struct, frozen=True):
    """The sandbox that a request is for."""

    tenant: str
    sandbox: str
    port: int


def shown(sandbox: str) -> str:
    """An id as E2B's clients see it."""
    return sandbox.replace(_OURS, _THEIRS, 1)


def meant(name: str) -> str:
    """The id that is meant by what a client says. Raises NotFound for what is none."""
    sandbox = name.replace(_THEIRS, _OURS, 1)
    if not is_sandbox_id(sandbox):
        raise NotFound(f"sandbox {name[:64]!r} was not found")
    return sandbox


def tenant(gateway: Gateway, headers: Headers) -> str:
    """Whose API key this is. Raises Unauthorized."""
    key = headers.get("x-api-key")
    given = f"Bearer {key}" if key is not None else headers.get("authorization")
    found = gateway.keys.tenant(given)
    if found is None:
        raise Unauthorized("send your key in the header X-API-KEY")
    return found


async def access_token(gateway: Gateway, tenant: str, sandbox: str) -> str:
    """What opens one sandbox: its commands and files."""
    return seal(await gateway.sandboxes.secret.get(), tenant, sandbox)


def seal(secret: bytes, tenant: str, sandbox: str) -> str:
    said = b"\0".join((b"e2b-access", tenant.encode(), sandbox.encode()))
    mark = _text(hmac.digest(secret, said, hashlib.sha256))
    return f"{_text(tenant.encode())}.{sandbox}.{mark}"


def unseal(secret: bytes, token: str) -> tuple[str, str]:
    """The tenant and the sandbox that a token is for. Raises Unauthorized."""
    name, _, rest = token.partition(".")
    sandbox, _, _ = rest.partition(".")
    try:
        owner = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
    except ValueError:
        raise Unauthorized("this is no access token") from None
    if not hmac.compare_digest(seal(secret, owner, sandbox).encode(), token.encode()):
        raise Unauthorized("this is no access token of this service")
    return owner, sandbox


def named(headers: Headers) -> tuple[str, int] | None:
    """The sandbox and port that headers or the host name mean, or None: then it is the control plane."""
    name = headers.get("e2b-sandbox-id")
    if name is not None:
        port = headers.get("e2b-sandbox-port", str(ENVD))
        return name, int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else 0
    match = _HOST.fullmatch(headers.get("host", "").partition(":")[0].lower())
    return (match["id"], int(match["port"])) if match else None


def token(headers: Headers) -> str | None:
    """What a request presents to a sandbox."""
    return headers.get("x-access-token") or headers.get("e2b-traffic-access-token")


async def target(gateway: Gateway, headers: Headers, named: tuple[str, int] | None) -> Target:
    """Whose sandbox it is, by its token; without API keys everything is the one tenant's. Older clients
    name none: then it is the token's. Raises NotFound, Unauthorized."""
    presented = token(headers)
    if presented is not None:
        owner, sandbox = unseal(await gateway.sandboxes.secret.get(), presented)
        if named is not None and meant(named[0]) != sandbox:
            raise Unauthorized("the access token is another sandbox's")
        return Target(owner, sandbox, ENVD if named is None else named[1])
    if named is None:
        raise Unauthorized("only reading and writing can be signed")
    sandbox, port = meant(named[0]), named[1]
    found = gateway.keys.tenant(headers.get("authorization"))
    if found is None:
        raise Unauthorized("send the sandbox's token in the header X-Access-Token")
    owner = found
    return Target(owner, sandbox, port)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
