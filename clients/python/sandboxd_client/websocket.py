"""What WebSockets share: connection options, and websockets' errors in our words."""

from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus

from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import USER_AGENT, Endpoint
from sandboxd_client.errors import ConnectionFailed, SandboxdError, from_answer
from sandboxd_client.streaming import MAX_FRAME
from sandboxd_client.transport import CONNECT_TIMEOUT

CLOSE_TIMEOUT = 2.0
"""Seconds for the closing handshake after the result has come."""
_NORMAL = 1000


def stream_options(endpoint: Endpoint, deadline: Deadline) -> dict[str, Any]:
    return {
        "additional_headers": endpoint.ws_headers(),
        "user_agent_header": USER_AGENT,
        "compression": None,
        "max_size": MAX_FRAME,
        "open_timeout": min(CONNECT_TIMEOUT, deadline.check()),
        "close_timeout": CLOSE_TIMEOUT,
        # A reader that is slow on purpose does not see the answer in time, and is not dead.
        "ping_interval": None,
    }


def stream_refused(error: Exception, deadline: Deadline, endpoint: Endpoint) -> SandboxdError:
    """Our error for a stream that could not be opened."""
    if isinstance(error, InvalidStatus):
        answer = error.response
        return from_answer(answer.status_code, answer.headers, bytes(answer.body))
    if isinstance(error, TimeoutError) and not deadline.remaining():
        return deadline.passed()
    return ConnectionFailed(f"no stream from {endpoint.origin}: {error}", retryable=True)


def gone(error: ConnectionClosed) -> bool:
    """Whether the service closed the stream in order, since the run has ended."""
    return error.rcvd is not None and error.rcvd.code == _NORMAL
