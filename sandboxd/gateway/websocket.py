"""One WebSocket connection: uvicorn's protocol, bounded in memory."""

import asyncio
from typing import Any

from starlette.websockets import WebSocket
from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    Scope,
)
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from sandboxd.gateway.connection import ServerConfig
from sandboxd.gateway.stall import WriteStall

_MAX_FRAGMENTS = 64
_POLICY_VIOLATION = 1008
_WIDEN = "sandboxd.take_large_messages"
_LARGE = 1 << 20
"""Bytes of a message that holds a whole request, sources and all."""


def take_large_messages(socket: WebSocket) -> None:
    """From a client who may speak here, and whose messages are requests."""
    widen = socket.scope.get("extensions", {}).get(_WIDEN)
    if widen is not None:
        widen["call"]()


class WebSocketConnection(WebSocketsSansIOProtocol):
    """Reads no more while its answers (pongs too) find no reader, and gives that up in the end."""

    def __init__(self, config: ServerConfig, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self._period = config.settings.body_timeout
        self._stall: WriteStall | None = None
        self._application: ASGI3Application = self.app
        self.app = self._serve

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stall = WriteStall(self.transport, self._period)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stall is not None:
            self._stall.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()
        if self._stall is not None:
            self._stall.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()
        if self._stall is not None:
            self._stall.stop()

    async def _serve(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """A handshake that was refused is complete: uvicorn would log an error of the application's."""
        await self._application(scope, receive, send)
        if self.transport.is_closing() and not self.handshake_complete:
            raise ClientDisconnected

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if not self.writable.is_set():
            self.transport.pause_reading()
        return message

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"][_WIDEN] = {"call": self._widen}

    def _widen(self) -> None:
        self.conn.max_message_size = _LARGE

    def handle_cont(self, event: Frame) -> None:
        """Empty fragments count nothing towards a message's size and are kept all the same."""
        if len(self.frames) >= _MAX_FRAGMENTS:
            self.conn.fail(_POLICY_VIOLATION, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)
