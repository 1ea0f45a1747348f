"""go-judge's `/stream`: one request whose commands' streams the client is at the other end of.

From the client, by the first byte: 1 the request (first, and once), 2 a terminal's new size, 3 input
behind one byte of command and descriptor, 4 cancel. To it: 2 output behind such a byte, and last 1, the
response. An empty piece of input is its end, which go-judge has no word for.
"""

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd.errors import SandboxdError
from sandboxd.gateway.adapters.go_judge_terminal import Terminal
from sandboxd.gateway.adapters.go_judge_words import Asked, Bad
from sandboxd.gateway.adapters.go_judge_work import Work, Worker
from sandboxd.gateway.adapters.jobs import submit_run, submitted
from sandboxd.gateway.api.stream import STDERR, STDIN, STDOUT, Stream, check_origin
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import new_run_id
from sandboxd.gateway.waiting import ClientGone
from sandboxd.gateway.websocket import take_large_messages
from sandboxd.model import PartOutcome, Result
from sandboxd.model.session import PtySize

_REQUEST, _RESIZE, _INPUT, _CANCEL = 1, 2, 3, 4
_RESPONSE, _OUTPUT = 1, 2
_DESCRIPTORS = {STDOUT: 1, STDERR: 2}
_NORMAL, _REFUSED = 1000, 1003
_REASON_MAX = 120
"""Bytes of a closing reason: a control frame has room for 125 with its code."""
_STDIN_EOF = '{"type":"stdin_eof"}'
_result = msgspec.json.Decoder(Result)


class Resize(Struct, frozen=True):
    """go-judge's word; its pixels are nobody's business."""

    index: Annotated[int, Meta(ge=0)] = 0
    rows: Annotated[int, Meta(ge=1, le=1000)] = 24
    cols: Annotated[int, Meta(ge=1, le=1000)] = 80


_resize = msgspec.json.Decoder(Resize)


class LiveRequests:
    def __init__(self, gateway: Gateway, worker: Worker) -> None:
        self._gateway, self._worker = gateway, worker

    async def socket(self, socket: WebSocket) -> None:
        check_origin(socket.headers)
        with self._gateway.slots.take():
            await socket.accept()
            take_large_messages(socket)
            try:
                async with asyncio.timeout(self._gateway.settings.gateway.total_timeout):
                    response = await self._gateway.unless_closing(self._serve(socket))
                await socket.send_bytes(bytes([_RESPONSE]) + msgspec.json.encode(response))
                await socket.close(_NORMAL)
            except Bad as error:
                await socket.close(_REFUSED, str(error)[:_REASON_MAX])
            except (WebSocketDisconnect, TimeoutError):
                raise ClientGone from None

    async def _serve(self, socket: WebSocket) -> dict[str, Any]:
        tenant: str = socket.scope["tenant"]
        body = _first(await socket.receive())
        work = await self._worker.work(tenant, body, live=True)
        lines = [Line(socket, index, asked) for index, asked in enumerate(work.commands)]
        for line in lines:
            if line.asked.terminal:
                line.terminal = Terminal(self._gateway, tenant, line.asked)
        response: dict[str, Any] = {"requestId": str(body.get("requestId") or "")}
        try:
            with self._worker.metrics.of(tenant).running(len(lines)):
                await self._run(socket, tenant, work, lines)
        except SandboxdError as error:
            return {**response, "results": [], "error": error.detail}
        results = [
            await self._worker.answered(tenant, line.asked, line.result)
            for line in lines
            if line.result is not None
        ]
        return {**response, "results": results}

    async def _run(self, socket: WebSocket, tenant: str, work: Work, lines: list["Line"]) -> None:
        runs = [new_run_id() for _ in work.commands]
        try:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen(socket, lines, runs))
                streams = [
                    group.create_task(self._one(tenant, line, run_id))
                    for line, run_id in zip(lines, runs, strict=True)
                ]
                await asyncio.wait(streams)
                listening.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        except asyncio.CancelledError:
            await self._cancel(runs)
            raise

    async def _one(self, tenant: str, line: "Line", run_id: str) -> None:
        if line.terminal is not None:
            line.result = await line.terminal.run(line)
            return
        submission = submit_run(
            self._gateway, tenant, line.asked.request, run_id=run_id, exact_env=True
        )
        await submitted(self._gateway, run_id, submission)
        try:
            await Stream(self._gateway, line, run_id).run()  # type: ignore[arg-type]
        except BaseException:
            await self._gateway.queue.cancel(run_id)
            raise

    async def _listen(self, socket: WebSocket, lines: list["Line"], runs: list[str]) -> None:
        """What the client says while the commands run."""
        while True:
            kind, data = _said(await socket.receive())
            if kind == _CANCEL:
                await self._cancel(runs)
                for line in lines:
                    if line.terminal is not None:
                        await line.terminal.cancel()
            elif kind == _INPUT and data:
                index, descriptor = data[0] >> 4, data[0] & 15
                if index >= len(lines) or descriptor != 0 or not lines[index].asked.wiring.live_in:
                    raise Bad(f"input does not exist: {index} {descriptor}")
                await lines[index].take(data[1:])
            elif kind == _RESIZE:
                index, size = _resized(data)
                if index >= len(lines) or lines[index].terminal is None:
                    raise Bad("resize input does not have tty")
                await lines[index].take(size)
            else:
                raise Bad(f"invalid type code: {kind}")

    async def _cancel(self, runs: list[str]) -> None:
        for run_id in runs:
            await self._gateway.queue.cancel(run_id)


