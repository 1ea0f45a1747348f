"""`/v1/sandboxes/{id}/files/content`: one file, as a stream of any size.

A download answers ranges, and may be resumed with `If-Range`. An upload is atomic; with `append` or
`offset` it is not, and resumed where `…/files/stat` says the file ends.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.descriptors import Writer
from sandboxd.errors import DriverFault, InvalidRequest, RequestTimeout, SandboxdError
from sandboxd.gateway import problems
from sandboxd.gateway.api.sandbox_requests import answer, flag, known_query, number, path_query, who
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.raw_body import pour
from sandboxd.gateway.sessions import ranges
from sandboxd.gateway.sessions.handover import LARGE
from sandboxd.gateway.sessions.line import Line, decoded
from sandboxd.gateway.waiting import ClientGone, disconnected, unless
from sandboxd.model import agent
from sandboxd.model.agent import Kind, frame
from sandboxd.model.session import FileInfo, FileType

_FAR = 1 << 62
_PIECE = 1 << 20
BINARY = "application/octet-stream"


class Contents:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sandboxes = gateway.sandboxes

    async def content(self, request: Request) -> ASGIApp:
        tenant, sandbox = who(request)
        query = request.query_params
        if request.method == "PUT":
            known_query(query, "path", "path_base64", "mode", "append", "offset", "parents")
            return await self.put(request, self._write(request, tenant, sandbox))
        known_query(query, "path", "path_base64")
        return await self.get(request, tenant, sandbox, path_query(query))

    def _write(self, request: Request, tenant: str, sandbox: str) -> agent.WriteFile:
        query = request.query_params
        append, offset = flag(query, "append", False), number(query, "offset", None, 0, _FAR)
        if append and offset is not None:
            raise InvalidRequest("append has no offset", field="offset")
        return agent.WriteFile(
            tenant=tenant, sandbox=sandbox, path=path_query(query),
            mode=number(query, "mode", None, 0, 0o777, base=8),
            append=append, offset=offset, parents=flag(query, "parents", True),
        )  # fmt: skip

    async def get(
        self, request: Request, tenant: str, sandbox: str, path: bytes, *, root: bool = False
    ) -> ASGIApp:
        """The file, or the part of it that `Range` names; for HEAD, what there is to say of it."""
        wanted = ranges.parse(request.headers.get("range"))
        offset, length = 0, None
        if wanted is not None or request.method == "HEAD":
            stat = agent.Stat(tenant=tenant, sandbox=sandbox, path=path, root=root)
            info = await self._sandboxes.ask(stat, FileInfo)
            if request.method == "HEAD":
                return Response(None, 200, _headers(info) | {"content-length": str(info.size)})
            condition = request.headers.get("if-range")
            if condition is not None and condition != ranges.tag(info):
                wanted = None
            if wanted is not None:
                offset, length = wanted.within(info.size)
        call = agent.ReadFile(
            tenant=tenant, sandbox=sandbox, path=path, offset=offset, length=length, root=root
        )
        return _Download(self._gateway, call, partial=wanted is not None)

    async def put(self, request: Request, call: agent.WriteFile) -> Response:
        """The request's body becomes the file."""
        with self._gateway.slots.take():
            try:
                work = self._put(request, call)
                return answer(await self._gateway.unless_closing(work))
            except SandboxdError as error:
                # The rest of the body is not wanted; it goes with the connection.
                response = problems.response(error)
                response.headers["connection"] = "close"
                return response

    async def _put(self, request: Request, call: agent.WriteFile) -> FileInfo:
        stall = self._gateway.settings.gateway.body_timeout
        if int(request.headers.get("content-length", 0)) > LARGE:
            return await self._put_large(request, call, stall)
        async with self._sandboxes.upload(call) as line:
            await send_body(request, line, stall)
            return await line.expect(Kind.REPLY, FileInfo)

    async def _put_large(self, request: Request, call: agent.WriteFile, stall: float) -> FileInfo:
        """Straight into the pipe that a process in the sandbox reads."""
        async with self._sandboxes.handed(replace(call, handover=True)) as (line, _, fd):
            pipe = Writer(fd)
            try:
                await _pour(request, pipe, stall)
            finally:
                pipe.close()
            await line.write(frame(Kind.END))
            return await line.expect(Kind.REPLY, FileInfo)


async def send_body(
    request: Request, line: Line, stall: float, *, until_answer: bool = True
) -> None:
    """The body as DATA and END; ends early, with `until_answer`, if the node has answered already.

    Raises RequestTimeout when nothing comes for `stall` seconds, ClientGone, NodeLost.
    """

    async def write(piece: bytes) -> bool:
        await line.write_data(piece)
        return not (until_answer and line.answered)

    if await send_pieces(request, write, stall):
        await line.write(frame(Kind.END))


