"""go-judge's `/ws`: requests by their ids, several at once, each answered when it ends."""

import asyncio
from functools import partial
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd.errors import SandboxdError
from sandboxd.gateway.adapters import go_judge_words as words
from sandboxd.gateway.adapters.go_judge_work import Worker
from sandboxd.gateway.api.stream import check_origin
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone
from sandboxd.gateway.websocket import take_large_messages

_REQUESTS = 64
"""Of one connection at once."""


class Requests:
    def __init__(self, gateway: Gateway, worker: Worker) -> None:
        self._gateway, self._worker = gateway, worker

    async def socket(self, socket: WebSocket) -> None:
        check_origin(socket.headers)
        with self._gateway.slots.take():
            await socket.accept()
            take_large_messages(socket)
            try:
                async with asyncio.timeout(self._gateway.settings.gateway.total_timeout):
                    await self._gateway.unless_closing(self._converse(socket))
            except (WebSocketDisconnect, TimeoutError):
                raise ClientGone from None

    async def _converse(self, socket: WebSocket) -> None:
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                body = words.message(await socket.receive_text())
                cancelled, request_id = body.get("cancelRequestId"), body.get("requestId")
                if cancelled is not None:
                    await _cancel(socket, running, cancelled)
                    continue
                error = _refusal(request_id, running)
                if error:
                    await _say(socket, _response(str(request_id or ""), error=error))
                    continue
                assert isinstance(request_id, str)
                task = asyncio.create_task(self._serve(socket, request_id, body))
                running[request_id] = task
                task.add_done_callback(partial(_forget, running, request_id))
        finally:
            for task in list(running.values()):
                task.cancel()

    async def _serve(self, socket: WebSocket, request_id: str, body: dict[str, Any]) -> None:
        tenant = socket.scope["tenant"]
        try:
            results = await self._worker.do(tenant, await self._worker.work(tenant, body))
            answer = _response(request_id, results)
        except (words.Bad, SandboxdError) as error:
            answer = _response(request_id, error=str(error))
        await _say(socket, answer)


def _refusal(request_id: object, running: dict[str, asyncio.Task[None]]) -> str:
    if not isinstance(request_id, str) or not request_id:
        return "empty request id"
    if request_id in running:
        return "duplicated request id"
    return "worker queue is full" if len(running) >= _REQUESTS else ""


def _response(
    request_id: str, results: list[dict[str, Any]] | None = None, error: str = ""
) -> dict[str, Any]:
    answer: dict[str, Any] = {"requestId": request_id, "results": results or []}
    return {**answer, "error": error} if error else answer


async def _cancel(
    socket: WebSocket, running: dict[str, asyncio.Task[None]], request_id: object
) -> None:
    task = running.pop(request_id, None) if isinstance(request_id, str) else None
    if task is not None and task.cancel():
        await _say(socket, _response(str(request_id), error="cancelled"))


def _forget(running: dict[str, asyncio.Task[None]], name: str, task: asyncio.Task[None]) -> None:
    if running.get(name) is task:
        del running[name]
    if not task.cancelled():
        task.exception()  # the client has left, which the connection's own task finds out


async def _say(socket: WebSocket, body: dict[str, Any]) -> None:
    await socket.send_text(msgspec.json.encode(body).decode())
