"""A small real service that speaks the wire format, for tests of what talks to it.

It runs no programs: a run's stdout is its stdin, and it ends at once unless its source is `hold`,
when it ends by `finish`, by DELETE, or by the end of its stream's stdin.
"""

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

AT = "2026-01-01T00:00:00Z"
LANGUAGES = [
    {"name": name, "title": name, "aliases": aliases, "compiles": compiles, "available": True,
     "limits": {"cpu_time": 10.0, "wall_time": 30.0, "memory": 268435456}}
    for name, aliases, compiles in
    [("python", ["py"], False), ("c", [], True), ("cpp", ["c++"], True), ("node", ["js"], False)]
]  # fmt: skip


def result(run: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": run, "status": "ok", "exit_code": 0, "signal": None, "stdout": "", "stderr": "",
        "stdout_truncated": False, "stderr_truncated": False, "encoding": "utf-8",
        "cpu_time": 0.011, "wall_time": 0.013, "peak_memory": 9211904, "files": {},
        "file_errors": {}, "compile": None, "isolation": ["userns", "seccomp"],
        "language": "python", "node": "n1", "reason": None,
        "created_at": AT,
    } | changes  # fmt: skip


def problem(status: int, code: str, **more: Any) -> Response:
    body = {"type": f"urn:x:{code}", "title": code, "status": status, "code": code,
            "detail": f"detail of {code}", "retryable": status in (429, 503)} | more  # fmt: skip
    after = {"retry-after": str(more["retry_after"])} if "retry_after" in more else None
    return JSONResponse(body, status, after, media_type="application/problem+json")


@dataclass
class FakeRun:
    id: str
    request: dict[str, Any]
    result: dict[str, Any] | None = None
    events: list[str] = field(default_factory=lambda: ["queued", "leased", "started"])
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def finish(self, **changes: Any) -> None:
        async with self.changed:
            if self.result is None:
                self.result = result(self.id, **changes)
                self.events.append("finished")
            self.changed.notify_all()

    def record(self) -> dict[str, Any]:
        return {"id": self.id, "state": self.events[-1], "created_at": AT,
                "node": "n1", "attempt": 1, "result": self.result}  # fmt: skip


