"""Other services' APIs over the same queue: their clients keep working and get our sandboxes.

Each adapter is a list of routes that end in the same jobs, mounted below /compat/NAME, and at the root of
a listener or a host name of its own if the settings name one. What an API cannot say is mapped by a
rule in docs/judges.md.
"""

from collections.abc import Callable, Mapping
from importlib import import_module

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import names
from sandboxd.gateway.forwarding.names import Site
from sandboxd.settings import AdapterSettings, Settings, SettingsError

NAMES = ("judge0", "piston", "go_judge", "sandboxfusion", "e2b")
PREFIX = "/compat"
OPEN = frozenset({f"{PREFIX}/go_judge/version", f"{PREFIX}/go_judge/config"})
"""Answered without a key, as the service whose API it is does."""
OWN_KEYS = (f"{PREFIX}/e2b/",)
"""Below these an adapter asks for keys and tokens itself."""


def mount(gateway: Gateway) -> Mount:
    """The enabled adapters below their prefixes."""
    return Mount(
        PREFIX,
        routes=[
            Mount(f"/{name}", routes=_routes(name)(gateway))
            for name in NAMES
            if name in gateway.settings.adapters.enabled
        ],
    )


def _routes(name: str) -> Callable[[Gateway], list[BaseRoute]]:
    found: Callable[[Gateway], list[BaseRoute]] = import_module(f"{__name__}.{name}").routes
    return found


FRONTED = "sandboxd.fronted"
"""In the scope of a request that came by an adapter's own listener or name: outside is no prefix."""
_SERVERS = {49983: "e2b", 49999: "e2b"}
"""Ports of sandboxes at which an adapter's clients expect a server of the service, by name."""


class Fronts:
    """Requests that came by an adapter's own listener or host name, as if they had come by its prefix."""

    def __init__(
        self,
        app: ASGIApp,
        listeners: dict[str | int, str],
        hosts: Mapping[str, str],
        site: Site | None = None,
    ) -> None:
        """The adapter's name by port, or path of a unix socket, and by host name in lower case. `site` is
        where ports of sandboxes have names, for the adapters that have servers there."""
        self._app, self._listeners, self._hosts, self._site = app, listeners, hosts, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            name = self._by_listener(scope) or self._by_host(scope)
            if name is not None:
                path = f"{PREFIX}/{name}{scope['path']}"
                scope = {**scope, "path": path, "raw_path": path.encode(), FRONTED: True}
        await self._app(scope, receive, send)

    def _by_listener(self, scope: Scope) -> str | None:
        if not scope.get("server"):
            return None
        host, port = scope["server"]
        return self._listeners.get(host if port is None else port)

    def _by_host(self, scope: Scope) -> str | None:
        if not self._hosts and self._site is None:
            return None
        host = Headers(scope=scope).get("host", "")
        place = self._site.place(host) if self._site is not None else None
        if place is not None:
            return _SERVERS.get(place.port)
        return self._hosts.get(host.partition(":")[0].lower())


def site(settings: Settings) -> Site | None:
    """Where sandboxes' ports have names, if an adapter is enabled that has servers there. Raises
    SettingsError."""
    if not set(_SERVERS.values()) & set(settings.adapters.enabled):
        return None
    return names.site(settings.gateway.ports_url)


def hosts(settings: AdapterSettings) -> dict[str, str]:
    """The enabled adapters that have a host name, by it. Raises SettingsError if two have the same."""
    found: dict[str, str] = {}
    for name in settings.enabled:
        host = getattr(settings, f"{name}_host").lower()
        if host in found:
            raise SettingsError(f"adapters.{name}_host: {host} is {found[host]} already")
        if host:
            found[host] = name
    return found


__all__ = ["FRONTED", "NAMES", "OPEN", "OWN_KEYS", "PREFIX", "Fronts", "hosts", "mount", "site"]
