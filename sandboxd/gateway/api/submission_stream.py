"""`WS /v1/submissions/{id}/stream`: the events of a submission, each a JSON text message.

The last is `{"type": "result", "result": …}`; then the service closes.
"""

import asyncio

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd.errors import NotFound, RequestTimeout
from sandboxd.gateway.api.stream import check_origin
from sandboxd.gateway.api.submissions import owned_submission
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone, unless
from sandboxd.judge.answers import judged

_LOOK = 15.0


class SubmissionStream:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def follow(self, socket: WebSocket) -> None:
        check_origin(socket.headers)
        record = await owned_submission(self._gateway, socket)
        with self._gateway.slots.take():
            await socket.accept()
            try:
                async with asyncio.timeout(self._gateway.settings.gateway.total_timeout):
                    sending = self._send(socket, record.id)
                    await self._gateway.unless_closing(unless(_gone(socket), ClientGone(), sending))
            except TimeoutError:
                raise RequestTimeout("the stream was open for too long") from None
            except WebSocketDisconnect:
                raise ClientGone from None

    async def _send(self, socket: WebSocket, submission_id: str) -> None:
        queue, after = self._gateway.queue, "0"
        while True:
            events = await queue.events(submission_id, after, block=_LOOK)
            for event in events:
                await socket.send_text(msgspec.json.encode(event).decode())
                after = event.id
            found = await queue.record(submission_id)
            if found is None:
                raise NotFound("the submission's result has expired")
            if found[1].result is not None:
                for event in await queue.events(submission_id, after):
                    await socket.send_text(msgspec.json.encode(event).decode())
                last = {"type": "result", "result": judged(found[1].result)}
                await socket.send_text(msgspec.json.encode(last).decode())
                await socket.close(1000)
                return


async def _gone(socket: WebSocket) -> None:
    """Returns when the client has left; what it says is of no interest."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
