"""One WebSocket: a handshake with the server inside, then messages both ways.

Both ends are spoken to by a library, so what one of them sends wrongly never reaches the other. Messages
have at most 1 MiB; pings are answered on either side, compression is not offered.
"""

import asyncio
import contextlib
import logging
from collections import deque
from http import HTTPStatus

from starlette.responses import Response as Refusal
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import headers
from sandboxd.gateway.forwarding.errors import BadAnswer, NoAnswer
from sandboxd.gateway.forwarding.headers import Target
from sandboxd.gateway.forwarding.upstream import Upstream, connected
from sandboxd.gateway.waiting import ClientGone, unless
from sandboxd.gateway.websocket import take_large_messages

_MESSAGE_MAX = 1 << 20
_FRAGMENTS_MAX = 1024
_CLOSE = 5.0
"""Seconds for the server inside to answer a close."""
_NONE = CloseCode.NO_STATUS_RCVD
_OF_MESSAGES = (Opcode.CONT, Opcode.TEXT, Opcode.BINARY)
_STATUS = frozenset(HTTPStatus) - set(range(200))
_quiet = logging.getLogger(f"{__name__}.protocol")
_quiet.setLevel(logging.CRITICAL)
"""What it would tell is written by strangers."""


async def forward(
    gateway: Gateway, target: Target, scope: Scope, receive: Receive, send: Send
) -> None:
    """Raises SandboxdError before the client's handshake was answered, ClientGone when it goes."""
    async with connected(gateway, target) as upstream:
        socket = WebSocket(scope, receive, send)
        relay = _Relay(upstream, target, scope["subprotocols"])
        wait = gateway.settings.gateway.body_timeout
        try:
            async with asyncio.timeout(wait):
                answer = await relay.shake_hands(socket.headers.raw)
        except TimeoutError:
            raise NoAnswer(f"no handshake in {wait:g} seconds") from None
        if not relay.agreed:
            await _refuse(answer, target, scope, receive, send)
            return
        fields = headers.response(_raw(answer), answer.status_code, own_origin=target.own_origin)
        await socket.accept(relay.subprotocol, fields)
        take_large_messages(socket)
        work = unless(relay.up(socket), ClientGone(), relay.down(socket))
        try:
            await gateway.unless_closing(work)
        except WebSocketDisconnect:
            raise ClientGone from None


class _Relay:
    def __init__(self, upstream: Upstream, target: Target, subprotocols: list[str]) -> None:
        self._upstream, self._target = upstream, target
        path, _, query = target.path.decode("ascii").partition("?")
        self._wire = ClientProtocol(
            WebSocketURI(False, "localhost", target.place.port, path, query),
            subprotocols=[Subprotocol(each) for each in subprotocols] or None,
            max_size=_MESSAGE_MAX,
            logger=_quiet,
        )
        self._events: deque[Event] = deque()
        self._parts: list[bytes] = []
        self._text = False
        self._ended = False
        """The server inside has closed its connection."""
        self._over = asyncio.Event()

    @property
    def agreed(self) -> bool:
        """The handshake was good, whatever has become of it since."""
        return self._wire.handshake_exc is None

    @property
    def open(self) -> bool:
        return self._wire.state is State.OPEN

    @property
    def subprotocol(self) -> str | None:
        return self._wire.subprotocol

    async def shake_hands(self, given: headers.Fields) -> Response:
        """The server's answer, whether or not it agrees. Raises BadAnswer, InvalidRequest, NodeLost."""
        request = self._wire.connect()
        del request.headers["Host"]
        for name, value in headers.request(given, self._target, chunked=True):
            request.headers[name.decode("latin-1")] = value.decode("latin-1")
        self._wire.send_request(request)
        await self._flush()
        while not self._events:
            if self._wire.handshake_exc is not None or self._ended:
                raise BadAnswer("the server inside answered with no WebSocket handshake")
            await self._feed()
        answer = self._events.popleft()
        assert isinstance(answer, Response)  # it comes before all frames
        return answer

    async def up(self, socket: WebSocket) -> None:
        """Client to server. Raises ClientGone once the server has heard that it went."""
        while True:
            received = await socket.receive()
            if received["type"] == "websocket.disconnect":
                await self._close(received.get("code", _NONE), received.get("reason") or "")
                raise ClientGone
            if not self.open:
                continue  # the server closed: what it said is on the way to the client
            data: bytes | None = received.get("bytes")
            if data is not None:
                self._wire.send_binary(data)
            else:
                self._wire.send_text((received.get("text") or "").encode())
            await self._flush()

    async def down(self, socket: WebSocket) -> None:
        """Server to client, until it has closed; the client is then closed in the same way."""
        try:
            while True:
                while self._events:
                    await self._deliver(socket, self._events.popleft())
                if self._ended or not self.open:
                    break
                await self._feed()
        finally:
            self._over.set()
        await socket.close(*self._verdict())

    async def _deliver(self, socket: WebSocket, event: Event) -> None:
        if not isinstance(event, Frame) or event.opcode not in _OF_MESSAGES:
            return  # pings are answered by the library
        if event.opcode is not Opcode.CONT:
            self._text = event.opcode is Opcode.TEXT
        self._parts.append(bytes(event.data))
        if len(self._parts) > _FRAGMENTS_MAX:
            self._wire.fail(CloseCode.POLICY_VIOLATION, "too many fragments")
            self._parts.clear()
            await self._flush()
        elif event.fin:
            whole = b"".join(self._parts)
            self._parts.clear()
            if not self._text:
                await socket.send_bytes(whole)
            elif (text := _decoded(whole)) is not None:
                await socket.send_text(text)
            else:
                self._wire.fail(CloseCode.INVALID_DATA, "not UTF-8")
                await self._flush()

    def _verdict(self) -> tuple[int, str]:
        """Code and reason for the client."""
        told = self._wire.close_rcvd or self._wire.close_sent
        if told is None:
            return CloseCode.BAD_GATEWAY, ""
        if told.code in (_NONE, CloseCode.ABNORMAL_CLOSURE):
            return CloseCode.NORMAL_CLOSURE, ""
        return told.code, told.reason

    async def _close(self, code: int, reason: str) -> None:
        if not self.open:
            return
        try:
            if code in (_NONE, CloseCode.ABNORMAL_CLOSURE):
                self._wire.send_close()
            else:
                self._wire.send_close(code, reason)
        except ProtocolError:
            self._wire.send_close(CloseCode.GOING_AWAY)
        await self._flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE):
                await self._over.wait()

    async def _feed(self) -> None:
        data = await self._upstream.receive()
        if data:
            self._wire.receive_data(data)
        else:
            self._ended = True
            self._wire.receive_eof()
        self._events.extend(self._wire.events_received())
        await self._flush()

    async def _flush(self) -> None:
        await self._upstream.send(b"".join(self._wire.data_to_send()))


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


async def _refuse(
    answer: Response, target: Target, scope: Scope, receive: Receive, send: Send
) -> None:
    """The server's own refusal, as the client's."""
    if answer.status_code not in _STATUS:
        raise BadAnswer(f"the server inside answered the handshake with {answer.status_code}")
    fields = headers.response(_raw(answer), answer.status_code, own_origin=target.own_origin)
    response = Refusal(bytes(answer.body or b""), answer.status_code)
    response.raw_headers = [
        *((name, value) for name, value in fields if name != b"content-length"),
        (b"content-length", b"%d" % len(response.body)),
        (b"x-content-type-options", b"nosniff"),
    ]
    await response(scope, receive, send)


def _raw(answer: Response) -> headers.Fields:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers.raw_items()
    ]
