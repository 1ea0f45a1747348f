"""E2B's API: its control plane, and the server that its clients expect in each sandbox.

Which of the two a request is for is told by the header `E2b-Sandbox-Id`, or by a host name such as
`49983-ID.domain`. It authenticates requests itself: a tenant's key opens the control plane, a
sandbox's token the sandbox. See docs/e2b.md for what is offered.
"""

from starlette.routing import BaseRoute, Mount

from sandboxd.gateway.adapters.e2b.front import Front
from sandboxd.gateway.context import Gateway


def routes(gateway: Gateway) -> list[BaseRoute]:
    return [Mount("/", app=Front(gateway))]
