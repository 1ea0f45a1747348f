"""The code interpreter's server of E2B, over our contexts: lines of JSON of what code does, as it goes.

Code that names no context runs in its language's own, which begins at the user's home.
"""

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.errors import Conflict, NotFound
from sandboxd.gateway.adapters.e2b import paths
from sandboxd.gateway.adapters.e2b.bodies import Bodies, answer, nothing
from sandboxd.gateway.adapters.e2b.errors import NoContext, NotOffered
from sandboxd.gateway.adapters.e2b.identity import Target
from sandboxd.gateway.adapters.e2b.words import HOME
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions.names import default_context_id, is_context_id
from sandboxd.gateway.waiting import ClientGone, disconnected, unless
from sandboxd.model import agent
from sandboxd.model.context import (
    LANGUAGE,
    CodeEvent,
    CodeRequest,
    Context,
    ContextLanguage,
    ContextRequest,
    Ended,
    EndStatus,
    Raised,
    Shown,
    Started,
    Stderr,
    Stdout,
)
from sandboxd.model.session import Process, Sandbox, SandboxState

_KEEP_ALIVE = 5.0
_LANGUAGES = {
    "python": ContextLanguage.PYTHON,
    "javascript": ContextLanguage.JAVASCRIPT,
    "js": ContextLanguage.JAVASCRIPT,
    "bash": ContextLanguage.BASH,
    "r": ContextLanguage.R,
    "java": ContextLanguage.JAVA,
}
"""Clients write names in any case; what is none of these is a kernelspec."""
_FORMATS = (
    "text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "json", "javascript", "data",
    "chart",
)  # fmt: skip
_REMEMBERED = 10_000
_ALIVE = b'{"type":"keepalive"}\n'
_encode = msgspec.json.Encoder().encode


class Execute(Struct, frozen=True):
    code: str
    context_id: str | None = None
    language: str | None = None
    env_vars: dict[str, str] | None = None


class NewContext(Struct, frozen=True):
    language: str | None = None
    cwd: str | None = None


class Interpreter:
    """An ASGI application, for requests that have `e2b.target` and `e2b.path` in their scope."""

    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway, self._bodies = gateway, bodies
        self._contexts = gateway.contexts
        self._begun: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Default contexts that are known to have been started, by sandbox and id."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        target: Target = scope["e2b.target"]
        response: ASGIApp
        try:
            response = await self._answered(request, scope["e2b.path"], target)
            await response(scope, receive, send)
        except Conflict as error:  # its interpreter has ended
            raise NoContext(error.detail) from None
        except NotFound as error:
            if isinstance(error, NoContext) or type(error) is not NotFound:
                raise
            # It may be the context that is missing; a sandbox that is gone says so itself.
            await self._gateway.sandboxes.live(target.tenant, target.sandbox)
            raise NoContext(error.detail) from None

    async def _answered(self, request: Request, path: str, target: Target) -> ASGIApp:
        match request.method, path.strip("/").split("/"):
            case "GET", ["health"]:
                await self._gateway.sandboxes.live(target.tenant, target.sandbox)
                return answer("OK")
            case "POST", ["execute"]:
                return await self._execute(request, target)
            case "POST", ["contexts"]:
                return await self._create(request, target)
            case "GET", ["contexts"]:
                found = await self._contexts.list(target.tenant, target.sandbox)
                return answer([_shown(context) for context in found])
            case "DELETE", ["contexts", name]:
                await self._contexts.remove(target.tenant, target.sandbox, _checked(name))
                return nothing()
            case "POST", ["contexts", name, "restart"]:
                await self._contexts.restart(target.tenant, target.sandbox, _checked(name))
                return nothing()
        raise HTTPException(404, f"there is no {request.method} {path}")

    async def _create(self, request: Request, target: Target) -> Response:
        wanted = await self._bodies.json(request, NewContext)
        asked = ContextRequest(
            language=_language(wanted.language), cwd=paths.absolute(wanted.cwd or "", "user")
        )
        with self._gateway.slots.take():
            work = self._gateway.unless_closing(
                self._contexts.create(target.tenant, target.sandbox, asked)
            )
            return answer(_shown(await work), 201)

    async def _execute(self, request: Request, target: Target) -> ASGIApp:
        wanted = await self._bodies.json(request, Execute)
        if wanted.context_id is not None:
            context = _checked(wanted.context_id)
        else:
            context = await self._default(target, _language(wanted.language))
        code = CodeRequest(code=wanted.code, env=wanted.env_vars or {})
        events = self._contexts.run(target.tenant, target.sandbox, context, code)
        return _Lines(self._gateway, self._until_end(target, events))

    async def _until_end(
        self, target: Target, events: AsyncIterator[CodeEvent]
    ) -> AsyncIterator[CodeEvent]:
        """Raises ClientGone where the interpreter ended with its sandbox: an answer that breaks off has
        clients look whether that is still there."""
        try:
            async for event in events:
                if isinstance(event, Ended) and event.status is EndStatus.DIED:
                    call = agent.Get(tenant=target.tenant, sandbox=target.sandbox)
                    found = await self._gateway.sandboxes.ask(call, Sandbox)
                    if found.state is SandboxState.ENDED:
                        raise ClientGone
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    async def _default(self, target: Target, language: str) -> str:
        """The id of the language's own context, which has been started."""
        name = default_context_id(language)
        key = (target.sandbox, name)
        if key not in self._begun:
            call = agent.StartContext(
                tenant=target.tenant, sandbox=target.sandbox, id=name,
                context=ContextRequest(language=language, cwd=HOME),
            )  # fmt: skip
            with contextlib.suppress(Conflict):  # it is there: its run says whether it can be
                await self._gateway.sandboxes.ask(call, Process)
            self._begun[key] = None
            while len(self._begun) > _REMEMBERED:
                self._begun.popitem(last=False)
        return name


