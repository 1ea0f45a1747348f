"""What the gateway may do with this node's images and volumes: one call a connection.

The calls are those of `model/images_wire.py`. Blocking work goes to threads; a connection that closes
ends the build, pull or push that it asked for.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from sandboxd.errors import RequestError, SandboxdError
from sandboxd.model import images_wire as wire
from sandboxd.model.agent import MAX_DATA, Decoder, FrameError, Kind, Problem, frame, message
from sandboxd.model.building import Progress
from sandboxd.node.fitting import Fitter
from sandboxd.node.library import Library, Upload
from sandboxd.node.sockets import bind

log = logging.getLogger(__name__)

_CHUNK = 1 << 18
_CALL_TIMEOUT = 10.0
_EXPORTS = 4
_TAKE_TIMEOUT = 60.0
"""Seconds in which a reader has to take a piece."""


class ImagesService:
    def __init__(self, library: Library, fitter: Fitter, *, node: str, builds: int) -> None:
        """At most `builds` builds, imports and transfers run at once."""
        self._library, self._fitter, self._node = library, fitter, node
        self._turns = asyncio.Semaphore(builds)
        # Of their own: whoever reads slowly keeps nobody but other readers waiting.
        self._exporters = ThreadPoolExecutor(_EXPORTS, "export")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, path: Path, uid: int) -> None:
        """Serve on `path`, for root and for `uid` alone."""
        listener = await asyncio.to_thread(bind, path, uid)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_CHUNK)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._exporters.shutdown(wait=False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await _Session(self, reader, writer).run()
        except (ConnectionError, FrameError, msgspec.DecodeError, TimeoutError) as error:
            log.debug("images: %s", error)
        finally:
            self._connections.discard(task)
            writer.close()

    async def answer(self, call: wire.Call, session: "_Session") -> object:
        library, thread = self._library, asyncio.to_thread
        match call:
            case wire.ListImages():
                return await thread(library.list, call.tenant)
            case wire.GetImage():
                return await thread(library.detail, call.tenant, call.name)
            case wire.RemoveImage():
                return await thread(library.remove, call.tenant, call.name)
            case wire.TagImage():
                return await thread(library.tag, call.tenant, call.request)
            case wire.CreateVolume():
                return await thread(library.create_volume, call.tenant, call.request)
            case wire.ListVolumes():
                return await thread(library.list_volumes, call.tenant)
            case wire.RemoveVolume():
                return await thread(library.remove_volume, call.tenant, call.name)
            case wire.ExportImage():
                export = partial(library.export, call.tenant, call.name, session)
                return await asyncio.get_running_loop().run_in_executor(self._exporters, export)
            case wire.Check():
                check = self._fitter.check
                await thread(check, call.tenant, call.image, call.volumes, call.data)
                return wire.Holder(self._node)
        async with self._turns:
            return await self._long(call, session)

    async def _long(
        self,
        call: wire.PullImage | wire.PushImage | wire.BuildImage | wire.ImportImage,
        session: "_Session",
    ) -> object:
        library, tell = self._library, session.tell
        match call:
            case wire.PullImage():
                return await asyncio.to_thread(library.pull, call.tenant, call.request, tell)
            case wire.PushImage():
                return await asyncio.to_thread(library.push, call.tenant, call.request, tell)
            case wire.ImportImage():
                with library.upload() as upload:
                    await session.receive(upload)
                    return await asyncio.to_thread(library.import_, call.tenant, call.name, upload)
            case wire.BuildImage():
                with library.upload() as upload:
                    await session.receive(upload)
                    return await library.build(call, upload, tell)


class _Session:
    """One connection: its call, its input, its events, its answer."""

    def __init__(
        self, service: ImagesService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._service, self._reader, self._writer = service, reader, writer
        self._decoder = Decoder()
        self._frames: list[tuple[Kind, bytes]] = []
        self._loop = asyncio.get_running_loop()
        self._received = asyncio.Event()
        self._left = False

    async def run(self) -> None:
        async with asyncio.timeout(_CALL_TIMEOUT):
            kind, payload = await self._next()
        if kind is not Kind.CALL:
            raise FrameError("no call")
        call = wire.decode_call(payload)
        work = asyncio.create_task(self._answer(call))
        watch = asyncio.create_task(
            self._gone(uploads=isinstance(call, wire.BuildImage | wire.ImportImage))
        )
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                # What is still under way is read: closing before would reset the connection, and
                # the gateway would hear of that instead of the answer.
                self._received.set()
                await asyncio.wait({watch}, timeout=_TAKE_TIMEOUT)
        finally:
            self._left = not work.done()
            if self._left:
                self._writer.transport.abort()  # a thread that waits for its reader waits no more
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _answer(self, call: wire.Call) -> None:
        try:
            answer = message(Kind.REPLY, await self._service.answer(call, self))
        except SandboxdError as error:
            if not isinstance(error, RequestError):
                log.error("images: %s", error)
            answer = message(
                Kind.ERROR,
                Problem(
                    code=error.code, detail=error.detail, field=error.field,
                    retry_after=error.retry_after,
                ),
            )  # fmt: skip
        self._writer.write(answer)
        await self._writer.drain()

    def tell(self, event: Progress) -> None:
        """From any thread. What a client is too slow for waits in memory: events are small and a
        build's output is bounded."""
        if self._left:
            raise ConnectionResetError("the gateway left")  # which ends what tells
        self._loop.call_soon_threadsafe(self._writer.write, message(Kind.EVENT, event))

    def write(self, data: bytes) -> None:
        """DATA, from any thread; waits until the gateway takes it. Raises ConnectionError,
        TimeoutError."""
        for start in range(0, len(data), MAX_DATA):
            piece = frame(Kind.DATA, data[start : start + MAX_DATA])
            asyncio.run_coroutine_threadsafe(self._send(piece), self._loop).result()

    async def _send(self, data: bytes) -> None:
        if self._left:
            raise ConnectionResetError("the gateway left")
        self._writer.write(data)
        async with asyncio.timeout(_TAKE_TIMEOUT):
            await self._writer.drain()

    async def receive(self, upload: Upload) -> None:
        """DATA up to END. Raises BodyTooLarge, ConnectionError."""
        while True:
            kind, payload = await self._next()
            if kind is Kind.END:
                self._received.set()
                return
            if kind is not Kind.DATA:
                raise FrameError(f"{kind.name} within an upload")
            await asyncio.to_thread(upload.write, payload)

    async def _gone(self, *, uploads: bool) -> None:
        """Until the client has left."""
        if uploads:
            await self._received.wait()
        while await self._reader.read(_CHUNK):
            pass

    async def _next(self) -> tuple[Kind, bytes]:
        while not self._frames:
            data = await self._reader.read(_CHUNK)
            if not data:
                raise ConnectionResetError("the gateway left")
            self._frames = list(self._decoder.feed(data))
        return self._frames.pop(0)
