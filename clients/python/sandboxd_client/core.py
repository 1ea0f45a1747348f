"""What the client does, without doing it: every operation is a generator of effects.

A shell (`Client`, `AsyncClient`) performs each effect that a flow yields, sends back what came of
it and throws in the error that it met. So retries, deadlines, resumption and parsing exist once,
and know neither sockets nor event loops.
"""

import re
import secrets
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import httpx

from sandboxd_client import sse
from sandboxd_client.deadline import Backoff, Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.errors import (
    ConnectionFailed,
    Overload,
    SandboxdError,
    ServerError,
    from_answer,
)
from sandboxd_client.model import (
    Event,
    Health,
    Language,
    Result,
    RunRecord,
    languages_of,
    parse,
    record_of,
    result_of,
)
from sandboxd_client.request import RunOptions, encode

T = TypeVar("T")

FINISHED = "finished"
_JSON = [(b"Content-Type", b"application/json"), (b"Accept", b"application/json")]


@dataclass(frozen=True, slots=True)
class Send:
    """Effect: one request and its whole answer -> Answer."""

    request: httpx.Request
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Open:
    """Effect: one request; a 2xx answer's body stays open for Read -> Answer."""

    request: httpx.Request
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Read:
    """Effect: what comes next on the opened body -> bytes, or None at its end."""

    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def ok(self) -> bool:
        # Redirects are not followed: the key would travel to wherever they point.
        return 200 <= self.status < 300

    def error(self) -> SandboxdError:
        return from_answer(self.status, self.headers, self.body)


Effect: TypeAlias = Send | Open | Read | Sleep
Flow: TypeAlias = Generator[Effect, Any, T]


