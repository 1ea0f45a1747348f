"""uvicorn with the limits that it lacks: see `connection` and `websocket` for what they bound."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from sandboxd.gateway.connection import Connection, ServerConfig
from sandboxd.gateway.websocket import WebSocketConnection
from sandboxd.settings import GatewaySettings

_MAX_MESSAGE = (1 << 16) + 1
"""One stdin frame behind its tag."""
_SWEEP_TICKS = 100
"""Of uvicorn's ticks, ten a second: closing connections have ten to twenty seconds to flush."""


def configure(app: ASGIApp, settings: GatewaySettings) -> ServerConfig:
    return ServerConfig(
        app,
        settings,
        http=Connection,
        ws=WebSocketConnection,
        ws_max_size=_MAX_MESSAGE,
        # The reading side of a stream pauses while the program does not read its stdin, and a
        # paused side sees no pong. TCP keep-alive finds the dead peers instead.
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.idle_timeout,
        timeout_graceful_shutdown=int(settings.shutdown_timeout) + 5,
    )


class Server(uvicorn.Server):
    """Stops on SIGTERM and SIGINT by way of `close`, which sees to the requests that wait. `bound`
    is called once it listens."""

    def __init__(
        self,
        config: ServerConfig,
        close: Callable[[], None],
        bound: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._close, self._bound = close, bound
        self.listening = asyncio.Event()
        self._closing: set[object] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not uvicorn's: that one kills the process with the signal after a clean stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        self._close()
        self.should_exit = True

    async def startup(self, sockets: object = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        self._bound()
        self.listening.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % _SWEEP_TICKS == 0:
            self._sweep()
        return await super().on_tick(counter)

    def _sweep(self) -> None:
        """Abort connections that were closed a sweep ago and still wait for their peer to read."""
        closing: set[object] = set()
        for connection in list(self.server_state.connections):
            if connection.transport.is_closing():
                if connection in self._closing:
                    connection.transport.abort()
                else:
                    closing.add(connection)
        self._closing = closing
