"""`/mcp`: the tools of `sandboxd.mcp` over streamable HTTP, each request with the caller's own key.

A tool does what it does by requests of the public API, which go through this very application: there is
no way of its own to anything, so a key reaches what it reaches otherwise. No session is kept between
two requests, so any gateway answers any of them. Needs the extra `sandboxd[mcp]`, and is imported before
the process is confined: it brings native code.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from mcp.server.mcpserver import Context
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.server.transport_security import TransportSecuritySettings
from sandboxd_client import AsyncClient
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from sandboxd.mcp.server import make_server

PATH = "/mcp"
_AHEAD = 16
"""Pieces of an answer that wait for whoever reads it."""


class Endpoint:
    """One per gateway process. Set `app` before the first request."""

    def __init__(self, max_body: int) -> None:
        self.app: ASGIApp | None = None
        server = make_server(self._client)
        # The host and the key of a request are looked at before it comes here.
        unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        server.streamable_http_app(
            stateless_http=True, max_request_body_size=max_body, transport_security=unguarded
        )
        self._sessions = server.session_manager
        self.route = Route(PATH, StreamableHTTPASGIApp(self._sessions))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._sessions.run():
            yield

    @asynccontextmanager
    async def _client(self, ctx: Context[Any, Any]) -> AsyncIterator[AsyncClient]:
        assert self.app is not None
        scheme, _, key = (ctx.headers or {}).get("authorization", "").partition(" ")
        client = AsyncClient(
            "http://localhost", key if scheme.lower() == "bearer" else None, retries=0,
            transport=Inward(self.app),
        )  # fmt: skip
        try:
            yield client
        finally:
            await client.aclose()


class Inward(httpx.AsyncBaseTransport):
    """Requests to an application in this process; answers are given on as they come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = _Body(await request.aread())
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
            "method": request.method, "scheme": request.url.scheme, "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query, "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            # Of nobody on this machine: whoever calls the tool may be anywhere.
            "client": None, "server": ("localhost", 80),
        }  # fmt: skip
        body.work = asyncio.ensure_future(self._app(scope, body.receive, body.send))
        body.work.add_done_callback(body.finished)
        start = await body.started
        return httpx.Response(start["status"], headers=start["headers"], stream=body)


class _Body(httpx.AsyncByteStream):
    def __init__(self, sent: bytes) -> None:
        self._sent: bytes | None = sent
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        self._gone = asyncio.Event()
        self.started: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.work: asyncio.Future[None] | None = None

    async def receive(self) -> Message:
        if self._sent is not None:
            sent, self._sent = self._sent, None
            return {"type": "http.request", "body": sent, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started.set_result(message)
            return
        if message.get("body"):
            await self._pieces.put(message["body"])
        if not message.get("more_body", False):
            await self._pieces.put(None)

    def finished(self, work: "asyncio.Future[None]") -> None:
        """It ended without an answer, or within one."""
        error = None if work.cancelled() else work.exception()
        if not self.started.done():
            self.started.set_exception(httpx.ReadError(f"no answer: {error}"))
        elif error is not None and not self._pieces.full():
            self._pieces.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def aclose(self) -> None:
        self._gone.set()
        if self.work is not None and not self.work.done():
            while not self._pieces.empty():  # nobody reads it any more
                self._pieces.get_nowait()
            self.work.cancel()
            await asyncio.gather(self.work, return_exceptions=True)
