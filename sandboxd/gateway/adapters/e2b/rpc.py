"""Connect RPC with its JSON codec, as E2B's clients speak to a sandbox.

Unary calls are JSON in, JSON out, and an HTTP status for what went wrong. Calls that stream answer 200
and envelopes, the last of which says how it ended. A sandbox that is not there is told apart from both:
see `errors`.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandboxd.errors import (
    InvalidRequest,
    MalformedBody,
    NotFound,
    RequestTimeout,
    SandboxEnded,
    Unauthorized,
    UnsupportedMediaType,
)
from sandboxd.gateway.adapters.e2b import errors
from sandboxd.gateway.adapters.e2b.bodies import Bodies
from sandboxd.gateway.adapters.e2b.envelopes import LAST, MESSAGE_MAX, Envelopes, envelope
from sandboxd.gateway.adapters.e2b.errors import SandboxGone
from sandboxd.gateway.adapters.e2b.identity import Target, shown
from sandboxd.gateway.bodies import Budget, read_bytes
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone, disconnected, unless

_UNARY, _STREAM = "application/json", "application/connect+json"
_LONGEST = 30 * 86_400.0
_encode = msgspec.json.Encoder().encode
USERS = frozenset({"user", "root"})


class Call(Struct, frozen=True):
    """What a handler has beside the message."""

    target: Target
    user: str
    timeout: float | None
    """Seconds that the client will wait; None: for ever."""

    @property
    def root(self) -> bool:
        return self.user == "root"

    @property
    def tenant(self) -> str:
        return self.target.tenant

    @property
    def sandbox(self) -> str:
        return self.target.sandbox


class Unary(Struct, frozen=True):
    takes: Any
    handle: Callable[[Call, Any], Awaitable[object]]


class ServerStream(Struct, frozen=True):
    takes: Any
    handle: Callable[[Call, Any], AsyncIterator[object]]
    alive: object
    """The message that stands for silence."""


class ClientStream(Struct, frozen=True):
    takes: Any
    handle: Callable[[Call, AsyncIterator[Any]], Awaitable[object]]


Method = Unary | ServerStream | ClientStream


class Rpc:
    """An ASGI application of methods by their path, for a request that has its target in the scope."""

    def __init__(self, gateway: Gateway, bodies: Bodies, methods: Mapping[str, Method]) -> None:
        self._gateway, self._bodies, self._methods = gateway, bodies, methods
        self._budget = Budget(8 * gateway.settings.gateway.max_body)

    def has(self, path: str) -> bool:
        return path in self._methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        method = self._methods[scope["e2b.path"]]
        try:
            call = _call(request, scope["e2b.target"])
            response: Any = await self._answered(method, call, request)
        except ClientGone:
            raise
        except Exception as error:
            response = failure(error, request)
        await response(scope, receive, send)

    async def _answered(self, method: Method, call: Call, request: Request) -> Any:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        wanted = _UNARY if isinstance(method, Unary) else _STREAM
        if kind != wanted:
            raise UnsupportedMediaType(f"send {wanted}: the JSON codec is the one that is spoken")
        if isinstance(method, Unary):
            message = await self._bodies.json(request, method.takes)
            answer = await self._bounded(call, method.handle(call, message), request.receive)
            return Response(_encode(answer), media_type=_UNARY)
        if isinstance(method, ClientStream):
            messages = self._messages(request, method.takes)
            work = method.handle(call, messages)
            return await self._one(call, work)
        with self._budget.share() as share:
            settings = self._gateway.settings.gateway
            body = await read_bytes(request, share, MESSAGE_MAX + 5, settings.body_timeout)
            envelopes = Envelopes()
            found = envelopes.feed(body)
            envelopes.finish()
            if len(found) != 1:
                raise MalformedBody("one message is wanted")
            message = self._bodies.parse(found[0], method.takes)
        return _Stream(self._gateway, call, method.handle(call, message), method.alive, request)

    async def _one(self, call: Call, work: Awaitable[object]) -> Response:
        """The single answer of a client's stream, as a stream of one."""
        try:
            answer = await self._bounded(call, work, None)
        except ClientGone:
            raise
        except Exception as error:
            return _ended(error)
        return Response(envelope(_encode(answer)) + envelope(b"{}", LAST), media_type=_STREAM)

    async def _bounded(
        self, call: Call, work: Awaitable[object], receive: Receive | None
    ) -> object:
        with self._gateway.slots.take():
            try:
                async with asyncio.timeout(call.timeout):
                    coroutine = self._gateway.unless_closing(_awaited(work))
                    if receive is None:
                        return await coroutine
                    return await unless(disconnected(receive), ClientGone(), coroutine)
            except TimeoutError:
                raise RequestTimeout("the call's own timeout is over") from None

    async def _messages(self, request: Request, takes: Any) -> AsyncIterator[Any]:
        patient = request.scope.get("sandboxd.patient")
        if patient is not None:
            patient()  # a client may think as long as its own timeout says
        envelopes = Envelopes()
        while True:
            received = await request.receive()
            if received["type"] == "http.disconnect":
                raise ClientGone
            for message in envelopes.feed(received.get("body", b"")):
                yield self._bodies.parse(message, takes)
            if not received.get("more_body", False):
                envelopes.finish()
                return


