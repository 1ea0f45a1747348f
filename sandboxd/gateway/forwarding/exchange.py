"""One HTTP request and its answer, streamed both ways at once.

Neither is ever held as a whole: what one side does not take, the other feels. A body may pause for
`gateway.body_timeout`; an answer begins within `gateway.total_timeout` and then takes its time.
"""

import asyncio

import h11
from starlette.types import Receive, Scope, Send

from sandboxd.errors import InvalidRequest, RequestTimeout, SandboxdError
from sandboxd.gateway import problems
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import headers
from sandboxd.gateway.forwarding.errors import BadAnswer, NoAnswer
from sandboxd.gateway.forwarding.headers import Target
from sandboxd.gateway.forwarding.upstream import Upstream, connected
from sandboxd.gateway.waiting import ClientGone, unless

_HEAD_MAX = 1 << 16
_STATUS = range(200, 600)


async def forward(
    gateway: Gateway, target: Target, scope: Scope, receive: Receive, send: Send
) -> None:
    """Raises SandboxdError before an answer was begun, ClientGone after that, where it could not be
    ended."""
    async with connected(gateway, target) as upstream:
        exchange = _Exchange(gateway, target, upstream, scope)
        await exchange.run(receive, send)


class _Exchange:
    def __init__(self, gateway: Gateway, target: Target, upstream: Upstream, scope: Scope) -> None:
        self._gateway, self._settings = gateway, gateway.settings.gateway
        self._target, self._upstream, self._scope = target, upstream, scope
        self._wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_MAX)
        self._whole = False
        """All of the request's body has come."""
        self._begun = False
        """The client has the head of an answer."""

    async def run(self, receive: Receive, send: Send) -> None:
        try:
            await self._upstream.send(self._head())
            work = unless(self._up(receive), ClientGone(), self._down(send))
            await self._gateway.unless_closing(work)
        except SandboxdError as error:
            if self._begun:
                raise ClientGone from None  # an answer that breaks off says so
            if self._whole:
                raise
            # The rest of the body is not wanted; it goes with the connection.
            response = problems.response(error)
            response.headers["connection"] = "close"
            await response(self._scope, receive, send)

    def _head(self) -> bytes:
        """Raises InvalidRequest."""
        given = self._scope["headers"]
        chunked = any(name == b"transfer-encoding" for name, _ in given)
        fields = headers.request(given, self._target, chunked=chunked)
        framing = [(b"Transfer-Encoding", b"chunked")] if chunked else []
        try:
            request = h11.Request(
                method=self._scope["method"],
                target=self._target.path,
                headers=[*fields, *framing, (b"Connection", b"close")],
            )
            return self._wire.send(request) or b""
        except h11.LocalProtocolError as error:
            raise InvalidRequest(f"the request cannot be passed on: {error}") from None

    async def _up(self, receive: Receive) -> None:
        """The body, then the client's end. Raises ClientGone, RequestTimeout, NodeLost."""
        patient = self._scope.get("sandboxd.patient")
        if patient is not None:
            patient()  # from here on the time is ours to watch
        loop, stall = asyncio.get_running_loop(), self._settings.body_timeout
        try:
            async with asyncio.timeout(stall) as clock:
                while not self._whole:
                    received = await receive()
                    if received["type"] == "http.disconnect":
                        raise ClientGone
                    clock.reschedule(None)
                    await self._send_body(received.get("body", b""))
                    if not received.get("more_body", False):
                        self._whole = True
                        await self._upstream.send(self._wire.send(h11.EndOfMessage()) or b"")
                    clock.reschedule(loop.time() + stall)
                clock.reschedule(None)
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            raise RequestTimeout(f"nothing of the body came for {stall:g} seconds") from None

    async def _send_body(self, data: bytes) -> None:
        if data:
            await self._upstream.send(self._wire.send(h11.Data(data=data)) or b"")

    async def _down(self, send: Send) -> None:
        """Raises BadAnswer, NoAnswer, NodeLost."""
        wait = self._settings.total_timeout
        try:
            async with asyncio.timeout(wait):
                response = await self._next()
                while isinstance(response, h11.InformationalResponse):
                    response = await self._next()
        except TimeoutError:
            raise NoAnswer(f"no answer began in {wait:g} seconds") from None
        if not isinstance(response, h11.Response) or response.status_code not in _STATUS:
            raise BadAnswer("the server inside closed the connection, or began no answer")
        await self._begin(response, send)
        while isinstance(event := await self._next(), h11.Data):
            await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
        if not isinstance(event, h11.EndOfMessage):
            raise BadAnswer("the server inside closed the connection in the middle of its answer")
        await send({"type": "http.response.body", "body": b""})

    async def _begin(self, response: h11.Response, send: Send) -> None:
        status = response.status_code
        fields = headers.response(response.headers, status, own_origin=self._target.own_origin)
        if not self._whole:
            fields.append((b"connection", b"close"))  # the rest of the body is for nobody
        self._begun = True
        await send({"type": "http.response.start", "status": status, "headers": fields})

    async def _next(self) -> object:
        """An event of h11."""
        try:
            while (event := self._wire.next_event()) is h11.NEED_DATA:
                self._wire.receive_data(await self._upstream.receive())
        except h11.RemoteProtocolError as error:
            raise BadAnswer(str(error)) from None
        return event
