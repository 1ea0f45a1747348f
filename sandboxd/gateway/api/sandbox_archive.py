"""`/v1/sandboxes/{id}/files/archive`: a directory as tar, out and in.

The sandbox's own tar makes and unpacks it, as the sandbox's user: nothing outside ever parses it. An
image without tar answers `no_tar`; a download that tar did not end well breaks off.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.errors import Conflict, InvalidRequest, SandboxdError, WrongFileType
from sandboxd.gateway import problems
from sandboxd.gateway.api.sandbox_content import send_body
from sandboxd.gateway.api.sandbox_requests import known_query, path_query, who
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions.following import Exit, Output, followed
from sandboxd.gateway.sessions.names import new_process_id
from sandboxd.gateway.waiting import ClientGone, disconnected, unless
from sandboxd.model import agent
from sandboxd.model.session import FileInfo, FileType, ProcessRequest

_TAR = "application/x-tar"
_HEAD = [
    (b"content-type", _TAR.encode()),
    (b"cache-control", b"no-store"),
    (b"content-disposition", b"attachment"),
]
_SAID = 2_000
"""Bytes of tar's own words that an error quotes."""


class NoTar(Conflict):
    code, title = "no_tar", "The sandbox's image has no tar"


class TarFailed(InvalidRequest):
    code, title = "tar_failed", "The sandbox's tar failed"


class Archives:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sandboxes = gateway.sandboxes

    async def archive(self, request: Request) -> ASGIApp:
        """GET: the directory. PUT: unpack into it; what is there stays, or is replaced by its like."""
        tenant, sandbox = who(request)
        known_query(request.query_params, "path", "path_base64")
        path = path_query(request.query_params)
        try:
            text = path.decode()
        except UnicodeDecodeError:
            raise InvalidRequest("has to be UTF-8 for an archive", field="path_base64") from None
        if request.method == "PUT":
            make = agent.MakeDirectory(tenant=tenant, sandbox=sandbox, path=path)
            await self._sandboxes.ask(make, FileInfo)
            return await self._put(request, _tar(tenant, sandbox, ["-xf", "-"], text, [], True))
        stat = agent.Stat(tenant=tenant, sandbox=sandbox, path=path)
        if (await self._sandboxes.ask(stat, FileInfo)).type is not FileType.DIRECTORY:
            raise WrongFileType("is no directory", field="path")
        return _Archive(self._gateway, _tar(tenant, sandbox, ["-cf", "-"], text, ["."], False))

    async def _put(self, request: Request, call: agent.Exec) -> Response:
        with self._gateway.slots.take():
            try:
                await self._gateway.unless_closing(self._unpack(request, call))
                return Response(None, 204)
            except SandboxdError as error:
                response = problems.response(error)
                response.headers["connection"] = "close"
                return response

    async def _unpack(self, request: Request, call: agent.Exec) -> None:
        stall = self._gateway.settings.gateway.body_timeout
        async with followed(self._sandboxes, call) as (line, items):
            feeding = asyncio.create_task(send_body(request, line, stall, until_answer=False))
            said = b""
            try:
                async for item in items:
                    if isinstance(item, Output):
                        said = (said + item.data)[:_SAID]
                    elif isinstance(item, Exit):
                        _check(item, said)
                    if feeding.done():
                        feeding.result()  # raises: the client has left, or sends nothing
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)


class _Archive:
    """An ASGI response."""

    def __init__(self, gateway: Gateway, call: agent.Exec) -> None:
        self._gateway, self._call = gateway, call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gateway.slots.take():
            work = self._gateway.unless_closing(self._send(send, scope["method"] == "HEAD"))
            await unless(disconnected(receive), ClientGone(), work)

    async def _send(self, send: Send, bare: bool) -> None:
        sent, said = 0, b""
        async with followed(self._gateway.sandboxes, self._call) as (_, items):
            async for item in items:
                if isinstance(item, Output) and item.stream == "stdout":
                    if not sent:
                        await send({"type": "http.response.start", "status": 200, "headers": _HEAD})
                    sent += len(item.data)
                    if bare:
                        break
                    await send({"type": "http.response.body", "body": item.data, "more_body": True})
                elif isinstance(item, Output):
                    said = (said + item.data)[:_SAID]
                elif isinstance(item, Exit):
                    _end(item, said, sent)
        await send({"type": "http.response.body", "body": b""})


def _end(end: Exit, said: bytes, sent: int) -> None:
    """Raises ClientGone for an end that can no longer be told in words: the answer breaks off."""
    try:
        _check(end, said)
        if sent != end.process.stdout_bytes or not sent:
            raise TarFailed("some of the archive was lost", field="path")
    except SandboxdError:
        if sent:
            raise ClientGone from None
        raise


def _check(end: Exit, said: bytes) -> None:
    process = end.process
    if process.error == "not_found":
        raise NoTar("archives need tar in the image; single files do not")
    if process.error or process.exit_code != 0:
        words = said.decode(errors="replace").strip() or process.error or process.signal
        raise TarFailed(f"tar: {words}", field="path")


def _tar(
    tenant: str, sandbox: str, does: list[str], path: str, what: list[str], stdin: bool
) -> agent.Exec:
    process = ProcessRequest(command=["tar", *does, "-C", path, *what], cwd="/work", stdin=stdin)
    return agent.Exec(
        tenant=tenant, sandbox=sandbox, id=new_process_id(), process=process, on_disconnect="kill"
    )
