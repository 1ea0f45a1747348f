"""httpx's transports, set up for one service, and their errors in our words.

The transports are used without `httpx.Client` around them: redirects, cookies and authentication
flows would cost a third of a short call and have no use here. `HTTP_PROXY` and the like are not
read; pass a transport of your own to go through a proxy.
"""

import ssl

import httpx

from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.errors import ConnectionFailed, SandboxdError, Timeout

CONNECT_TIMEOUT = 5.0
"""Seconds for one connection to be made, within the call's deadline."""
_KEEPALIVE = 30.0
"""Seconds that an idle connection is kept; less than the service keeps it."""


def sync_transport(endpoint: Endpoint, max_connections: int) -> httpx.HTTPTransport:
    return httpx.HTTPTransport(
        verify=_tls(endpoint), limits=_limits(max_connections), uds=endpoint.uds
    )


def async_transport(endpoint: Endpoint, max_connections: int) -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(
        verify=_tls(endpoint), limits=_limits(max_connections), uds=endpoint.uds
    )


def timeouts(left: float) -> dict[str, float]:
    """The `timeout` extension of a request that has `left` seconds."""
    return {"connect": min(CONNECT_TIMEOUT, left), "read": left, "write": left, "pool": left}


def translated(
    error: httpx.TransportError, deadline: Deadline, request: httpx.Request | None = None
) -> SandboxdError:
    """Our error for one of httpx's. `retryable` only if nothing of the request was sent."""
    text = str(error) or type(error).__name__
    if isinstance(error, httpx.PoolTimeout):
        return Timeout(f"no free connection within {deadline.seconds:g} s")
    # A socket with no time left does not wait and says EAGAIN, which is no TimeoutException.
    late = httpx.TimeoutException | httpx.ReadError | httpx.WriteError
    if isinstance(error, late) and not deadline.remaining():
        return deadline.passed()
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        where = (
            "the service"
            if request is None
            else f"{request.url.scheme}://{request.headers['host']}"
        )
        return ConnectionFailed(f"no connection to {where}: {text}", retryable=True)
    if isinstance(error, httpx.TimeoutException):
        return deadline.passed()
    return ConnectionFailed(f"the connection broke: {text}")


def _limits(max_connections: int) -> httpx.Limits:
    return httpx.Limits(
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=_KEEPALIVE,
    )


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    if endpoint.secure:
        return ssl.create_default_context()
    # Never used; an empty context spares the milliseconds that loading CAs takes.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