class _Stream:
    """An ASGI response: messages as they come, signs of life between them, and the end."""

    def __init__(
        self, gateway: Gateway, call: Call, messages: AsyncIterator[object], alive: object,
        request: Request,
    ) -> None:  # fmt: skip
        self._gateway, self._call, self._messages, self._request = gateway, call, messages, request
        self._alive = envelope(_encode(alive))
        interval = request.headers.get("keepalive-ping-interval", "")
        self._interval = max(1, int(interval)) if interval.isdecimal() and len(interval) < 6 else 90
        self._began = self._spoke = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gateway.slots.take():
            try:
                work = self._gateway.unless_closing(self._send_all(scope, receive, send))
                await unless(disconnected(receive), ClientGone(), work)
            finally:
                close = getattr(self._messages, "aclose", None)
                if close is not None:
                    await close()

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        lock = asyncio.Lock()
        alive = asyncio.create_task(self._keep_alive(send, lock))
        try:
            end = await self._write_all(send, lock)
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
        if isinstance(end, Response):
            await end(scope, receive, send)
            return
        await send({"type": "http.response.body", "body": end})

    async def _write_all(self, send: Send, lock: asyncio.Lock) -> bytes | Response:
        """What is to be sent last."""
        try:
            async with asyncio.timeout(self._call.timeout):
                async for message in self._messages:
                    async with lock:
                        await self._write(send, envelope(_encode(message)))
                    self._spoke = True
                if not self._began:
                    await self._write(send, b"")
                return envelope(b"{}", LAST)
        except TimeoutError:
            error: Exception = RequestTimeout("the call's own timeout is over")
        except ClientGone:
            raise
        except Exception as fault:
            error = fault
        if self._began:
            return _last(error)
        return failure(error, self._request)

    async def _write(self, send: Send, body: bytes) -> None:
        if not self._began:
            headers = [(b"content-type", _STREAM.encode()), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            self._began = True
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _keep_alive(self, send: Send, lock: asyncio.Lock) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if self._began and not self._spoke:
                async with lock:
                    await self._write(send, self._alive)
            self._spoke = False


def failure(error: Exception, request: Request) -> Response:
    """The answer to a call that came to nothing."""
    gone = gone_as(error, request.scope.get("e2b.target"))
    if gone is not None:
        return errors.of_sandbox(gone)
    kind = request.headers.get("content-type", "")
    if kind.startswith(_STREAM):
        return _ended(error)
    status, body = errors.connect(error)
    return Response(_encode(body), status, media_type=_UNARY)


def gone_as(error: Exception, target: Target | None) -> SandboxGone | None:
    """What to say where the error means that there is no such sandbox any more."""
    if type(error) not in (NotFound, SandboxEnded):
        return None
    name = shown(target.sandbox) if target is not None else ""
    return SandboxGone(f"the sandbox {name} was not found: {error}")


def _ended(error: Exception) -> Response:
    return Response(_last(error), media_type=_STREAM)


def _last(error: Exception) -> bytes:
    if isinstance(error, NotFound | SandboxEnded) and type(error) in (NotFound, SandboxEnded):
        body = {"code": "unavailable", "message": f"the sandbox was not found: {error}"}
    else:
        _, body = errors.connect(error)
    return envelope(_encode({"error": body}), LAST)


async def _awaited(work: Awaitable[object]) -> object:
    return await work


def _call(request: Request, target: Target) -> Call:
    text = request.headers.get("connect-timeout-ms")
    timeout = None
    if text is not None:
        if not (text.isascii() and text.isdecimal() and len(text) <= 10):
            raise InvalidRequest("is a number of milliseconds", field="Connect-Timeout-Ms")
        timeout = min(int(text) / 1000, _LONGEST)
    return Call(target, user(request.headers.get("authorization")), timeout)


def user(authorization: str | None) -> str:
    """Who a call is made as: the name in Basic credentials. Raises Unauthorized for a name that no
    sandbox knows."""
    scheme, _, coded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return "user"
    try:
        name = base64.b64decode(coded, validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        raise Unauthorized("the credentials are not Basic ones") from None
    return known_user(name)


def known_user(name: str) -> str:
    """Raises Unauthorized."""
    if name and name not in USERS:
        raise Unauthorized(f"invalid username: {name[:64]!r}; there are user and root")
    return name or "user"
