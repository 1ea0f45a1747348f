"""WebSockets of a sandbox: a command that is started and followed, and one that is attached to.

`WS /v1/sandboxes/{id}/exec`: the client's first message is the JSON of `CommandRequest`.
`WS /v1/sandboxes/{id}/processes/{process}/stream`: the kept output first, unless `history=false`.

Binary messages carry data behind one byte that says which stream: 0 stdin, 1 stdout, 2 stderr. Text is
JSON. To the client: `started`, `missed`, `keep_alive`, and one last `exit` or `error`; from it:
`stdin_eof`, `resize` (rows, cols), `signal`. A process outlives the connection, unless `exec` was opened
with `on_disconnect=kill`.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd.errors import InvalidRequest, RequestTimeout
from sandboxd.gateway.api.sandbox_processes import command
from sandboxd.gateway.api.sandbox_requests import Bodies, flag, known_query, process_of, who
from sandboxd.gateway.api.stream import STDERR, STDIN, STDOUT, check_origin
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.following import Item, Output, followed
from sandboxd.gateway.sessions.line import Line
from sandboxd.gateway.sessions.names import new_process_id
from sandboxd.gateway.waiting import ClientGone, unless
from sandboxd.model import agent
from sandboxd.model.agent import Kind, frame, message
from sandboxd.model.session import Process, PtySize
from sandboxd.model.session_api import CommandRequest

_KEEP_ALIVE = 30.0
_TAGS = {"stdout": bytes([STDOUT]), "stderr": bytes([STDERR])}
_ALIVE = '{"type":"keep_alive"}'
_encode = msgspec.json.Encoder().encode


class _Eof(Struct, forbid_unknown_fields=True, tag="stdin_eof"):
    pass


class _Resize(Struct, forbid_unknown_fields=True, tag="resize"):
    rows: int
    cols: int


class _Signal(Struct, forbid_unknown_fields=True, tag="signal"):
    signal: int | str


_control = msgspec.json.Decoder(_Eof | _Resize | _Signal)


class Sockets:
    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway, self._bodies = gateway, bodies
        self._sandboxes = gateway.sandboxes

    async def execute(self, socket: WebSocket) -> None:
        tenant, sandbox = await self._admitted(socket)
        known_query(socket.query_params, "on_disconnect")
        fate = socket.query_params.get("on_disconnect", "keep")
        if fate not in ("keep", "kill"):
            raise InvalidRequest("is keep or kill", field="on_disconnect")
        with self._gateway.slots.take():
            await socket.accept()
            wanted = await self._first_message(socket)
            process, data = command(wanted)
            if data:
                process = replace(process, stdin=True)
            call = agent.Exec(
                tenant=tenant, sandbox=sandbox, id=new_process_id(), process=process,
                on_disconnect="kill" if fate == "kill" else "keep",
            )  # fmt: skip
            stream = _Stream(socket, data, eof=not wanted.stdin)
            await self._serve(stream, call)

    async def attach(self, socket: WebSocket) -> None:
        tenant, sandbox = await self._admitted(socket)
        known_query(socket.query_params, "history")
        call = agent.Attach(
            tenant=tenant, sandbox=sandbox, process=process_of(socket),
            history=flag(socket.query_params, "history", True),
        )  # fmt: skip
        # A process that is not there refuses the handshake, not the stream.
        inspect = agent.Inspect(tenant=tenant, sandbox=sandbox, process=call.process)
        await self._sandboxes.ask(inspect, Process)
        with self._gateway.slots.take():
            await socket.accept()
            await self._serve(_Stream(socket, b"", eof=False), call)

    async def _admitted(self, socket: WebSocket) -> tuple[str, str]:
        """Raises NotFound, SandboxEnded, Forbidden."""
        tenant, sandbox = who(socket)
        await self._sandboxes.live(tenant, sandbox)
        check_origin(socket.headers)
        return tenant, sandbox

    async def _first_message(self, socket: WebSocket) -> CommandRequest:
        try:
            async with asyncio.timeout(self._gateway.settings.gateway.body_timeout):
                received = await socket.receive()
        except TimeoutError:
            raise RequestTimeout("the command did not come") from None
        if received["type"] == "websocket.disconnect":
            raise ClientGone
        return self._bodies.parse((received.get("text") or "").encode(), CommandRequest)

    async def _serve(self, stream: "_Stream", call: agent.Exec | agent.Attach) -> None:
        try:
            async with followed(self._sandboxes, call) as (line, items):
                await self._gateway.unless_closing(stream.run(line, items))
        except WebSocketDisconnect:
            raise ClientGone from None


class _Stream:
    """One client on one process."""

    def __init__(self, socket: WebSocket, data: bytes, *, eof: bool) -> None:
        """`data` goes to stdin before all else, and its end if `eof`."""
        self._socket, self._data, self._eof = socket, data, eof
        self._spoke = True

    async def run(self, line: Line, items: AsyncIterator[Item]) -> None:
        """Until the exit was sent. Raises ClientGone, and what makes an `error` message."""
        alive = asyncio.create_task(self._keep_alive())
        try:
            await unless(self._uplink(line), ClientGone(), self._downlink(items))
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
        await self._socket.close(1000)

    async def _downlink(self, items: AsyncIterator[Item]) -> None:
        async for item in items:
            self._spoke = True
            if isinstance(item, Output):
                await self._socket.send_bytes(_TAGS[item.stream] + item.data)
            else:
                await self._socket.send_text(_encode(item).decode())

    async def _uplink(self, line: Line) -> None:
        """One message at a time: the next is read when this one is on its way."""
        if self._data:
            await line.write_data(self._data)
            if self._eof:
                await line.write(frame(Kind.END))
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                raise ClientGone
            data: bytes | None = received.get("bytes")
            if data is None:
                await line.write(_told(received.get("text") or ""))
            elif data[:1] != bytes([STDIN]):
                raise InvalidRequest("a binary message begins with 0, for stdin")
            elif len(data) > 1:
                await line.write_data(data[1:])

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_ALIVE)
            if not self._spoke:
                await self._socket.send_text(_ALIVE)
            self._spoke = False


def _told(text: str) -> bytes:
    """The frame of a control message. Raises InvalidRequest."""
    try:
        control = _control.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"not a control message: {error}") from None
    if isinstance(control, _Eof):
        return frame(Kind.END)
    if isinstance(control, _Resize):
        if not (1 <= control.rows <= 1000 and 1 <= control.cols <= 1000):
            raise InvalidRequest("rows and cols are from 1 to 1000", field="rows")
        return message(Kind.RESIZE, PtySize(control.rows, control.cols))
    number = admission.signal_number(control.signal)
    if not 1 <= number <= 64:
        raise InvalidRequest("a signal is from 1 to 64", field="signal")
    return message(Kind.SIGNAL, number)
