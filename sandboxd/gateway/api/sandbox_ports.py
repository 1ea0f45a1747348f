"""`/v1/sandboxes/{id}/ports/{port}`: servers in a sandbox, on its own loopback, whatever network it has.

GET says whether somebody listens, with `wait=SECONDS` as soon as somebody does. POST makes a link for
those who have no key. The WebSocket is a TCP connection: binary messages are its bytes, the text
`{"type": "eof"}` closes a direction. HTTP to a server inside is below it, see `sandbox_pages`.
"""

import time

import msgspec
from msgspec import Struct
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd.errors import DriverFault, InvalidRequest, NotFound
from sandboxd.gateway.api.sandbox_requests import Bodies, answer, known_query, number, who
from sandboxd.gateway.api.stream import check_origin
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import names, tokens
from sandboxd.gateway.forwarding.names import Place
from sandboxd.gateway.forwarding.tokens import SHARED, Grant
from sandboxd.gateway.sessions.line import Line
from sandboxd.gateway.sessions.sandboxes import PATIENCE
from sandboxd.gateway.waiting import ClientGone, disconnected, unless
from sandboxd.model import agent
from sandboxd.model.agent import Kind, frame
from sandboxd.model.moment import rfc3339
from sandboxd.model.session_api import LinkRequest, PortLink

_AT_ONCE = 0.05
"""Seconds for a look that waits for nobody."""
_EOF = '{"type":"eof"}'


class _Eof(Struct, forbid_unknown_fields=True, tag="eof"):
    """The one text message there is."""


class Ports:
    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway, self._bodies = gateway, bodies
        self._sandboxes = gateway.sandboxes
        self._site = names.site(gateway.settings.gateway.ports_url)

    async def one(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._link(request)
        tenant, sandbox = who(request)
        port = port_of(request)
        known_query(request.query_params, "wait")
        wait = float(number(request.query_params, "wait", 0, 0, 3600) or _AT_ONCE)
        call = agent.WaitForPort(tenant=tenant, sandbox=sandbox, port=port, timeout=wait)
        with self._gateway.slots.take():
            work = self._sandboxes.ask(call, agent.PortState, wait + PATIENCE)
            state = await unless(
                disconnected(request.receive), ClientGone(), self._gateway.unless_closing(work)
            )
        return answer(state)

    async def _link(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        place = Place(sandbox, port_of(request))
        wanted = await self._bodies.small(request, LinkRequest)
        await self._sandboxes.live(tenant, sandbox)
        expires = time.time() + wanted.expires_in
        grant = Grant(tenant, sandbox, place.port, expires)
        token = tokens.seal(await self._sandboxes.secret.get(), grant)
        url = f"{SHARED}{token}/"
        if self._site is not None:
            url = f"{self._site.origin(place)}/?{tokens.QUERY}={token}"
        return answer(PortLink(url=url, token=token, expires_at=rfc3339(expires)), 201)

    async def connect(self, socket: WebSocket) -> None:
        """A port where nobody listens refuses the handshake (`port_closed`)."""
        tenant, sandbox = who(socket)
        await self._sandboxes.live(tenant, sandbox)
        check_origin(socket.headers)
        call = agent.Connect(tenant=tenant, sandbox=sandbox, port=port_of(socket))
        known_query(socket.query_params)
        with self._gateway.slots.take():
            async with self._sandboxes.open(call) as (line, first):
                if first[0] is not Kind.EVENT:
                    raise DriverFault(
                        "agent", "connect", f"{first[0].name} where EVENT was to come"
                    )
                await socket.accept()
                try:
                    work = unless(_uplink(socket, line), ClientGone(), _downlink(socket, line))
                    await self._gateway.unless_closing(work)
                    await socket.close(1000)
                except WebSocketDisconnect:
                    raise ClientGone from None


async def _downlink(socket: WebSocket, line: Line) -> None:
    while True:
        kind, payload = await line.next()
        if kind is Kind.REPLY:
            await socket.send_text(_EOF)
            return
        if kind is Kind.DATA and payload:
            await socket.send_bytes(payload)


async def _uplink(socket: WebSocket, line: Line) -> None:
    while True:
        received = await socket.receive()
        if received["type"] == "websocket.disconnect":
            raise ClientGone
        data: bytes | None = received.get("bytes")
        if data is None:
            try:
                msgspec.json.decode(received.get("text") or "", type=_Eof)
            except msgspec.DecodeError as error:
                raise InvalidRequest(f"not a control message: {error}") from None
            await line.write(frame(Kind.END))
        elif data:
            await line.write_data(data)


def port_of(connection: HTTPConnection) -> int:
    """The port in the path. Raises NotFound for what is none."""
    port: int = connection.path_params["port"]
    if not 1 <= port <= 65_535:
        raise NotFound("there is no such port")
    return port
