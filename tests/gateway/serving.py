"""A gateway's server on a port of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from starlette.types import ASGIApp

from sandboxd.gateway.server import Server, configure
from sandboxd.settings import GatewaySettings


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, settings: GatewaySettings, closing: Callable[[], None], *, patience: float
) -> AsyncIterator[int]:
    """The port. What is still under way at the end has `patience` seconds."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(configure(app, settings), closing)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    yield listener.getsockname()[1]
    # Not the graceful stop, which takes its time; test_process has that.
    running.cancel()
    await asyncio.wait([running])
    for each in server.servers:
        each.close()
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    if server.server_state.tasks:
        await asyncio.wait(server.server_state.tasks, timeout=patience)
