"""The synchronous shell: performs the core's effects on blocking sockets. Safe among threads."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

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
from sandboxd_client.sync_store import Images, Templates, Volumes
from sandboxd_client.sync_stream import Stream
from sandboxd_client.transport import sync_transport, timeouts, translated

T = TypeVar("T")


class Client:
    """One service, one pool of connections. Every method raises only SandboxdError for what goes
    wrong between here and there, and TypeError or ValueError for arguments that make no sense."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        retries: int = 2,
        max_connections: int = 100,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url` is `http://host:port`, `https://host` or `unix:/path`; else `SANDBOXD_URL`, else
        `http://127.0.0.1:7070`. `api_key`, else `SANDBOXD_API_KEY`. `retries` bounds the repeated
        attempts of one call that the service did not accept."""
        endpoint = Endpoint.of(url, api_key)
        self._core = Core(endpoint, Backoff(retries))
        self._judge = JudgeCore(endpoint, Backoff(retries))
        store = StoreCore(endpoint, Backoff(retries))
        self.images, self.volumes = Images(self, store), Volumes(self, store)
        self.templates = Templates(self, store)
        self._sandboxes = SandboxCore(endpoint, Backoff(retries))
        self._transport = transport or sync_transport(endpoint, max_connections)

    def run(
        self,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Result:
        """Runs a program and waits for its end. `timeout` in seconds; by default what the limits
        allow plus a margin. See `RunOptions` for the rest."""
        deadline = Deadline(patience(options) if timeout is None else timeout)
        return self._do(self._core.run(options, idempotency_key, deadline))

    def submit(
        self,
        *,
        timeout: float = SHORT,
        idempotency_key: str | None = None,
        **options: Unpack[RunOptions],
    ) -> "Run":
        """Hands a program over and returns at once. `timeout` is for the handing over."""
        flow = self._core.submit(options, idempotency_key, Deadline(timeout))
        return Run(self, self._do(flow).id, patience(options))

    def attach(self, run: str) -> "Run":
        """The handle of a run that was submitted before, here or elsewhere."""
        return Run(self, run_id(run), patience({"language": ""}))

    def judge(
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
        return self._do(self._judge.judge(options, idempotency_key, deadline, on_case))

    def languages(self, *, timeout: float = SHORT) -> tuple[Language, ...]:
        return self._do(self._core.languages(Deadline(timeout)))

    def health(self, *, timeout: float = SHORT) -> Health:
        """Whether the service would take a run now. Raises ConnectionFailed if it is not there."""
        return self._do(self._core.health(Deadline(timeout)))

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _exchange(self) -> "_Exchange":
        return _Exchange(self._transport)

    def _do(self, flow: Flow[T]) -> T:
        exchange = self._exchange()
        try:
            return exchange.drive(flow)
        finally:
            exchange.close()


class Run:
    """A submitted run. Timeouts are in seconds; by default what its limits allow plus a margin."""

    def __init__(self, client: Client, run: str, patience: float) -> None:
        self.id = run
        self._client, self._patience = client, patience

    def record(self, *, timeout: float = SHORT) -> RunRecord:
        """The run as the service knows it now."""
        return self._client._do(self._client._core.record(self.id, Deadline(timeout)))

    def wait(self, *, timeout: float | None = None) -> Result:
        """The result, as soon as there is one."""
        return self._client._do(self._client._core.wait(self.id, self._deadline(timeout)))

    def cancel(self, *, timeout: float = SHORT) -> None:
        """Asks for the run to be stopped; its result follows as for any other end."""
        self._client._do(self._client._core.cancel(self.id, Deadline(timeout)))

    def events(self, *, after: str | None = None, timeout: float | None = None) -> Iterator[Event]:
        """Every event up to the last, each once, those after the event id `after` if given.
        A broken connection is resumed."""
        reader = EventReader(self._client._core, self.id, after)
        deadline = self._deadline(timeout)
        exchange = _Exchange(self._client._transport)
        try:
            while (event := exchange.drive(reader.next(deadline))) is not None:
                yield event
        finally:
            exchange.close()

    def stream(self, *, timeout: float | None = None) -> Stream:
        """A context manager: the live stream of output, and of input if the run is interactive."""
        return Stream(self._client._core.endpoint, self.id, self._deadline(timeout))

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._patience if timeout is None else timeout)


class _Exchange:
    """Performs the effects of flows; owns the one body that Open left open."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport
        self._opened: httpx.SyncByteStream | None = None
        self._chunks: Iterator[bytes] = iter(())

    def drive(self, flow: Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                try:
                    reply = self._perform(effect)
                except SandboxdError as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def close(self) -> None:
        opened, self._opened, self._chunks = self._opened, None, iter(())
        if opened is not None:
            opened.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return time.sleep(effect.seconds)
        try:
            match effect:
                case Send():
                    return self._send(effect.request, effect.deadline)
                case Open():
                    return self._open(effect.request, effect.deadline)
                case Read():
                    effect.deadline.check()
                    return next(self._chunks, None)
        except httpx.TransportError as error:
            request = None if isinstance(effect, Read) else effect.request
            raise translated(error, effect.deadline, request) from error

    def _send(self, request: httpx.Request, deadline: Deadline) -> Answer:
        left = timeouts(deadline.check())
        request.extensions["timeout"] = left
        response = self._transport.handle_request(request)
        left["read"] = deadline.remaining()  # read again when the body is
        body = _whole(_stream(response), deadline)
        return Answer(response.status_code, response.headers, body)

    def _open(self, request: httpx.Request, deadline: Deadline) -> Answer:
        self.close()
        request.extensions["timeout"] = timeouts(deadline.check())
        response = self._transport.handle_request(request)
        answer = Answer(response.status_code, response.headers, b"")
        if not answer.ok:
            body = _whole(_stream(response), deadline)
            return Answer(response.status_code, response.headers, body)
        self._opened = _stream(response)
        self._chunks = iter(self._opened)
        return answer


def _stream(response: httpx.Response) -> httpx.SyncByteStream:
    assert isinstance(response.stream, httpx.SyncByteStream)  # of a sync transport
    return response.stream


def _whole(stream: httpx.SyncByteStream, deadline: Deadline) -> bytes:
    try:
        chunks = []
        for chunk in stream:
            deadline.check()
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        stream.close()
