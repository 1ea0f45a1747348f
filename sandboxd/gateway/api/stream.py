"""`WS /v1/runs/{id}/stream`: a run's stdin, stdout, stderr and exit, through its node's agent.

To and from the client, binary messages carry data behind one byte that says which stream: 0 stdin,
1 stdout, 2 stderr. Text messages are JSON: `{"type": "stdin_eof"}` from the client, and one last
`{"type": "exit", "result": …}` or `{"type": "error", "problem": …}` to it.

Each direction is one loop that reads a piece and then waits until it is written; what is in flight
is that piece and the sockets' own buffers, so either side's slowness is felt by the other.
"""

import asyncio
import base64
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from starlette.datastructures import Headers
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd.errors import (
    Conflict,
    DriverFault,
    Forbidden,
    InvalidRequest,
    NotFound,
    RequestTimeout,
    Unavailable,
)
from sandboxd.gateway.api.runs import owned_record
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone, unless
from sandboxd.model import Result, RunState
from sandboxd.model.frames import MAX_PAYLOAD, Decoder, FrameError, Hello, Kind, encode

STDIN, STDOUT, STDERR = 0, 1, 2
_TAGS = {Kind.STDOUT: bytes([STDOUT]), Kind.STDERR: bytes([STDERR])}
_encoder = msgspec.json.Encoder()


class _Control(Struct, forbid_unknown_fields=True, tag="stdin_eof"):
    """The one text message of a client."""


class _AgentError(Struct):
    code: str
    detail: str


class Streams:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def attach(self, socket: WebSocket) -> None:
        check_origin(socket.headers)
        record = await owned_record(self._gateway, socket)
        with self._gateway.slots.take():
            await socket.accept()
            stream = Stream(self._gateway, socket, record.id)
            try:
                async with asyncio.timeout(self._gateway.settings.gateway.total_timeout):
                    await self._gateway.unless_closing(stream.run())
            except TimeoutError:
                raise RequestTimeout("the stream was open for too long") from None
            except WebSocketDisconnect:
                raise ClientGone from None


def check_origin(headers: Headers) -> None:
    """A page of another site must not use its visitor's way to us. Raises Forbidden."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise Forbidden("the page that opens the stream comes from elsewhere", field="Origin")


class Stream:
    """One client attached to one run."""

    def __init__(self, gateway: Gateway, socket: WebSocket, run_id: str) -> None:
        self._gateway = gateway
        self._socket = socket
        self._run_id = run_id
        self._agent: asyncio.StreamWriter | None = None
        self._attached = asyncio.Event()
        self._relayed = False
        """The client has seen output of an attempt."""

    async def run(self) -> None:
        """Until the exit was sent. Raises ClientGone, and what makes an `error` message."""
        document = await unless(self._uplink(), ClientGone(), self._downlink())
        await self._socket.send_text('{"type":"exit","result":' + document.decode() + "}")
        await self._socket.close(1000)

    async def _uplink(self) -> None:
        """Client to node. One message at a time: the next is read when this one is written."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise ClientGone
            for frame in _frames(message):
                await self._attached.wait()
                agent = self._agent
                # Without an agent the run is over; its exit is on the way to the client.
                if agent is not None and not agent.is_closing():
                    try:
                        agent.write(frame)
                        await agent.drain()
                    except OSError:
                        self._agent = None

    async def _downlink(self) -> bytes:
        """Node to client. Returns the JSON of the result."""
        queue, after = self._gateway.queue, "0"
        while True:
            found = await queue.record(self._run_id)
            if found is None:
                raise NotFound("the run's result has expired")
            record = found[1]
            if record.result is not None:
                if not self._relayed:
                    await self._replay(record.result)
                return _encoder.encode(record.result)
            if record.state is RunState.STARTED:
                if self._relayed:
                    raise Unavailable("the node was lost; the run was started again")
                document = await self._relay(record.node)
                if document is not None:
                    return document
            batch = await queue.events(self._run_id, after, block=15.0)
            after = batch[-1].id if batch else after

    async def _relay(self, node: str | None) -> bytes | None:
        """Copy the agent's frames. Returns the result's JSON, or None if the agent has no such run.

        None also when the connection breaks: the queue will then say how the run ended.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(
                await self._address(node), limit=MAX_PAYLOAD
            )
        except OSError:
            return None
        try:
            writer.write(encode(Kind.HELLO, _encoder.encode(Hello(run=self._run_id))))
            self._agent = writer
            self._attached.set()
            decoder = Decoder()
            while data := await reader.read(MAX_PAYLOAD):
                for kind, payload in decoder.feed(data):
                    if kind is Kind.EXIT:
                        return payload
                    if kind is Kind.ERROR:
                        _check_refusal(payload)
                        return None
                    await self._send(_TAGS[kind], payload)
        except (FrameError, KeyError) as error:
            raise DriverFault("agent", "stream", str(error)) from error
        except ConnectionError:
            return None
        finally:
            self._agent = None
            writer.close()
        return None

    async def _address(self, node: str | None) -> str:
        """The path of that node's socket. Raises OSError if the node is gone."""
        for record in await self._gateway.queue.nodes():
            if record.id == node:
                scheme, _, path = record.address.partition(":")
                if scheme != "unix":
                    raise DriverFault("agent", "connect", f"unknown address {record.address}")
                return path
        raise ConnectionError(f"node {node} is not there")

    async def _replay(self, result: Result) -> None:
        for tag, text in ((STDOUT, result.stdout), (STDERR, result.stderr)):
            data = base64.b64decode(text) if result.encoding == "base64" else text.encode()
            for start in range(0, len(data), MAX_PAYLOAD):
                await self._send(bytes([tag]), data[start : start + MAX_PAYLOAD])

    async def _send(self, tag: bytes, payload: bytes) -> None:
        self._relayed = True
        await self._socket.send_bytes(tag + payload)


def _frames(message: Message) -> Iterator[bytes]:
    """The frames of one client message. Raises InvalidRequest."""
    data: bytes | None = message.get("bytes")
    if data is not None:
        if data[:1] != bytes([STDIN]):
            raise InvalidRequest("a binary message begins with 0, for stdin")
        for start in range(1, len(data), MAX_PAYLOAD):
            yield encode(Kind.STDIN, data[start : start + MAX_PAYLOAD])
        return
    try:
        msgspec.json.decode(message.get("text") or "", type=_Control)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"not a control message: {error}") from None
    yield encode(Kind.STDIN_EOF)


def _check_refusal(payload: bytes) -> None:
    """Raises what the agent's ERROR means, unless it only does not have the run (any more)."""
    error = msgspec.json.decode(payload, type=_AgentError)
    if error.code == NotFound.code:
        return
    if error.code == Conflict.code:
        raise Conflict(error.detail)
    raise DriverFault("agent", error.code, error.detail)
