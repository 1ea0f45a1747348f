"""Who is on this machine: by the connection, or by the name that a browser was given."""

import ipaddress

from starlette.types import Scope


def is_unix(scope: Scope) -> bool:
    """uvicorn gives the path of a unix socket, or nothing if the socket has none."""
    server = scope.get("server")
    return server is None or server[0].startswith("/")


def is_local(scope: Scope) -> bool:
    """The client is on this machine; a reverse proxy there speaks for others too."""
    client = scope.get("client")
    return is_unix(scope) or (client is not None and _is_loopback(client[0]))


def names_loopback(host: str) -> bool:
    """A Host header that only means this machine.

    A web page that points its own name at 127.0.0.1 has the visitor's browser on this machine;
    it cannot change the Host that the browser sends.
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return _is_loopback(name.strip("[]").lower())


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
