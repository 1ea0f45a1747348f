"""`WS /api/v2/connect` of Piston: one program, its streams as messages while it runs.

The run is an interactive one, followed like any other; this only speaks Piston's words to the client.
What a compiler said is known when the run has ended, so it comes then.
"""

import asyncio
import codecs
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd import __version__
from sandboxd.errors import InvalidRequest, SandboxdError
from sandboxd.gateway.adapters.jobs import stream, submit_run, submitted
from sandboxd.gateway.api.stream import STDERR, STDIN, STDOUT, Stream, check_origin
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import new_run_id
from sandboxd.gateway.waiting import ClientGone
from sandboxd.gateway.websocket import take_large_messages
from sandboxd.model import Outcome, Result, RunRequest, Status

_INIT_WITHIN = 1.0
_INITIALISED, _INIT_TIMEOUT, _NOTIFIED, _NOT_INITIALISED = 4000, 4001, 4002, 4003
_ONLY_STDIN, _INVALID_SIGNAL, _COMPLETED = 4004, 4005, 4999
_SIGNALS = ("SIGTERM", "SIGKILL", "SIGINT", "SIGHUP", "SIGQUIT")
"""Each of them ends the run; signals that a program would handle are not delivered to it."""
_names = {STDOUT: "stdout", STDERR: "stderr"}
_result = msgspec.json.Decoder(Result)


class Ended(Exception):
    """The connection is closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class PistonSocket:
    def __init__(self, gateway: Gateway, request: Callable[[object], RunRequest]) -> None:
        """`request` makes a run of a body, or raises an error whose text the client is told."""
        self._gateway, self._request = gateway, request

    async def connect(self, socket: WebSocket) -> None:
        check_origin(socket.headers)
        with self._gateway.slots.take():
            await socket.accept()
            take_large_messages(socket)
            try:
                async with asyncio.timeout(self._gateway.settings.gateway.total_timeout):
                    await self._gateway.unless_closing(self._serve(socket))
            except Ended as end:
                await socket.close(end.code, end.reason)
            except WebSocketDisconnect:
                raise ClientGone from None

    async def _serve(self, socket: WebSocket) -> None:
        try:
            async with asyncio.timeout(_INIT_WITHIN):
                first = _message(await socket.receive())
        except TimeoutError:
            raise Ended(_INIT_TIMEOUT, "Initialization Timeout") from None
        if first.get("type") != "init":
            raise Ended(_NOT_INITIALISED, "Not yet initialized")
        try:
            asked = replace(self._request(first), stdin="", interactive=True)
            run_id = new_run_id()
            submission = submit_run(self._gateway, socket.scope["tenant"], asked, run_id=run_id)
            await submitted(self._gateway, run_id, submission)
        except (SandboxdError, ValueError) as error:
            await _send(socket, {"type": "error", "message": str(error)})
            raise Ended(_NOTIFIED, "Notified Error") from None
        language = self._gateway.policies.language(asked.language or "")
        compiles = language is not None and language.compile is not None
        spoken = _Spoken(socket, self._gateway, run_id)
        about = {"type": "runtime", "language": asked.language, "version": __version__}
        try:
            await _send(socket, about)
            await spoken.stage("compile" if compiles else "run")
            await Stream(self._gateway, spoken, run_id).run()  # type: ignore[arg-type]
        except BaseException:
            await self._gateway.queue.cancel(run_id)
            raise


class _Spoken:
    """A WebSocket of ours, in Piston's words."""

    def __init__(self, socket: WebSocket, gateway: Gateway, run_id: str) -> None:
        self._socket, self._gateway, self._run_id = socket, gateway, run_id
        self._stage = ""
        self._decoders = {tag: codecs.getincrementaldecoder("utf-8")("replace") for tag in _names}

    async def stage(self, name: str) -> None:
        if name != self._stage:
            if self._stage == "compile":
                exited = {"type": "exit", "stage": "compile", "code": 0, "signal": None}
                await _send(self._socket, exited)
            self._stage = name
            await _send(self._socket, {"type": "stage", "stage": name})

    async def receive(self) -> Message:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return message
            said = _message(message)
            match said.get("type"):
                case "init":
                    raise Ended(_INITIALISED, "Already Initialized")
                case "data":
                    if said.get("stream") != "stdin":
                        raise Ended(_ONLY_STDIN, "Can only write to stdin")
                    data = bytes([STDIN]) + str(said.get("data", "")).encode(errors="replace")
                    return {"type": "websocket.receive", "bytes": data}
                case "signal":
                    if said.get("signal") not in _SIGNALS:
                        raise Ended(_INVALID_SIGNAL, "Invalid signal")
                    await self._gateway.queue.cancel(self._run_id)
                case _:
                    raise InvalidRequest("unknown type of message")

    async def send_bytes(self, data: bytes) -> None:
        await self.stage("run")
        text = self._decoders[data[0]].decode(data[1:])
        if text:
            body = {"type": "data", "stream": _names[data[0]], "data": text}
            await _send(self._socket, body)

    async def send_text(self, text: str) -> None:
        """The last message: the run's result."""
        result = _result.decode(msgspec.json.encode(msgspec.json.decode(text)["result"]))
        failed = result.compile
        if failed is not None and failed.status is not Status.OK:
            for name in ("stdout", "stderr"):
                said = stream(failed, name).decode(errors="replace")
                if said:
                    body = {"type": "data", "stream": name, "data": said}
                    await _send(self._socket, body)
            await _send(self._socket, _exit("compile", failed))
            return
        await self.stage("run")
        await _send(self._socket, _exit("run", result))

    async def close(self, code: int) -> None:
        await self._socket.close(_COMPLETED, "Job Completed")


def _exit(stage: str, of: Result | Outcome) -> dict[str, Any]:
    return {"type": "exit", "stage": stage, "code": of.exit_code, "signal": of.signal}


def _message(message: Message) -> dict[str, Any]:
    """Raises WebSocketDisconnect, and Ended for what is not a JSON object."""
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    try:
        found = msgspec.json.decode(message.get("text") or message.get("bytes") or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise Ended(_NOTIFIED, "Notified Error")
    return found


async def _send(socket: WebSocket, body: dict[str, Any]) -> None:
    await socket.send_text(msgspec.json.encode(body).decode())
