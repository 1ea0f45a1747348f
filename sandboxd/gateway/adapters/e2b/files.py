"""`/files` of a sandbox: contents up and down."""

import re
import zlib
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandboxd.errors import InvalidRequest, PathNotFound
from sandboxd.gateway.adapters.e2b import errors, paths, uploads
from sandboxd.gateway.adapters.e2b.bodies import answer
from sandboxd.gateway.adapters.e2b.identity import Target
from sandboxd.gateway.adapters.e2b.rpc import gone_as, known_user
from sandboxd.gateway.adapters.e2b.uploads import End, Event, Head
from sandboxd.gateway.api.sandbox_content import Contents
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone
from sandboxd.model import agent
from sandboxd.model.agent import Kind, frame
from sandboxd.model.session import FileInfo

_METADATA, _METADATA_MAX = "x-metadata-", 4096
_NAME = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"
_FORM = "multipart/form-data"


class Files:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._contents = Contents(gateway)

    async def get(self, request: Request, target: Target) -> ASGIApp:
        path = request.query_params.get("path", "")
        user = known_user(request.query_params.get("username", ""))
        response = _Named(
            await self._contents.get(
                request, target.tenant, target.sandbox, paths.encoded(path, user),
                root=user == "root",
            ),
            paths.absolute(path, user),
        )  # fmt: skip
        # Clients' libraries name codings by themselves; compressed is sent to who names gzip alone.
        if request.headers.get("accept-encoding", "").strip().lower() == "gzip":
            return _Gzipped(response)
        return response

    async def post(self, request: Request, target: Target) -> Response:
        """The body is the file, or a form with one or more. Each is whole or not there."""
        try:
            with self._gateway.slots.take():
                work = self._gateway.unless_closing(self._post(request, target))
                return answer([paths.written(info, _metadata(request)) for info in await work])
        except ClientGone:
            raise
        except Exception as error:
            # The rest of the body is not wanted; it goes with the connection.
            response = errors.of_sandbox(gone_as(error, target) or error)
            response.headers["connection"] = "close"
            return response

    async def _post(self, request: Request, target: Target) -> list[FileInfo]:
        user = known_user(request.query_params.get("username", ""))
        notes = {paths.NOTES + name: value for name, value in _metadata(request).items()}
        path = request.query_params.get("path")
        pieces = uploads.body(request, self._gateway.settings.gateway.body_timeout)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _FORM:
            if not path:
                raise InvalidRequest("say which file it is", field="path")
            return [await self._write(target, user, path, pieces, notes)]
        written = []
        events = uploads.files(request, pieces)
        async for event in events:
            if isinstance(event, Head):
                name = path or event.filename
                if not name:
                    raise InvalidRequest("a file of the form has no name", field="filename")
                written.append(await self._write(target, user, name, _one(events), notes))
        return written

    async def _write(
        self,
        target: Target,
        user: str,
        path: str,
        pieces: AsyncIterator[bytes],
        notes: dict[str, str],
    ) -> FileInfo:
        call = agent.WriteFile(
            attributes=notes,
            tenant=target.tenant, sandbox=target.sandbox, path=paths.encoded(path, user),
            root=user == "root",
        )  # fmt: skip
        async with self._gateway.sandboxes.upload(call) as line:
            async for piece in pieces:
                if line.answered:
                    break
                await line.write_data(piece)
            else:
                await line.write(frame(Kind.END))
            return await line.expect(Kind.REPLY, FileInfo)


async def _one(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The bytes of the file that has begun."""
    async for event in events:
        if isinstance(event, End):
            return
        if isinstance(event, bytes):
            yield event


def _metadata(request: Request) -> dict[str, str]:
    """What is to be noted about the files; names are in lower case. Raises InvalidRequest."""
    found = {
        name.removeprefix(_METADATA): value
        for name, value in request.headers.items()
        if name.startswith(_METADATA)
    }
    if sum(len(name) + len(value) for name, value in found.items()) > _METADATA_MAX:
        raise InvalidRequest(f"is more than {_METADATA_MAX} bytes", field="metadata")
    for name, value in found.items():
        if re.fullmatch(_NAME, name) is None or not value.isascii() or not value.isprintable():
            raise InvalidRequest(f"{name[:64]!r} is not printable ASCII", field="metadata")
    return found


class _Named:
    """A download whose absence is told with the path's name."""

    def __init__(self, response: ASGIApp, path: str) -> None:
        self._response, self._path = response, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._response(scope, receive, send)
        except PathNotFound:
            raise PathNotFound(f"path '{self._path}' does not exist") from None


class _Gzipped:
    """A response whose body is compressed on its way."""

    def __init__(self, response: ASGIApp) -> None:
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        packer = zlib.compressobj(level=1, wbits=31)

        async def packed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    pair for pair in message["headers"]
                    if pair[0] not in (b"content-length", b"etag", b"accept-ranges")
                ]  # fmt: skip
                headers.append((b"content-encoding", b"gzip"))
                await send({**message, "headers": headers})
                return
            more = message.get("more_body", False)
            data = packer.compress(message.get("body", b""))
            await send({**message, "body": data if more else data + packer.flush()})

        await self._response(scope, receive, packed)
