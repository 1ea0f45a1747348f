"""Other services' APIs over the same queue: their clients keep working and get our sandboxes.

Each adapter is a list of routes that end in the same jobs, mounted below /compat/NAME, and on a listener
of its own if the settings name one. What an API cannot say is mapped by a rule in docs/judges.md.
"""

from collections.abc import Callable
from importlib import import_module

from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.gateway.context import Gateway

NAMES = ("judge0", "piston", "go_judge", "sandboxfusion")
PREFIX = "/compat"
OPEN = frozenset({f"{PREFIX}/go_judge/version", f"{PREFIX}/go_judge/config"})
"""Answered without a key, as the service whose API it is does."""
OPEN_LOCALLY = frozenset({f"{PREFIX}/go_judge/metrics"})
"""Answered to this machine without a key, as our own metrics are."""


def mounts(gateway: Gateway) -> list[Mount]:
    """The enabled adapters below their prefixes."""
    return [
        Mount(f"{PREFIX}/{name}", routes=_routes(name)(gateway))
        for name in NAMES
        if name in gateway.settings.adapters.enabled
    ]


def _routes(name: str) -> Callable[[Gateway], list[BaseRoute]]:
    found: Callable[[Gateway], list[BaseRoute]] = import_module(f"{__name__}.{name}").routes
    return found


class Fronts:
    """Requests that came by an adapter's own listener, as if they had come by its prefix."""

    def __init__(self, app: ASGIApp, fronts: dict[str | int, str]) -> None:
        """`fronts`: port, or path of a unix socket, to the adapter's name."""
        self._app, self._fronts = app, fronts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope.get("server"):
            host, port = scope["server"]
            name = self._fronts.get(host if port is None else port)
            if name is not None:
                path = f"{PREFIX}/{name}{scope['path']}"
                scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


__all__ = ["NAMES", "OPEN", "OPEN_LOCALLY", "PREFIX", "Fronts", "mounts"]
