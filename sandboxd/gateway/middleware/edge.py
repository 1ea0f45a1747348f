"""The border to the outside: errors become problems, answers get their headers and are counted."""

from collections.abc import Mapping
from time import perf_counter

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandboxd.errors import RequestError
from sandboxd.gateway import problems
from sandboxd.gateway.metrics import Metrics
from sandboxd.gateway.waiting import ClientGone

_SECURITY = [(b"x-content-type-options", b"nosniff")]
_CLIENT_GONE = 499
_POLICY_VIOLATION, _INTERNAL_ERROR = 1008, 1011


class Edge:
    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Mapping[object, str]) -> None:
        """`routes` gives the path template of an endpoint, for the metrics."""
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        status = 0

        async def outward(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_SECURITY]
            await send(message)

        try:
            await self._app(scope, receive, outward)
        except ClientGone:
            status = status or _CLIENT_GONE
        except Exception as error:
            if status:
                raise  # half an answer is out; the server can only close the connection
            await problems.response(error)(scope, receive, outward)
        finally:
            route = self._routes.get(scope.get("endpoint"), "other")
            self._metrics.observe(route, status, perf_counter() - began)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        accepted = False

        async def outward(message: Message) -> None:
            nonlocal accepted
            accepted = accepted or message["type"] == "websocket.accept"
            await send(message)

        try:
            await self._app(scope, receive, outward)
        except ClientGone:
            return
        except Exception as error:
            if accepted:
                await _close(error, send)
            else:
                await _deny(error, scope, receive, send)


async def _close(error: Exception, send: Send) -> None:
    body = {"type": "error", "problem": problems.problem(error)}
    code = _POLICY_VIOLATION if isinstance(error, RequestError) else _INTERNAL_ERROR
    await send({"type": "websocket.send", "text": msgspec.json.encode(body).decode()})
    await send({"type": "websocket.close", "code": code})


async def _deny(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse the handshake; Starlette's Response knows how to speak that extension."""
    if "websocket.http.response" in scope.get("extensions", {}):
        response: Response = problems.response(error)
        response.raw_headers.extend(_SECURITY)
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
