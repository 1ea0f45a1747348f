"""`/v1/sandboxes/{id}/files…`: what is not a stream. Contents are in `sandbox_content`.

A path is a query parameter (`path`, or `path_base64` where it is not UTF-8) or a field of the body.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.api.sandbox_lines import NDJSON, Document, Lines, accepted
from sandboxd.gateway.api.sandbox_requests import (
    Bodies,
    answer,
    flag,
    known_query,
    number,
    path_query,
    who,
)
from sandboxd.gateway.api.stream import check_origin
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.line import decoded
from sandboxd.gateway.waiting import ClientGone, unless
from sandboxd.model import agent
from sandboxd.model.agent import Kind, frame
from sandboxd.model.session import FileInfo, FileList
from sandboxd.model.session_api import BatchRequest, DirectoryRequest, ModeRequest, MoveRequest

_PAGE, _PAGE_MAX = 1000, 10_000
_LONG = 600.0
"""Seconds for what a large tree may take: its removal, its listing."""
_ALIVE = '{"type":"keep_alive"}'
_KEEP_ALIVE = 30.0
_encode = msgspec.json.Encoder().encode


class Files:
    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway, self._bodies = gateway, bodies
        self._sandboxes = gateway.sandboxes

    async def all(self, request: Request) -> Response:
        """GET: a page of a directory, `depth` levels deep. DELETE: remove a file or directory."""
        tenant, sandbox = who(request)
        query = request.query_params
        if request.method == "DELETE":
            known_query(query, "path", "path_base64", "recursive")
            remove = agent.Remove(
                tenant=tenant, sandbox=sandbox, path=path_query(query),
                recursive=flag(query, "recursive", False),
            )  # fmt: skip
            return answer(await self._sandboxes.ask(remove, agent.Removed, _LONG))
        known_query(query, "path", "path_base64", "depth", "limit", "cursor")
        call = agent.ListFiles(
            tenant=tenant, sandbox=sandbox, path=path_query(query),
            depth=number(query, "depth", 1, 1, 64) or 1,
            limit=number(query, "limit", _PAGE, 1, _PAGE_MAX) or _PAGE,
            cursor=query.get("cursor"),
        )  # fmt: skip
        return answer(await self._sandboxes.ask(call, FileList, _LONG))

    async def stat(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        query = request.query_params
        known_query(query, "path", "path_base64", "follow")
        call = agent.Stat(
            tenant=tenant, sandbox=sandbox, path=path_query(query),
            follow=flag(query, "follow", True),
        )  # fmt: skip
        return answer(await self._sandboxes.ask(call, FileInfo))

    async def make_directory(self, request: Request) -> Response:
        """With its parents; one that exists is no error."""
        tenant, sandbox = who(request)
        wanted = await self._bodies.small(request, DirectoryRequest)
        call = agent.MakeDirectory(
            tenant=tenant, sandbox=sandbox, mode=wanted.mode,
            path=admission.path(wanted.path, wanted.path_base64),
        )  # fmt: skip
        return answer(await self._sandboxes.ask(call, FileInfo))

    async def move(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        wanted = await self._bodies.small(request, MoveRequest)
        call = agent.Move(
            tenant=tenant, sandbox=sandbox, overwrite=wanted.overwrite,
            source=admission.path(wanted.source, wanted.source_base64, "source"),
            target=admission.path(wanted.target, wanted.target_base64, "target"),
        )  # fmt: skip
        return answer(await self._sandboxes.ask(call, FileInfo))

    async def change_mode(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        wanted = await self._bodies.small(request, ModeRequest)
        call = agent.ChangeMode(
            tenant=tenant, sandbox=sandbox, mode=wanted.mode,
            path=admission.path(wanted.path, wanted.path_base64),
        )  # fmt: skip
        return answer(await self._sandboxes.ask(call, FileInfo))

    async def batch(self, request: Request) -> Response:
        """Many small files in one request."""
        tenant, sandbox = who(request)
        wanted = await self._bodies.large(request, BatchRequest)
        contents = [
            admission.content(file, f"files.{index}") for index, file in enumerate(wanted.files)
        ]
        call = agent.WriteFiles(
            tenant=tenant,
            sandbox=sandbox,
            files=[
                agent.NewFile(
                    admission.path(file.path, None, f"files.{index}.path"), len(data), file.mode
                )
                for index, (file, data) in enumerate(zip(wanted.files, contents, strict=True))
            ],
        )
        if sum(len(file.path) + 16 for file in call.files) > agent.MAX_CALL // 2:
            raise InvalidRequest("the paths are too long together", field="files")
        async with asyncio.timeout(_LONG), self._sandboxes.upload(call) as line:
            await line.write_data(b"".join(contents))
            await line.write(frame(Kind.END))
            return answer(await line.expect(Kind.REPLY, agent.Written))

    async def watch(self, request: Request) -> ASGIApp:
        """Changes below a path as they happen, as NDJSON or server-sent events."""
        return Lines(self._gateway, self._changes(await self._watched(request)),
                     accepted(request) or NDJSON)  # fmt: skip

    async def watch_socket(self, socket: WebSocket) -> None:
        """The same documents as messages."""
        tenant, sandbox = who(socket)
        await self._sandboxes.live(tenant, sandbox)
        check_origin(socket.headers)
        call = await self._watched(socket)
        with self._gateway.slots.take():
            await socket.accept()
            try:
                work = self._gateway.unless_closing(self._tell(socket, call))
                await unless(_left(socket), ClientGone(), work)
            except WebSocketDisconnect:
                raise ClientGone from None

    async def _watched(self, connection: Request | WebSocket) -> agent.Watch:
        tenant, sandbox = who(connection)
        query = connection.query_params
        known_query(query, "path", "path_base64", "recursive")
        return agent.Watch(
            tenant=tenant, sandbox=sandbox, path=path_query(query),
            recursive=flag(query, "recursive", True),
        )  # fmt: skip

    async def _changes(self, call: agent.Watch) -> AsyncIterator[Document]:
        async with self._sandboxes.open(call) as (line, first):
            standing = decoded(first[1], agent.Watching)
            yield _document("watching", standing)
            while True:
                _, payload = await line.next()
                yield _document("changes", decoded(payload, agent.Changes))

    async def _tell(self, socket: WebSocket, call: agent.Watch) -> None:
        alive = asyncio.create_task(_keep_alive(socket))
        try:
            async for document in self._changes(call):
                await socket.send_text(document.body.decode())
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)


def _document(kind: str, value: agent.Watching | agent.Changes) -> Document:
    body = {"type": kind} | {name: getattr(value, name) for name in value.__struct_fields__}
    return Document(kind, _encode(body))


async def _keep_alive(socket: WebSocket) -> None:
    while True:
        await asyncio.sleep(_KEEP_ALIVE)
        await socket.send_text(_ALIVE)


async def _left(socket: WebSocket) -> None:
    """Returns when the client has closed; what it says is not heard."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