class WireService:
    """`answers` go out to the next POSTs in place of the default; `drops` say after how many events
    the next event connections break; `ending` is what a run's result differs in."""

    def __init__(self, uds: Path | None = None) -> None:
        self.reset()
        family = socket.AF_INET if uds is None else socket.AF_UNIX
        self._socket = socket.socket(family)
        self._socket.bind(("127.0.0.1", 0) if uds is None else str(uds))
        self._socket.listen(128)
        name = self._socket.getsockname()
        self.url = f"http://127.0.0.1:{name[1]}" if uds is None else f"unix:{uds}"
        self._loop: asyncio.AbstractEventLoop | None = None
        config = uvicorn.Config(
            self._app(), ws="websockets-sansio", log_level="critical", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def reset(self) -> None:
        """As new, for the next test."""
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.runs: dict[str, FakeRun] = {}
        self.answers: deque[Callable[[], Response]] = deque()
        self.drops: deque[int] = deque()
        self.ending: dict[str, Any] = {}
        self.ready = True
        self.on_stream: Callable[[WebSocket, FakeRun], Any] = echo
        self.submitted = threading.Event()
        self.followed = threading.Event()

    def finish(self, run: str, **changes: Any) -> None:
        """Ends a held run, from any thread."""
        assert self._loop is not None
        ending = self.runs[run].finish(**changes)
        asyncio.run_coroutine_threadsafe(ending, self._loop).result(10)

    def posted(self) -> list[dict[str, Any]]:
        return [json.loads(body) for method, _, _, body in self.requests if method == "POST"]

    def sent(self, method: str) -> list[dict[str, str]]:
        """Headers of the requests of a method."""
        return [headers for found, _, headers, _ in self.requests if found == method]

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def _app(self) -> Starlette:
        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self._loop = asyncio.get_running_loop()
            self._started.set()
            yield

        return Starlette(
            lifespan=lifespan,
            routes=[
                Route("/v1/runs", self._create, methods=["POST"]),
                Route("/v1/runs/{id}", self._read),
                Route("/v1/runs/{id}", self._cancel, methods=["DELETE"]),
                Route("/v1/runs/{id}/events", self._events),
                Route("/v1/languages", self._languages),
                Route("/readyz", self._readyz),
                WebSocketRoute("/v1/runs/{id}/stream", self._stream),
            ],
        )

    async def _note(self, request: Request) -> None:
        body = await request.body()
        self.requests.append((request.method, request.url.path, dict(request.headers), body))

    async def _create(self, request: Request) -> Response:
        await self._note(request)
        if self.answers:
            return self.answers.popleft()()
        body = await request.json()
        run = FakeRun(f"run_{len(self.runs) + 1}", body)
        self.runs[run.id] = run
        stdin = body.get("stdin", "")
        if body.get("source") != "hold" and not body.get("interactive"):
            await run.finish(**{"stdout": stdin if isinstance(stdin, str) else ""} | self.ending)
        self.submitted.set()
        if request.headers.get("prefer") == "respond-async":
            where = {"location": f"/v1/runs/{run.id}"}
            return JSONResponse(run.record(), 202, where)
        async with run.changed:
            await run.changed.wait_for(lambda: run.result is not None)
        return JSONResponse(run.result)

    async def _read(self, request: Request) -> Response:
        await self._note(request)
        run = self.runs.get(request.path_params["id"])
        return problem(404, "not_found") if run is None else JSONResponse(run.record())

    async def _cancel(self, request: Request) -> Response:
        await self._note(request)
        run = self.runs.get(request.path_params["id"])
        if run is None:
            return problem(404, "not_found")
        await run.finish(status="cancelled", exit_code=None)
        return JSONResponse(run.record())

    async def _events(self, request: Request) -> Response:
        await self._note(request)
        run = self.runs.get(request.path_params["id"])
        if run is None:
            return problem(404, "not_found")
        self.followed.set()
        after = int(request.headers.get("last-event-id", "0-0").partition("-")[0])
        drop = self.drops.popleft() if self.drops else None
        return StreamingResponse(event_lines(run, after, drop), media_type="text/event-stream")

    async def _languages(self, request: Request) -> Response:
        await self._note(request)
        return JSONResponse({"languages": LANGUAGES})

    async def _readyz(self, request: Request) -> Response:
        return JSONResponse({}) if self.ready else problem(503, "unavailable", retry_after=1)

    async def _stream(self, socket: WebSocket) -> None:
        run = self.runs.get(socket.path_params["id"])
        if run is None:
            await socket.send_denial_response(problem(404, "not_found"))
            return
        await socket.accept()
        try:
            await self.on_stream(socket, run)
        except WebSocketDisconnect:
            await run.finish(status="cancelled", exit_code=None)


async def event_lines(run: FakeRun, after: int, drop: int | None) -> AsyncIterator[bytes]:
    yield b": " + run.id.encode() + b"\n\n"
    sent = after
    while "finished" not in run.events[:sent]:
        async with run.changed:
            while len(run.events) <= sent:
                await run.changed.wait()
        for kind in run.events[sent:]:
            if drop is not None and sent - after >= drop:
                yield b"id: 99-0\nevent: half"
                raise ConnectionAbortedError("on purpose")
            sent += 1
            event = {"id": f"{sent}-0", "type": kind, "at": AT, "data": {"attempt": 1}}
            yield f"id: {sent}-0\nevent: {kind}\ndata: {json.dumps(event)}\n\n".encode()


async def echo(socket: WebSocket, run: FakeRun) -> None:
    """stdin comes back on stdout; the end of stdin shows on stderr and ends the run."""
    leave = asyncio.create_task(_cancelled(run))
    while run.result is None:
        frame = asyncio.create_task(socket.receive())
        await asyncio.wait({frame, leave}, return_when=asyncio.FIRST_COMPLETED)
        if not frame.done():
            frame.cancel()
            break
        message = frame.result()
        if message["type"] == "websocket.disconnect":
            leave.cancel()
            raise WebSocketDisconnect(message["code"])
        if (data := message.get("bytes")) is not None:
            assert data[:1] == b"\x00"
            await socket.send_bytes(b"\x01" + data[1:])
        elif json.loads(message["text"])["type"] == "stdin_eof":
            await socket.send_bytes(b"\x02eof\n")
            await run.finish(**{"stderr": "eof\n"} | run.request.get("_ending", {}))
    leave.cancel()
    await socket.send_text(json.dumps({"type": "exit", "result": run.result}))
    await socket.close(1000)


async def _cancelled(run: FakeRun) -> None:
    async with run.changed:
        await run.changed.wait_for(lambda: run.result is not None)
