"""`/v1/images`: what a tenant's images are, where they come from and go to.

Building, importing, pulling and pushing answer with lines of JSON (`application/x-ndjson`), one
`Progress` each, the last of type `done` or `error`: the status is 200 as soon as the request itself is in
order. A client that leaves ends the work.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.errors import BodyTooLarge, InvalidRequest, RequestTimeout, SandboxdError
from sandboxd.gateway.bodies import Budget, decode, read_json
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.problems import problem
from sandboxd.gateway.waiting import ClientGone, disconnected, unless
from sandboxd.model import images_wire as wire
from sandboxd.model.building import Progress
from sandboxd.model.stored import ImageDetail, ImageInfo, ImageList, ImageTag, ImageTransfer

T = TypeVar("T")
_JSON = "application/json"
LINES = "application/x-ndjson"
_TAR = "application/x-tar"
_ARCHIVE = [(b"content-type", _TAR.encode()), (b"content-disposition", b"attachment")]
_ARGUMENTS_MAX = 64
_SMALL = 65_536
_PIECES_AHEAD = 4
_KEEP_ALIVE = 15.0
"""Seconds of silence after which an empty line says that the work goes on."""
_Pieces = asyncio.Queue[bytes | SandboxdError | None]
"""Of a body; the fault that ended it, or None at its end."""
_tag = msgspec.json.Decoder(ImageTag)
_transfer = msgspec.json.Decoder(ImageTransfer)


class Images:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._node = gateway, gateway.node
        self._budget = Budget(64 * _SMALL)

    async def list(self, request: Request) -> Response:
        call = wire.ListImages(tenant=request.scope["tenant"])
        return _json(await self._node.ask(call, ImageList))

    async def one(self, request: Request) -> Response:
        tenant, name = request.scope["tenant"], request.path_params["name"]
        if request.method == "DELETE":
            await self._node.ask(wire.RemoveImage(tenant=tenant, name=name), type(None))
            return Response(status_code=204)
        return _json(await self._node.ask(wire.GetImage(tenant=tenant, name=name), ImageDetail))

    async def tag(self, request: Request) -> Response:
        body = await self._body(request, _tag)
        call = wire.TagImage(tenant=request.scope["tenant"], request=body)
        return _json(await self._node.ask(call, ImageInfo))

    async def pull(self, request: Request) -> Response:
        body = await self._body(request, _transfer)
        return self._long(wire.PullImage(tenant=request.scope["tenant"], request=body), None)

    async def push(self, request: Request) -> Response:
        body = await self._body(request, _transfer)
        return self._long(wire.PushImage(tenant=request.scope["tenant"], request=body), None)

    async def build(self, request: Request) -> Response:
        """The body is the context: a tar, plain, gzip or zstd."""
        query = request.query_params
        arguments = [item.partition("=") for item in query.getlist("arg")]
        if len(arguments) > _ARGUMENTS_MAX or any(not equals for _, equals, _ in arguments):
            raise InvalidRequest(f"give at most {_ARGUMENTS_MAX} NAME=VALUE", field="arg")
        call = wire.BuildImage(
            tenant=request.scope["tenant"], name=_name(request),
            dockerfile=query.get("dockerfile"), target=query.get("target", ""),
            arguments={name: value for name, _, value in arguments},
        )  # fmt: skip
        return self._long(call, request)

    async def import_(self, request: Request) -> Response:
        """The body is a root file system: a tar, plain, gzip or zstd."""
        call = wire.ImportImage(tenant=request.scope["tenant"], name=_name(request))
        return self._long(call, request)

    async def export(self, request: Request) -> ASGIApp:
        """An archive that `docker load` and `sandboxd image import` take."""
        tenant, name = request.scope["tenant"], _name(request)
        if request.method == "HEAD":
            await self._node.ask(wire.GetImage(tenant=tenant, name=name), ImageDetail)
            return Response(media_type=_TAR)
        return _Archive(self._gateway, wire.ExportImage(tenant=tenant, name=name))

    async def _body(self, request: Request, decoder: "msgspec.json.Decoder[T]") -> T:
        timeout = self._gateway.settings.gateway.body_timeout
        with self._budget.share() as share:
            return decode(decoder, await read_json(request, share, _SMALL, timeout))

    def _long(self, call: wire.Call, request: Request | None) -> Response:
        if request is not None:
            announced = request.headers.get("content-length", "")
            most = self._gateway.settings.graph.context_max
            if announced.isdecimal() and int(announced) > most:
                raise BodyTooLarge(f"the archive has more than {most} bytes")
        return _Lines(self._gateway, call, uploads=request is not None)


class _Archive:
    """An ASGI response: what a call sends. A fault after its beginning breaks it off."""

    def __init__(self, gateway: Gateway, call: wire.Call) -> None:
        self._gateway, self._call = gateway, call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gateway.slots.take():
            work = self._gateway.unless_closing(self._send(send))
            await unless(disconnected(receive), ClientGone(), work)

    async def _send(self, send: Send) -> None:
        begun = False

        async def take(piece: bytes) -> None:
            nonlocal begun
            if not begun:
                await send({"type": "http.response.start", "status": 200, "headers": _ARCHIVE})
                begun = True
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        try:
            await self._gateway.node.follow(self._call, None, lambda _: None, take)
        except SandboxdError:
            if begun:
                raise ClientGone from None
            raise
        await send({"type": "http.response.body", "body": b""})


class _Lines(Response):
    """The lines of one call, while its body comes in. Starlette's own streaming response would take
    the body's messages for its own."""

    def __init__(self, gateway: Gateway, call: wire.Call, *, uploads: bool) -> None:
        super().__init__(media_type=LINES)
        del self.headers["content-length"]
        self._gateway, self._call, self._uploads = gateway, call, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces: _Pieces = asyncio.Queue(_PIECES_AHEAD)
        stall = self._gateway.settings.gateway.body_timeout
        events: asyncio.Queue[Progress | None] = asyncio.Queue()
        body = _pieces(pieces) if self._uploads else None
        with self._gateway.slots.take():
            work = asyncio.create_task(
                self._gateway.unless_closing(
                    self._gateway.node.follow(self._call, body, events.put_nowait)
                )
            )
            work.add_done_callback(lambda _: events.put_nowait(None))
            hearing = asyncio.create_task(_hear(receive, pieces, work, stall))
            try:
                await self._write(send, events, work)
            finally:
                for task in (work, hearing):
                    task.cancel()
                await asyncio.gather(work, hearing, return_exceptions=True)

    async def _write(
        self, send: Send, events: "asyncio.Queue[Progress | None]", work: asyncio.Task[bytes]
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while True:
            try:
                event = await asyncio.wait_for(events.get(), _KEEP_ALIVE)
            except TimeoutError:
                await send({"type": "http.response.body", "body": b"\n", "more_body": True})
                continue
            if event is None and work.cancelled():
                return  # the client has left
            line = msgspec.json.encode(event or _end(work)) + b"\n"
            more = event is not None
            await send({"type": "http.response.body", "body": line, "more_body": more})
            if not more:
                return


async def _hear(receive: Receive, pieces: _Pieces, work: asyncio.Task[bytes], stall: float) -> None:
    """Take the body in, which may pause for `stall` seconds, and end the work when the client leaves."""
    coming = True
    while True:
        try:
            async with asyncio.timeout(stall if coming else None):
                message = await receive()
        except TimeoutError:
            await pieces.put(RequestTimeout(f"nothing of the body came for {stall:g} seconds"))
            coming = False
            continue
        if message["type"] == "http.disconnect":
            work.cancel()
            return
        if piece := message.get("body", b""):
            await pieces.put(piece)
        if coming and not message.get("more_body", False):
            await pieces.put(None)
            coming = False


async def _pieces(pieces: _Pieces) -> AsyncIterator[bytes]:
    while (piece := await pieces.get()) is not None:
        if not isinstance(piece, bytes):
            raise piece
        yield piece


def _end(work: asyncio.Task[bytes]) -> Progress:
    try:
        info = msgspec.msgpack.decode(work.result(), type=ImageInfo)
    except SandboxdError as error:
        told = problem(error)
        return Progress(type="error", code=told.code, detail=told.detail, status=told.status)
    return Progress(type="done", digest=info.digest, name=info.name)


def _name(request: Request) -> str:
    name = request.query_params.get("name", "")
    if not name or len(name) > 255:
        raise InvalidRequest("say what the image is called", field="name")
    return name


def _json(body: ImageList | ImageDetail | ImageInfo) -> Response:
    return Response(msgspec.json.encode(body), media_type=_JSON)
