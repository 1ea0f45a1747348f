"""Puts the tenant into the scope, or refuses the request.

Open to everybody: `/healthz`, `/openapi.json` and signed addresses. Open to this machine only: `/readyz`
and `/metrics` (a reverse proxy on this machine counts as this machine and has to hide them itself).
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.errors import Forbidden, Unauthorized
from sandboxd.gateway.auth import DEFAULT_TENANT, Keys
from sandboxd.gateway.locality import is_local, is_unix, names_loopback

_OPEN = frozenset({"/healthz", "/openapi.json"})
_SIGNED = ("/v1/signed/", "/v1/ports/")
"""What comes after it is the credential, see `api/sandbox_signed` and `api/sandbox_pages`."""
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
        presented = _presented(scope, headers)
        tenant = self._keys.tenant(presented)
        if tenant is not None:
            return tenant
        if scope["path"].startswith(self._own_keys):
            return ""
        if scope["path"].startswith(_SIGNED):
            return DEFAULT_TENANT
        if scope["path"] in self._open or (scope["path"] in _OPEN_LOCALLY and is_local(scope)):
            return DEFAULT_TENANT
        if presented is not None:
            raise Unauthorized("the key in the header Authorization is none of this service's")
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
    """Without keys, being on this machine is the only credential."""
    if not is_unix(scope) and not names_loopback(headers.get("host", "localhost")):
        raise Forbidden("without API keys, only requests to localhost are served", field="Host")