class Line:
    """One command's streams, where `Stream` expects a WebSocket of ours."""

    def __init__(self, socket: WebSocket, index: int, asked: Asked) -> None:
        self._socket, self._index = socket, index
        self.asked = asked
        self.terminal: Terminal | None = None
        self.result: Result | PartOutcome | None = None
        self._input: asyncio.Queue[bytes | PtySize] = asyncio.Queue(1)

    async def take(self, said: bytes | PtySize) -> None:
        """Input from the client; waits while the command has not read what came before."""
        await self._input.put(said)

    async def typed(self) -> bytes | PtySize:
        return await self._input.get()

    async def show(self, descriptor: int, data: bytes) -> None:
        if descriptor in self.asked.wiring.live_out:
            where = self._index << 4 | descriptor
            await self._socket.send_bytes(bytes([_OUTPUT, where]) + data)

    async def receive(self) -> Message:
        data = await self._input.get()
        if isinstance(data, bytes) and data:
            return {"type": "websocket.receive", "bytes": bytes([STDIN]) + data}
        return {"type": "websocket.receive", "text": _STDIN_EOF}

    async def send_bytes(self, data: bytes) -> None:
        await self.show(_DESCRIPTORS[data[0]], data[1:])

    async def send_text(self, text: str) -> None:
        """The last message: the run's result."""
        self.result = _result.decode(msgspec.json.encode(msgspec.json.decode(text)["result"]))

    async def close(self, code: int) -> None:
        """The connection serves the other commands still."""


def _first(message: Message) -> dict[str, Any]:
    """Raises Bad unless it is a request."""
    kind, data = _said(message)
    if kind != _REQUEST:
        raise Bad("the first stream request must be exec request")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise Bad("the request is not JSON")
    return found


def _resized(data: bytes) -> tuple[int, PtySize]:
    """Whose terminal, and its size. Raises Bad."""
    try:
        found = _resize.decode(data)
    except msgspec.DecodeError as error:
        raise Bad(f"resize: {error}") from None
    return found.index, PtySize(found.rows, found.cols)


def _said(message: Message) -> tuple[int, bytes]:
    """Kind and content. Raises WebSocketDisconnect, and Bad for what is no message of the protocol."""
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    data: bytes = message.get("bytes") or b""
    if not data:
        raise Bad("an empty or textual message")
    return data[0], data[1:]
