"""URLs that read or write one file for whoever has them: signed, and good until they expire.

`POST /v1/sandboxes/{id}/files/sign` makes one; `/v1/signed/{token}` needs no key. A token names tenant,
sandbox, path, method and time, and is worth nothing once its sandbox has ended.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from sandboxd.errors import NotFound
from sandboxd.gateway.api.sandbox_content import Contents
from sandboxd.gateway.api.sandbox_requests import Bodies, answer, known_query, who
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions import admission
from sandboxd.model import agent
from sandboxd.model.moment import rfc3339
from sandboxd.model.session_api import SignedUrl, SignRequest

PREFIX = "/v1/signed/"
_TOKEN_MAX = 8192


class Grant(Struct, frozen=True, array_like=True):
    tenant: str
    sandbox: str
    path: bytes
    method: str
    expires: float
    """Seconds since the epoch."""


def seal(secret: bytes, grant: Grant) -> str:
    said = msgspec.msgpack.encode(grant)
    return _text(hmac.digest(secret, b"signed-url\0" + said, hashlib.sha256) + said)


def unseal(secret: bytes, token: str, method: str, now: float) -> Grant:
    """Raises NotFound: of a token that is not good, nothing is said."""
    bad = NotFound("the address is not valid, or not any more")
    if len(token) > _TOKEN_MAX:
        raise bad
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        raise bad from None
    mark, said = data[:32], data[32:]
    if not hmac.compare_digest(mark, hmac.digest(secret, b"signed-url\0" + said, hashlib.sha256)):
        raise bad
    grant = msgspec.msgpack.decode(said, type=Grant)
    if grant.expires < now or grant.method != ("GET" if method == "HEAD" else method):
        raise bad
    return grant


class Signed:
    def __init__(
        self, gateway: Gateway, bodies: Bodies, contents: Contents,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._gateway, self._bodies, self._contents = gateway, bodies, contents
        self._clock = clock

    async def sign(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        wanted = await self._bodies.small(request, SignRequest)
        await self._gateway.sandboxes.live(tenant, sandbox)
        expires = self._clock() + wanted.expires_in
        path = admission.path(wanted.path, None)
        grant = Grant(tenant, sandbox, path, wanted.method, expires)
        token = seal(await self._gateway.sandboxes.secret.get(), grant)
        made = SignedUrl(url=PREFIX + token, method=wanted.method, expires_at=rfc3339(expires))
        return answer(made, 201)

    async def use(self, request: Request) -> ASGIApp:
        known_query(request.query_params)
        token: str = request.path_params["token"]
        secret = await self._gateway.sandboxes.secret.get()
        grant = unseal(secret, token, request.method, self._clock())
        if request.method == "PUT":
            call = agent.WriteFile(tenant=grant.tenant, sandbox=grant.sandbox, path=grant.path)
            return await self._contents.put(request, call)
        return await self._contents.get(request, grant.tenant, grant.sandbox, grant.path)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
