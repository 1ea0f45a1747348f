"""Carries requests to ports out, as many at once as one sandbox may have."""

from collections import Counter

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from sandboxd.errors import QuotaExceeded
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import exchange, sockets
from sandboxd.gateway.forwarding.headers import Client, Target
from sandboxd.gateway.locality import is_local

_AT_ONCE = 256
"""Requests to ports of one sandbox: a link that many have does not take all of the gateway's slots."""


class Serving:
    """One per gateway process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._busy: Counter[str] = Counter()

    async def __call__(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises SandboxdError, and ClientGone."""
        sandbox = target.place.sandbox
        if self._busy[sandbox] >= _AT_ONCE:
            raise QuotaExceeded(f"{_AT_ONCE} requests are with this sandbox", retry_after=1.0)
        forward = exchange.forward if scope["type"] == "http" else sockets.forward
        self._busy[sandbox] += 1
        try:
            with self._gateway.slots.take():
                await forward(self._gateway, target, scope, receive, send)
        finally:
            self._busy[sandbox] -= 1
            if not self._busy[sandbox]:
                del self._busy[sandbox]

    def client(self, scope: Scope) -> Client:
        headers, keys = Headers(scope=scope), self._gateway.keys
        peer = scope.get("client")
        proven = keys.required and keys.tenant(headers.get("authorization")) is not None
        return Client(
            address=peer[0] if peer else "",
            scheme="https" if scope["scheme"] in ("https", "wss") else "http",
            host=headers.get("host", ""),
            trusted=is_local(scope),
            secret_authorization=proven,
        )
