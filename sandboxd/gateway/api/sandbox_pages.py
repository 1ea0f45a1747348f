"""Servers in sandboxes below the API's own paths: HTTP, WebSocket, streams.

`/v1/sandboxes/{id}/ports/{port}/…` with a key; `/v1/ports/{token}/…` for whoever has the token, without
one. Pages that come this way share the API's host, so a browser is told to give them an origin of their
own, and cookies stay out: sites that need them have `gateway.ports_url`.
"""

import time
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from sandboxd.errors import NotFound
from sandboxd.gateway.api.sandbox_ports import port_of
from sandboxd.gateway.api.sandbox_requests import who
from sandboxd.gateway.api.stream import check_origin
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import tokens
from sandboxd.gateway.forwarding.headers import Target
from sandboxd.gateway.forwarding.names import Place
from sandboxd.gateway.forwarding.serving import Serving
from sandboxd.gateway.forwarding.tokens import SHARED


class ByKey:
    """An ASGI application."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        tenant, sandbox = who(connection)
        if scope["type"] == "websocket":
            check_origin(connection.headers)
        place = Place(sandbox, port_of(connection))
        prefix = f"/v1/sandboxes/{place.sandbox}/ports/{place.port}"
        target = _target(self._serving, scope, tenant, place, prefix)
        await self._serving(target, scope, receive, send)


class ByToken:
    """An ASGI application."""

    def __init__(
        self, gateway: Gateway, serving: Serving, clock: Callable[[], float] = time.time
    ) -> None:
        self._gateway, self._serving, self._clock = gateway, serving, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token: str = scope["path_params"]["token"]
        secret = await self._gateway.sandboxes.secret.get()
        granted = tokens.unseal(secret, token, self._clock())
        if granted is None:
            raise NotFound("the address is not valid, or not any more")
        target = _target(self._serving, scope, granted.tenant, granted.place, SHARED + token)
        await self._serving(target, scope, receive, send)


def _target(serving: Serving, scope: Scope, tenant: str, place: Place, prefix: str) -> Target:
    """Raises NotFound where the path only decodes to ours: what of it is the server's is unclear."""
    raw, query = scope["raw_path"], scope["query_string"]
    if not raw.startswith(prefix.encode() + b"/"):
        raise NotFound("there is nothing at this address")
    return Target(
        tenant=tenant,
        place=place,
        path=raw[len(prefix) :] + (b"?" + query if query else b""),
        host=f"localhost:{place.port}",
        prefix=prefix,
        client=serving.client(scope),
    )
