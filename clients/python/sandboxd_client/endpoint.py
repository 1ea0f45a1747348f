"""Where the service is and who asks: a base URL, taken apart once, and the fixed headers."""

import os
import platform
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from sandboxd_client._version import __version__

DEFAULT_URL = "http://127.0.0.1:7070"
USER_AGENT = (
    f"sandboxd-client/{__version__} python/{platform.python_version()} httpx/{httpx.__version__}"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    origin: str
    """`http[s]://host[:port][/prefix]`, without a trailing slash."""
    uds: str | None
    """Path of the unix socket, or None for TCP."""
    key: str | None = field(repr=False)

    @classmethod
    def of(cls, url: str | None, key: str | None) -> "Endpoint":
        """From arguments, else `SANDBOXD_URL` and `SANDBOXD_API_KEY`, else the default.

        Raises ValueError if the URL or the key makes no sense.
        """
        url = url or os.environ.get("SANDBOXD_URL") or DEFAULT_URL
        key = key or os.environ.get("SANDBOXD_API_KEY") or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ValueError("the API key has characters that no HTTP header can carry")
        if url.startswith("unix:"):
            path = url.removeprefix("unix:")
            path = "/" + path.lstrip("/") if path.startswith("//") else path
            if not path.strip("/"):
                raise ValueError(f"{url!r}: expected unix:/path/of/socket")
            return cls("http://sandboxd", path, key)
        return cls(_origin(url), None, key)

    @property
    def secure(self) -> bool:
        return self.origin.startswith("https:")

    @property
    def ws_origin(self) -> str:
        return "ws" + self.origin.removeprefix("http")

    def ws_headers(self) -> dict[str, str]:
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every request carries, ready for the wire."""
        host = urlsplit(self.origin).netloc.encode()
        headers = [(b"Host", host), (b"User-Agent", USER_AGENT.encode())]
        if self.key is not None:
            headers.append((b"Authorization", b"Bearer " + self.key.encode()))
        return headers


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise ValueError(f"{url!r}: {error}") from None
    if not valid or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{url!r}: expected http://host:port, https://host or unix:/path")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