class _Lines:
    """An ASGI response: events as lines, with signs of life between them. Who leaves has the run
    interrupted."""

    def __init__(self, gateway: Gateway, events: AsyncIterator[CodeEvent]) -> None:
        self._gateway, self._events = gateway, events
        self._began = self._spoke = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gateway.slots.take():
            try:
                work = self._gateway.unless_closing(self._send_all(send))
                await unless(disconnected(receive), ClientGone(), work)
            finally:
                await self._events.aclose()  # type: ignore[attr-defined]

    async def _send_all(self, send: Send) -> None:
        lock = asyncio.Lock()
        alive = asyncio.create_task(self._keep_alive(send, lock))
        try:
            async for event in self._events:
                if lines := _lines(event):
                    async with lock:
                        await self._write(send, lines)
                    self._spoke = True
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})

    async def _write(self, send: Send, body: bytes) -> None:
        if not self._began:
            headers = [(b"content-type", b"application/x-ndjson"), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            self._began = True
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _keep_alive(self, send: Send, lock: asyncio.Lock) -> None:
        while True:
            await asyncio.sleep(_KEEP_ALIVE)
            if self._began and not self._spoke:
                async with lock:
                    await self._write(send, _ALIVE)
            self._spoke = False


def _lines(event: CodeEvent) -> bytes:
    """An event in E2B's words; nothing for what has none."""
    match event:
        case Started(execution_count=count):
            said: dict[str, Any] = {"type": "number_of_executions", "execution_count": count}
        case Stdout() | Stderr():
            stream = "stdout" if isinstance(event, Stdout) else "stderr"
            said = {"type": stream, "text": event.text, "timestamp": int(event.time * 1e9)}
        case Shown():
            formats = {
                name: value for name in _FORMATS if (value := getattr(event, name)) is not None
            }
            said = {"type": "result", "is_main_result": event.main, "extra": event.extra} | formats
        case Raised():
            said = _error(event.name, event.value, event.traceback)
        case Ended(status=status, detail=detail):
            last = b'{"type":"end_of_execution"}\n'
            if status in (EndStatus.OK, EndStatus.ERROR, EndStatus.INTERRUPTED):
                return last
            return _encode(_error(_NAMES[status], detail, detail)) + b"\n" + last
        case _:
            return b""
    return _encode(said) + b"\n"


_NAMES = {
    EndStatus.DIED: "InterpreterDied",
    EndStatus.LOST: "OutputLost",
    EndStatus.TIMED_OUT: "Timeout",
}


def _error(name: str, value: str, traceback: str) -> dict[str, Any]:
    return {"type": "error", "name": name, "value": value, "traceback": traceback}


def _shown(context: Context) -> dict[str, str]:
    return {"id": context.id, "language": context.language, "cwd": context.cwd}


def _language(name: str | None) -> str:
    """Raises NotOffered for what no language and no kernelspec could be called."""
    name = name or ContextLanguage.PYTHON
    if re.fullmatch(LANGUAGE, name) is None:
        raise NotOffered(f"{name[:32]!r} is the name of no language")
    return _LANGUAGES.get(name.lower(), name)


def _checked(name: str) -> str:
    """Raises NoContext for what is no id."""
    if not is_context_id(name):
        raise NoContext(f"Context {name[:64]} not found")
    return name
