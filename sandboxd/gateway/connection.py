"""One HTTP connection: uvicorn's protocol, bounded in time and memory.

uvicorn gives no time to a request's head and body, lets heads and pipelines grow without end, and
buffers for peers that do not read. Here a head has `header_timeout` seconds and 64 KiB, a body
`body_timeout` seconds, a pipeline eight requests, and a full write buffer has to move. A handler may
take the rest of a body as a descriptor: see `raw_body`.
"""

import asyncio
from enum import Enum, auto
from functools import partial
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from sandboxd.errors import MalformedBody, RequestTimeout, SandboxdError, Unavailable
from sandboxd.gateway import problems
from sandboxd.gateway.raw_body import RawBody
from sandboxd.gateway.stall import WriteStall
from sandboxd.settings import GatewaySettings

_MAX_HEAD = 1 << 16
_MAX_PIPELINE = 8
_BODY_GRACE = 5.0
"""Seconds that the handler's own body timeout has to be answered."""


class HeadTooLarge(MalformedBody):
    code, status, title = "head_too_large", 431, "The request's head is too large"


class _Phase(Enum):
    IDLE = auto()
    """Between requests, or before the first."""
    HEAD = auto()
    BODY = auto()
    UPGRADED = auto()
    """The connection is a WebSocket's, and this object out of its way."""


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration, with ours beside it for the protocols it creates."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings, **options: Any) -> None:
        super().__init__(cast(Any, app), **options)
        self.settings = settings


class Connection(HttpToolsProtocol):
    def __init__(self, config: ServerConfig, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self._settings = config.settings
        self._phase = _Phase.IDLE
        self._request = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timed: tuple[_Phase, int] | None = None
        """What the timer is for: a phase of the n-th request."""
        self._patient = 0
        """The request whose handler watches over its body's time itself."""
        self._head = 0
        """Bytes of this request's URL and header fields, trailers included."""
        self._unseen = 0
        """Bytes fed since the parser last told us anything; it buffers fields until they end."""
        self._body = 0
        """Bytes of this request's body."""
        self._raw_body: RawBody | None = None
        """Given away, and not yet all taken."""
        self._refusal: SandboxdError | None = None
        self._stall: WriteStall | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._settings.max_connections * 5 // 4:
            transport.abort()  # the answer of `_overloaded` is for the first quarter beyond
            return
        self._stall = WriteStall(transport, self._settings.body_timeout)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        if self._stall is not None:
            self._stall.stop()
        if self._raw_body is not None:
            self._raw_body.cut()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unseen += len(data)
        if self._unseen > _MAX_HEAD + len(data):
            self._refuse(HeadTooLarge(f"a field has more than {_MAX_HEAD} bytes"))
            return
        super().data_received(data)
        self._watch()

    def handle_websocket_upgrade(self) -> None:
        self._unwatch()
        self._phase = _Phase.UPGRADED
        if self._stall is not None:
            self._stall.stop()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is not None:
            self._stall.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.stop()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or MalformedBody(msg))

    # Parser callbacks

    def on_message_begin(self) -> None:
        self._phase = _Phase.HEAD
        self._request += 1
        self._head = self._unseen = self._body = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._phase = _Phase.BODY
        self._unseen = 0
        if len(self.pipeline) >= _MAX_PIPELINE:
            self._stop_parsing(MalformedBody(f"more than {_MAX_PIPELINE} requests in a pipeline"))
        full = len(self.connections) > self._settings.max_connections
        self.app = cast(Any, _overloaded) if full else self.config.loaded_app
        super().on_headers_complete()
        self.scope["sandboxd.patient"] = partial(self._be_patient, self._request)  # type: ignore[typeddict-unknown-key]
        self.scope["sandboxd.raw_body"] = partial(self._give_body, self._request)  # type: ignore[typeddict-unknown-key]

    def on_body(self, body: bytes) -> None:
        self._unseen = 0
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = _Phase.IDLE
        self._unseen = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._raw_body is not None:
            self.transport.close()  # where the next request begins is not known
        super().on_response_complete()

    # Bodies that are not read here

    def _give_body(self, request: int) -> RawBody | None:
        """What is to come of the `request`-th's body, if its length is known. From now on its handler
        calls no `receive`."""
        length = dict(self.scope["headers"]).get(b"content-length")
        under_way = self._phase is _Phase.BODY and self._request == request
        if not under_way or length is None or self.transport.is_closing():
            return None
        self.flow.pause_reading()
        if self.cycle.waiting_for_100_continue:
            self.cycle.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        begun, self.cycle.body = bytes(self.cycle.body), bytearray()
        connection = self.transport.get_extra_info("socket").fileno()
        left = int(length) - self._body
        self._raw_body = RawBody(connection, begun, left, self._body_taken, self._body_lost)
        return self._raw_body

    def _body_taken(self) -> None:
        """Go on behind it. The parser still waits for what it has not seen: another takes its place."""
        self._raw_body = None
        if self.parser is not None:
            self.parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
            self._watch()

    def _body_lost(self) -> None:
        self.cycle.disconnected = True
        self.transport.abort()

    # Limits

    def _be_patient(self, request: int) -> None:
        """A handler that takes a body of any size bounds its pauses, not its length."""
        self._patient = request
        self._watch()

    def _count(self, size: int) -> None:
        self._unseen = 0
        self._head += size
        if self._head > _MAX_HEAD:
            self._stop_parsing(HeadTooLarge(f"the head has more than {_MAX_HEAD} bytes"))

    def _stop_parsing(self, refusal: SandboxdError) -> None:
        """httptools turns an exception of a callback into its own; ours is kept for the answer."""
        self._refusal = refusal
        raise ValueError

    def _watch(self) -> None:
        """Give the phase that the connection is now in its time; keep the timer if it runs."""
        resting = self._phase is _Phase.IDLE and self._is_busy()
        patient = self._phase is _Phase.BODY and self._patient == self._request
        if resting or patient or self._phase is _Phase.UPGRADED or self.transport.is_closing():
            self._unwatch()
            return
        timed = (self._phase, self._request)
        if self._timer is not None and self._timed == timed:
            return
        self._unwatch()
        self._timed = timed
        seconds = self._settings.header_timeout
        if self._phase is _Phase.BODY:
            seconds = self._settings.body_timeout + _BODY_GRACE
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _is_busy(self) -> bool:
        """An answer is being made, or uvicorn's own keep-alive timer runs."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return answering or self.timeout_keep_alive_task is not None

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self._phase is _Phase.HEAD and not self._is_busy():
            seconds = self._settings.header_timeout
            self._refuse(RequestTimeout(f"the head took more than {seconds:g} seconds"))
        else:
            self.transport.close()

    def _refuse(self, error: SandboxdError) -> None:
        """Answer before there is a request that the application could see, and close."""
        self._unwatch()
        if self.transport.is_closing():
            return
        body = problems.problem(error)
        content = problems.encode(body)
        head = [
            STATUS_LINE.get(body.status, b"HTTP/1.1 400 Bad Request\r\n"),
            b"content-type: " + problems.MEDIA_TYPE.encode() + b"\r\n",
            b"content-length: %d\r\n" % len(content),
            b"x-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*head, content]))
        self.transport.close()


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of connections beyond the limit."""
    response = problems.response(Unavailable("too many connections", retry_after=1.0))
    response.headers["connection"] = "close"
    response.headers["x-content-type-options"] = "nosniff"
    await response(scope, receive, send)
