"""Names of ports: `http://8000-sbx-….example.org/`. Pure.

A host name has no underscore, so that of an id becomes a hyphen; both are understood.
"""

import re
from urllib.parse import urlsplit

from msgspec import Struct

from sandboxd.settings import SettingsError

_LABEL = re.compile(r"(?P<port>[1-9]\d{0,4})-sbx[-_](?P<rest>[a-z2-7]{26})")
_DOMAIN = re.compile(
    r"(?=.{1,190}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
)
_PORT_MAX = 65_535


class Place(Struct, frozen=True):
    """One port of one sandbox."""

    sandbox: str
    port: int


class Site(Struct, frozen=True):
    """Where the ports of all sandboxes are."""

    scheme: str
    domain: str
    suffix: str
    """`:7070`, or empty for the scheme's own port."""

    def origin(self, place: Place) -> str:
        label = f"{place.port}-{place.sandbox.replace('_', '-')}"
        return f"{self.scheme}://{label}.{self.domain}{self.suffix}"

    def place(self, host: str) -> Place | None:
        """What a Host header means; None if it is no port's."""
        name = host.rpartition(":")[0] if ":" in host else host
        label, _, domain = name.lower().removesuffix(".").partition(".")
        if domain != self.domain:
            return None
        match = _LABEL.fullmatch(label)
        if match is None or int(match["port"]) > _PORT_MAX:
            return None
        return Place(f"sbx_{match['rest']}", int(match["port"]))


def site(url: str) -> Site | None:
    """Of the setting `gateway.ports_url`; None where that is empty. Raises SettingsError."""
    if not url:
        return None
    try:
        parts = urlsplit(url.lower())
        domain, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise SettingsError(f"gateway.ports_url: {url}: {error}") from None
    if parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query:
        raise SettingsError(f"gateway.ports_url: {url}: expected http://domain[:port]")
    if _DOMAIN.fullmatch(domain) is None or domain.rpartition(".")[2].isdecimal():
        raise SettingsError(f"gateway.ports_url: {url}: {domain or 'nothing'} is no domain name")
    return Site(parts.scheme, domain, f":{port}" if port else "")
