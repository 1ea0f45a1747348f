"""Puts the tenant into the scope, or refuses the request.

Open to everybody: `/healthz`, `/openapi.json` and signed addresses. Open to this machine only: `/readyz`
and `/metrics` (a reverse proxy on this machine counts as this machine and has to hide them itself).
"""

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.errors import Forbidden, Unauthorized
from sandboxd.gateway.auth import DEFAULT_TENANT, Keys

_OPEN = frozenset({"/healthz", "/openapi.json"})
_SIGNED = "/v1/signed/"
"""What comes after it is the credential, see `api/sandbox_signed`."""
_OPEN_LOCALLY = frozenset({"/readyz", "/metrics"})


class Authentication:
    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        also_open: frozenset[str] = frozenset(),
        own_keys: tuple[str, ...] = (),
    ) -> None:
        """The paths of adapters beside our own; what begins with one of `own_keys` has no tenant yet."""
        self._app, self._keys, self._own_keys = app, keys, own_keys
        self._open = _OPEN | also_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope["tenant"] = self._tenant(scope)
        await self._app(scope, receive, send)

    def _tenant(self, scope: Scope) -> str:
        """Raises Unauthorized or Forbidden."""
        headers = Headers(scope=scope)
        if not self._keys.required:
            _check_host(scope, headers)
            return DEFAULT_TENANT
        tenant = self._keys.tenant(_presented(scope, headers))
        if tenant is not None:
            return tenant
        if scope["path"].startswith(self._own_keys):
            return ""
        if scope["path"].startswith(_SIGNED):
            return DEFAULT_TENANT
        if scope["path"] in self._open or (
            scope["path"] in _OPEN_LOCALLY and _is_local(scope)
        ):
            return DEFAULT_TENANT
        raise Unauthorized("send the header Authorization: Bearer <key>")


def _presented(scope: Scope, headers: Headers) -> str | None:
    """The Authorization header, or where an adapter's clients put their key instead."""
    given = headers.get("authorization")
    if scope["path"].startswith("/compat/"):
        bare = given if given and " " not in given else headers.get("x-auth-token")
        if bare:
            return f"Bearer {bare}"
    return given


def _check_host(scope: Scope, headers: Headers) -> None:
    """Without keys, being on this machine is the only credential.

    A web page that points its own name at 127.0.0.1 has the visitor's browser on this machine;
    it cannot change the Host that the browser sends.
    """
    if _is_unix(scope):
        return
    host = headers.get("host", "localhost")
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if not _is_loopback(name.strip("[]").lower()):
        raise Forbidden("without API keys, only requests to localhost are served", field="Host")


def _is_unix(scope: Scope) -> bool:
    """uvicorn gives the path of a unix socket, or nothing if the socket has none."""
    server = scope.get("server")
    return server is None or server[0].startswith("/")


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    return _is_unix(scope) or (client is not None and _is_loopback(client[0]))


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
