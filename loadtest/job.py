"""A job as the generators see it: what to send, and what must come back."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from loadtest.measurement import Failure


class Expectation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes an answer right; None is not looked at."""

    http: int = 200
    status: str | None = "ok"
    exit_code: int | None = None
    stdout: str | None = None
    verdict: str = "AC"
    """Of submissions only."""


class Job(Protocol):
    """One kind of job, ready to be done many times."""

    @property
    def name(self) -> str: ...

    async def run(self, wire: "Wire") -> Failure | None:
        """None if what came was right. Raises ExchangeError."""
        ...


Check = Callable[[int, bytes], Failure | None]
"""What is wrong with an answer of that HTTP status and body; None if nothing is."""


class OneShot(Struct, frozen=True, kw_only=True):
    """A single request."""

    name: str
    body: bytes
    """JSON."""
    check: Check
    target: str = "/v1/runs"
    pause: float = 0.0
    """Seconds that the reader rests after each piece of the answer, of a few KiB."""

    async def run(self, wire: "Wire") -> Failure | None:
        return self.check(*await wire.post(self))


class Wire(Protocol):
    """What a job may do to the service; one at a time. Raises ExchangeError."""

    async def post(self, job: OneShot) -> tuple[int, bytes]:
        """Status and body. The request's bytes are made once for each name of a job."""
        ...

    async def ask(
        self, method: str, target: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and body; `kind` is the Content-Type of `body`."""
        ...


class Client(Protocol):
    """Does one job at a time; a generator holds as many as it wants jobs in flight."""

    async def run(self, job: Job) -> Failure | None:
        """None if the answer came and was right."""
        ...

    def close(self) -> None: ...


Connect = Callable[[], Awaitable[Client]]
Pick = Callable[[int], Job]
"""The job to send as number `i`."""


def job(name: str, request: dict[str, Any], expect: Expectation, pause: float = 0.0) -> OneShot:
    """A run; `request` is the body of `POST /v1/runs`."""
    return OneShot(
        name=name, body=msgspec.json.encode(request), check=partial(judge, expect), pause=pause
    )


class _Answer(Struct):
    status: str
    stdout: str = ""
    exit_code: int | None = None


_decoder = msgspec.json.Decoder(_Answer)


def judge(expect: Expectation, http: int, body: bytes) -> Failure | None:
    """None if `body`, which came with HTTP status `http`, is what was expected."""
    if http != expect.http:
        return Failure(f"http_{http}", excerpt(body))
    if http != 200:
        return None
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Failure("malformed", f"{error}: {excerpt(body)}")
    if expect.status is not None and answer.status != expect.status:
        return Failure(f"status_{answer.status}", excerpt(body))
    if expect.exit_code is not None and answer.exit_code != expect.exit_code:
        return Failure("wrong_exit_code", excerpt(body))
    if expect.stdout is not None and answer.stdout != expect.stdout:
        return Failure("wrong_stdout", excerpt(body))
    return None


def excerpt(body: bytes) -> str:
    return body[:500].decode("utf-8", "replace")
