"""A job as the generators see it: what to send, and what must come back."""

from collections.abc import Awaitable, Callable
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


class Job(Struct, frozen=True, kw_only=True):
    """One kind of job, ready to be sent many times."""

    name: str
    body: bytes
    """JSON of the run request."""
    expect: Expectation


class Client(Protocol):
    """Does one job at a time; a generator holds as many as it wants jobs in flight."""

    async def run(self, job: Job) -> Failure | None:
        """None if the answer came and was right."""
        ...

    def close(self) -> None: ...


Connect = Callable[[], Awaitable[Client]]
Pick = Callable[[int], Job]
"""The job to send as number `i`."""


def job(name: str, request: dict[str, Any], expect: Expectation) -> Job:
    return Job(name=name, body=msgspec.json.encode(request), expect=expect)


class _Answer(Struct):
    status: str
    stdout: str = ""
    exit_code: int | None = None


_decoder = msgspec.json.Decoder(_Answer)


def judge(expect: Expectation, http: int, body: bytes) -> Failure | None:
    """None if `body`, which came with HTTP status `http`, is what was expected."""
    if http != expect.http:
        return Failure(f"http_{http}", _excerpt(body))
    if http != 200:
        return None
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Failure("malformed", f"{error}: {_excerpt(body)}")
    if expect.status is not None and answer.status != expect.status:
        return Failure(f"status_{answer.status}", _excerpt(body))
    if expect.exit_code is not None and answer.exit_code != expect.exit_code:
        return Failure("wrong_exit_code", _excerpt(body))
    if expect.stdout is not None and answer.stdout != expect.stdout:
        return Failure("wrong_stdout", _excerpt(body))
    return None


def _excerpt(body: bytes) -> str:
    return body[:500].decode("utf-8", "replace")