class Core:
    """The operations of one service. Each method that returns a Flow raises SandboxdError."""

    path = "/v1/runs"
    """Where what is followed and looked up lies."""

    def __init__(self, endpoint: Endpoint, backoff: Backoff) -> None:
        self.endpoint = endpoint
        self._backoff = backoff
        # Long enough for a service that restarts while a run is followed.
        self.resumption = replace(backoff, retries=4 * backoff.retries, ceiling=5.0)
        self._headers = endpoint.headers()
        self._runs = httpx.URL(f"{endpoint.origin}{self.path}")

    def run(self, options: RunOptions, key: str | None, deadline: Deadline) -> Flow[Result]:
        if options.get("interactive"):
            raise TypeError("an interactive run needs submit() and Run.stream()")
        answer = yield from self._call(self._post(options, key, []), deadline, safe=False)
        if answer.status == 202:
            # The run outlasts what the service keeps one request waiting.
            return (yield from self.wait(parse(answer.body, record_of).id, deadline))
        return parse(answer.body, result_of)

    def submit(self, options: RunOptions, key: str | None, deadline: Deadline) -> Flow[RunRecord]:
        request = self._post(options, key, [(b"Prefer", b"respond-async")])
        answer = yield from self._call(request, deadline, safe=False)
        return parse(answer.body, record_of)

    def record(self, run: str, deadline: Deadline) -> Flow[RunRecord]:
        answer = yield from self._call(self._get(f"{self.path}/{run}"), deadline, safe=True)
        return parse(answer.body, record_of)

    def wait(self, run: str, deadline: Deadline) -> Flow[Result]:
        """Follows the events until the run is finished, then fetches its result."""
        reader = EventReader(self, run, None)
        while (yield from reader.next(deadline)) is not None:
            pass
        record = yield from self.record(run, deadline)
        if record.result is None:
            raise ServerError(f"{run} is finished without a result", code="bad_answer")
        return record.result

    def cancel(self, run: str, deadline: Deadline) -> Flow[None]:
        request = httpx.Request("DELETE", self._url(f"/v1/runs/{run}"), headers=self._headers)
        yield from self._call(request, deadline, safe=True)

    def languages(self, deadline: Deadline) -> Flow[tuple[Language, ...]]:
        answer = yield from self._call(self._get("/v1/languages"), deadline, safe=True)
        return parse(answer.body, languages_of)

    def health(self, deadline: Deadline) -> Flow[Health]:
        answer: Answer = yield Send(self._get("/readyz"), deadline)
        if answer.ok:
            return Health(ready=True, detail="")
        error = answer.error()
        if isinstance(error, Overload):
            return Health(ready=False, detail=error.detail)
        raise error

    def open_events(self, run: str, after: str | None, deadline: Deadline) -> Flow[None]:
        extra = [(b"Accept", b"text/event-stream"), (b"Cache-Control", b"no-store")]
        if after is not None:
            extra.append((b"Last-Event-ID", after.encode()))
        request = httpx.Request(
            "GET", self._url(f"{self.path}/{run}/events"), headers=self._all(extra)
        )
        answer: Answer = yield Open(request, deadline)
        if not answer.ok:
            raise answer.error()

    def _call(self, request: httpx.Request, deadline: Deadline, *, safe: bool) -> Flow[Answer]:
        """A 2xx answer. Repeated only where the service cannot have acted on an earlier attempt,
        or where acting twice is the same as once (`safe`)."""
        failures = 0
        while True:
            try:
                answer: Answer = yield Send(request, deadline)
                if answer.ok:
                    return answer
                raise answer.error()
            except (Overload, ConnectionFailed) as error:
                failures += 1
                if not (error.retryable or safe):
                    raise
                failure = error
            yield from _pause(self._backoff, failures, failure, deadline)

    def _post(
        self, options: RunOptions, key: str | None, extra: list[tuple[bytes, bytes]]
    ) -> httpx.Request:
        return self._post_body(encode(options), key, extra)

    def _post_body(
        self, body: bytes, key: str | None, extra: list[tuple[bytes, bytes]]
    ) -> httpx.Request:
        key = secrets.token_hex(16) if key is None else _header(key)
        headers = self._all(_JSON)
        headers.append((b"Content-Length", b"%d" % len(body)))
        headers.append((b"Idempotency-Key", key.encode()))
        headers += extra
        # A ready stream spares httpx's guessing of a content type and length at every call.
        return httpx.Request("POST", self._runs, headers=headers, stream=httpx.ByteStream(body))

    def _get(self, path: str) -> httpx.Request:
        return httpx.Request("GET", self._url(path), headers=self._headers)

    def _url(self, path: str) -> httpx.URL:
        return httpx.URL(f"{self.endpoint.origin}{path}")

    def _all(self, extra: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return [*self._headers, *extra]


class EventReader:
    """Reads a run's events in order, each once, over as many connections as it takes."""

    def __init__(self, core: Core, run: str, after: str | None) -> None:
        self._core, self._run, self._after = core, run, after
        self._decoder: sse.Decoder | None = None
        self._ready: list[Event] = []
        self._failures = 0
        self._finished = False

    def next(self, deadline: Deadline) -> Flow[Event | None]:
        """The next event, or None when the run's last one was given."""
        while not self._ready:
            if self._finished:
                return None
            try:
                yield from self._fill(deadline)
            except (ConnectionFailed, Overload) as error:
                self._decoder = None
                self._failures += 1
                failure = error
            else:
                continue
            yield from _pause(self._core.resumption, self._failures, failure, deadline)
        event = self._ready.pop(0)
        self._finished = event.type == FINISHED
        return event

    def _fill(self, deadline: Deadline) -> Flow[None]:
        """One step: connect, or take what the connection has next."""
        if self._decoder is None:
            yield from self._core.open_events(self._run, self._after, deadline)
            self._decoder = sse.Decoder()
        chunk: bytes | None = yield Read(deadline)
        if chunk is None:
            yield from self._ended(deadline)
            return
        for message in self._decoder.feed(chunk):
            self._after = message.id if message.id is not None else self._after
            self._ready.append(_event(message, self._after))
            self._failures = 0

    def _ended(self, deadline: Deadline) -> Flow[None]:
        """The service also ends a stream that it cannot go on with for now."""
        record = yield from self._core.record(self._run, deadline)
        if record.state != FINISHED:
            raise ConnectionFailed(f"the events of {self._run} ended early")
        self._finished = True


def _pause(backoff: Backoff, failures: int, error: SandboxdError, deadline: Deadline) -> Flow[None]:
    """Waits before the next attempt; raises `error` if there shall be none."""
    seconds = backoff.pause(failures, error, deadline)
    if seconds is None:
        raise error
    yield Sleep(seconds)


def _event(message: sse.Message, last_id: str | None) -> Event:
    def build(document: Any) -> Event:
        return Event(
            id=last_id or "",
            type=message.event,
            at=document.get("at", ""),
            data=document.get("data", {}),
        )

    return parse(message.data, build)


def _header(value: str) -> str:
    if not re.fullmatch(r"[!-~]{1,255}", value):
        raise ValueError("an idempotency key has 1 to 255 visible ASCII characters")
    return value


def run_id(run: str) -> str:
    """`run`, if it can stand in a path. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", run):
        raise ValueError(f"{run!r} is not the id of a run")
    return run
