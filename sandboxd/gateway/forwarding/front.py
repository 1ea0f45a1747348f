"""Requests to the host names of ports, see `names`; all others go on to the application behind.

Who may: whoever has a token for the port, the tenant by its key, and, on a gateway without keys, this
machine by a name that browsers take for it (`….localhost`). A token that comes in a browser's address is
put into a cookie of that host, and goes out of the address.
"""

import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.errors import Unauthorized
from sandboxd.gateway.adapters import FRONTED
from sandboxd.gateway.auth import DEFAULT_TENANT
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import tokens
from sandboxd.gateway.forwarding.headers import Target
from sandboxd.gateway.forwarding.names import Place, Site
from sandboxd.gateway.forwarding.serving import Serving
from sandboxd.gateway.locality import is_unix, names_loopback
from sandboxd.gateway.middleware.edge import Edge


class Front:
    def __init__(
        self, app: ASGIApp, gateway: Gateway, serving: Serving, site: Site,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._app, self._gateway, self._serving, self._site = app, gateway, serving, site
        self._clock = clock
        self._edge = Edge(self._serve, gateway.metrics, {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] in ("http", "websocket")
            and FRONTED not in scope  # a port at which an adapter answers for the sandbox
            and self._place(scope) is not None
        ):
            await self._edge(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _place(self, scope: Scope) -> Place | None:
        return self._site.place(Headers(scope=scope).get("host", ""))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = self._place(scope)
        assert place is not None  # that is why it came here
        headers = Headers(scope=scope)
        query = scope["query_string"]
        path = scope["raw_path"] + (b"?" + left if (left := tokens.without(query)) else b"")
        for text in tokens.shown(headers, query):
            secret = await self._gateway.sandboxes.secret.get()
            granted = tokens.unseal(secret, text, self._clock())
            if granted is not None and granted.place == place:
                break
        else:
            text, granted = "", None
        if granted is not None and _was_gone_to(scope, headers) and left != query:
            answer = RedirectResponse(self._site.origin(place) + path.decode("ascii"), 303)
            answer.headers["set-cookie"] = tokens.cookie(
                text, granted.expires - self._clock(), secure=self._site.scheme == "https"
            )
            answer.headers["cache-control"] = "no-store"
            await answer(scope, receive, send)
            return
        target = Target(
            tenant=granted.tenant if granted else self._tenant(scope, headers),
            place=place,
            path=path,
            host=headers["host"],
            own_origin=True,
            client=self._serving.client(scope),
        )
        await self._serving(target, scope, receive, send)

    def _tenant(self, scope: Scope, headers: Headers) -> str:
        """Raises Unauthorized."""
        keys = self._gateway.keys
        if keys.required:
            tenant = keys.tenant(headers.get("authorization"))
            if tenant is not None:
                return tenant
        elif is_unix(scope) or names_loopback(headers["host"]):
            return DEFAULT_TENANT
        raise Unauthorized("this port is private: ask whoever has the sandbox for a link")


def _was_gone_to(scope: Scope, headers: Headers) -> bool:
    """A browser shows what comes, and the address."""
    return scope.get("method") == "GET" and "text/html" in headers.get("accept", "")
