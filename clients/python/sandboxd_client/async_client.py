"""The asyncio shell: performs the core's effects without blocking. One client, one event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from sandboxd_client.async_store import AsyncImages, AsyncTemplates, AsyncVolumes
from sandboxd_client.async_stream import AsyncStream
from sandboxd_client.core import (
    Answer,
    Core,
    Effect,
    EventReader,
    Flow,
    Open,
    Read,
    Send,
    Sleep,
    run_id,
)
from sandboxd_client.deadline import SHORT, Backoff, Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.errors import SandboxdError
from sandboxd_client.judging import PATIENCE, CaseResult, JudgeCore, Judgement, JudgeOptions
from sandboxd_client.model import Event, Health, Language, Result, RunRecord
from sandboxd_client.request import RunOptions, patience
from sandboxd_client.sandbox_core import SandboxCore
from sandboxd_client.store import StoreCore
from sandboxd_client.transport import async_transport, timeouts, translated

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, the same methods, the same errors."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        retries: int = 2,
        max_connections: int = 100,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """See `Client`."""
        endpoint = Endpoint.of(url, api_key)
        self._core = Core(endpoint, Backoff(retries))
        self._judge = JudgeCore(endpoint, Backoff(retries))
        store = StoreCore(endpoint, Backoff(retries))
        self.images, self.volumes = AsyncImages(self, store), AsyncVolumes(self, store)
        self.templates = AsyncTemplates(self, store)
        self._sandboxes = SandboxCore(endpoint, Backoff(retries))
        self._transport = transport or async_transport(endpoint, max_connections)

    async def run(
        self,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Result:
        """Runs a program and waits for its end. See `Client.run`."""
        deadline = Deadline(patience(options) if timeout is None else timeout)
        return await self._do(self._core.run(options, idempotency_key, deadline))

    async def submit(
        self,
        *,
        timeout: float = SHORT,
        idempotency_key: str | None = None,
        **options: Unpack[RunOptions],
    ) -> "AsyncRun":
        """Hands a program over and returns at once. `timeout` is for the handing over."""
        flow = self._core.submit(options, idempotency_key, Deadline(timeout))
        return AsyncRun(self, (await self._do(flow)).id, patience(options))

    def attach(self, run: str) -> "AsyncRun":
        """The handle of a run that was submitted before, here or elsewhere."""
        return AsyncRun(self, run_id(run), patience({"language": ""}))

    async def judge(
        self,
        *,
        timeout: float = PATIENCE,
        idempotency_key: str | None = None,
        on_case: Callable[[CaseResult], None] | None = None,
        **options: Unpack[JudgeOptions],
    ) -> Judgement:
        """Judges a program on cases and waits for the verdict. `on_case` hears of each case as it
        is judged, in no certain order. `timeout` in seconds."""
        deadline = Deadline(timeout)
        return await self._do(self._judge.judge(options, idempotency_key, deadline, on_case))

    async def languages(self, *, timeout: float = SHORT) -> tuple[Language, ...]:
        return await self._do(self._core.languages(Deadline(timeout)))

    async def health(self, *, timeout: float = SHORT) -> Health:
        """Whether the service would take a run now. Raises ConnectionFailed if it is not there."""
        return await self._do(self._core.health(Deadline(timeout)))

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _exchange(self) -> "_Exchange":
        return _Exchange(self._transport)

    async def _do(self, flow: Flow[T]) -> T:
        exchange = self._exchange()
        try:
            return await exchange.drive(flow)
        finally:
            await exchange.aclose()


class AsyncRun:
    """A submitted run. Timeouts are in seconds; by default what its limits allow plus a margin."""

    def __init__(self, client: AsyncClient, run: str, patience: float) -> None:
        self.id = run
        self._client, self._patience = client, patience

    async def record(self, *, timeout: float = SHORT) -> RunRecord:
        """The run as the service knows it now."""
        return await self._client._do(self._client._core.record(self.id, Deadline(timeout)))

    async def wait(self, *, timeout: float | None = None) -> Result:
        """The result, as soon as there is one."""
        return await self._client._do(self._client._core.wait(self.id, self._deadline(timeout)))

    async def cancel(self, *, timeout: float = SHORT) -> None:
        """Asks for the run to be stopped; its result follows as for any other end."""
        await self._client._do(self._client._core.cancel(self.id, Deadline(timeout)))

    async def events(
        self, *, after: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[Event]:
        """Every event up to the last, each once, those after the event id `after` if given.
        A broken connection is resumed."""
        reader = EventReader(self._client._core, self.id, after)
        deadline = self._deadline(timeout)
        exchange = _Exchange(self._client._transport)
        try:
            while (event := await exchange.drive(reader.next(deadline))) is not None:
                yield event
        finally:
            await exchange.aclose()

    def stream(self, *, timeout: float | None = None) -> AsyncStream:
        """A context manager: the live stream of output, and of input if the run is interactive."""
        return AsyncStream(self._client._core.endpoint, self.id, self._deadline(timeout))

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._patience if timeout is None else timeout)


class _Exchange:
    """Performs the effects of flows; owns the one body that Open left open."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._opened: httpx.AsyncByteStream | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def drive(self, flow: Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                try:
                    reply = await self._perform(effect)
                except SandboxdError as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def aclose(self) -> None:
        opened, self._opened, self._chunks = self._opened, None, None
        if opened is not None:
            await opened.aclose()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        deadline = effect.deadline
        try:
            async with asyncio.timeout(deadline.check()):
                match effect:
                    case Send():
                        return await self._send(effect.request, deadline)
                    case Open():
                        return await self._open(effect.request, deadline)
                    case Read():
                        return await self._read()
        except httpx.TransportError as error:
            request = None if isinstance(effect, Read) else effect.request
            raise translated(error, deadline, request) from error
        except TimeoutError as error:
            raise deadline.passed() from error

    async def _send(self, request: httpx.Request, deadline: Deadline) -> Answer:
        request.extensions["timeout"] = timeouts(deadline.remaining())
        response = await self._transport.handle_async_request(request)
        body = await _whole(_stream(response))
        return Answer(response.status_code, response.headers, body)

    async def _open(self, request: httpx.Request, deadline: Deadline) -> Answer:
        await self.aclose()
        request.extensions["timeout"] = timeouts(deadline.remaining())
        response = await self._transport.handle_async_request(request)
        answer = Answer(response.status_code, response.headers, b"")
        if not answer.ok:
            body = await _whole(_stream(response))
            return Answer(response.status_code, response.headers, body)
        self._opened = _stream(response)
        self._chunks = aiter(self._opened)
        return answer

    async def _read(self) -> bytes | None:
        return None if self._chunks is None else await anext(self._chunks, None)


def _stream(response: httpx.Response) -> httpx.AsyncByteStream:
    assert isinstance(response.stream, httpx.AsyncByteStream)  # of an async transport
    return response.stream


async def _whole(stream: httpx.AsyncByteStream) -> bytes:
    try:
        return b"".join([chunk async for chunk in stream])
    finally:
        await stream.aclose()