async def send_pieces(
    request: Request, write: Callable[[bytes], Awaitable[bool]], stall: float
) -> bool:
    """The body, piece by piece, as long as `write` wants more; whether it was all of it.

    Raises RequestTimeout when nothing comes for `stall` seconds, ClientGone, and what `write` does.
    """
    patient = request.scope.get("sandboxd.patient")
    if patient is not None:
        patient()  # from here on the time is ours to watch
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(stall) as clock:
            while True:
                received = await request.receive()
                if received["type"] == "http.disconnect":
                    raise ClientGone
                clock.reschedule(None)
                if (body := received.get("body", b"")) and not await write(body):
                    return False
                if not received.get("more_body", False):
                    return True
                clock.reschedule(loop.time() + stall)
    except TimeoutError:
        raise RequestTimeout(f"nothing of the body came for {stall:g} seconds") from None


async def _pour(request: Request, pipe: Writer, stall: float) -> None:
    """The body, by the kernel where the server gives it away. Raises as `send_pieces`."""
    raw_body = request.scope.get("sandboxd.raw_body")
    body = raw_body() if raw_body is not None else None
    if body is None:
        await send_pieces(request, pipe.write, stall)
        return
    request.scope["sandboxd.patient"]()
    await pour(body, pipe, stall)


class _Download:
    """An ASGI response: the bytes as the node sends them."""

    def __init__(self, gateway: Gateway, call: agent.ReadFile, *, partial: bool) -> None:
        self._gateway, self._call, self._partial = gateway, call, partial

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gateway.slots.take():
            work = self._gateway.unless_closing(self._send(send))
            await unless(disconnected(receive), ClientGone(), work)

    async def _send(self, send: Send) -> None:
        inline = replace(self._call, inline=LARGE)
        async with self._gateway.sandboxes.open(inline) as (line, (kind, event)):
            if kind is not Kind.EVENT:
                raise DriverFault("agent", "read", f"{kind.name} where EVENT was to come")
            info = decoded(event, FileInfo)
            if self._length(info) <= LARGE:
                return await self._pass(send, info, _frames(line))
            await line.expect(Kind.REPLY, agent.Transferred)
        handover = replace(self._call, handover=True)
        async with self._gateway.sandboxes.handed(handover) as (_, event, fd):
            try:
                info = decoded(event, FileInfo)
                pieces = _pieces(fd, self._call.offset, self._length(info))
                async with aclosing(pieces):
                    await self._pass(send, info, pieces)
            finally:
                os.close(fd)

    def _length(self, info: FileInfo) -> int:
        """Bytes that are to be sent."""
        left = max(0, info.size - self._call.offset)
        return left if self._call.length is None else min(left, self._call.length)

    async def _pass(self, send: Send, info: FileInfo, pieces: AsyncIterator[bytes]) -> None:
        start, left = self._call.offset, self._length(info)
        headers = _headers(info) | {"content-length": str(left)}
        if self._partial:
            headers["content-range"] = f"bytes {start}-{start + left - 1}/{info.size}"
        await send({"type": "http.response.start", "status": 206 if self._partial else 200,
                    "headers": [(k.encode(), v.encode()) for k, v in headers.items()]})  # fmt: skip
        async for piece in pieces:
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if left:
            raise ClientGone  # it became shorter: an answer that breaks off says so
        await send({"type": "http.response.body", "body": b""})


async def _frames(line: Line) -> AsyncIterator[bytes]:
    while True:
        kind, payload = await line.next()
        if kind is Kind.REPLY:
            return
        yield payload


async def _pieces(fd: int, offset: int, left: int) -> AsyncGenerator[bytes, None]:
    """What a file has from `offset` on, at most `left` bytes. The next piece is read while one is sent;
    the descriptor is used until the generator is closed."""
    ahead = _read(fd, offset, left)
    try:
        while piece := await ahead:
            offset, left = offset + len(piece), left - len(piece)
            ahead = _read(fd, offset, left)
            yield piece
    finally:
        await asyncio.wait([ahead])


def _read(fd: int, offset: int, left: int) -> "asyncio.Future[bytes]":
    """In a thread: a file of an image or a volume may have to come from a disk."""
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(None, os.pread, fd, min(_PIECE, left), offset)


def _headers(info: FileInfo) -> dict[str, str]:
    """Nothing that comes out of a sandbox is shown by a browser."""
    if info.type is not FileType.FILE:
        raise InvalidRequest(f"is a {info.type}, not a file", field="path")
    return {
        "content-type": BINARY,
        "content-disposition": "attachment",
        "accept-ranges": "bytes",
        "cache-control": "no-store",
        "etag": ranges.tag(info),
    }
