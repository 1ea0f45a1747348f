"""Contexts of a sandbox, for threads. Made of `async_contexts` by tools/unasync.py: do not edit."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from sandboxd_client.context_core import Collector, ContextCore, Heard, OnValue, Piece, code_body
from sandboxd_client.context_model import CodeResult, ContextInfo, ContextLanguage
from sandboxd_client.core import Flow
from sandboxd_client.deadline import SHORT, Deadline
from sandboxd_client.errors import RequestError, ServerError
from sandboxd_client.sandbox_core import SandboxCore
from sandboxd_client.sync_client import Client, _Exchange

T = TypeVar("T")

BEGINNING = 90.0
MARGIN = 30.0
"""Seconds for transport on top of the code's own time."""
LONGEST = 900.0
"""Seconds that one answer may be waited for; code with more of them is streamed."""


class Owner(Protocol):
    """The sandbox, as its contexts need it."""

    id: str
    _client: Client
    _core: SandboxCore

    def _do(self, flow: Flow[T]) -> T: ...


class Contexts:
    """`sandbox.contexts`: interpreters that keep their state."""

    def __init__(self, sandbox: Owner) -> None:
        self._sandbox = sandbox
        self._core = ContextCore(sandbox._core, sandbox.id)

    def create(
        self,
        language: ContextLanguage | str = "python",
        *,
        cwd: str = "/work",
        env: Mapping[str, str] | None = None,
        wait: float = BEGINNING,
    ) -> "Context":
        """A new one, ready. Raises RequestError, `code` `context_unavailable`, where the image has no
        such interpreter."""
        flow = self._core.create(language, cwd, env or {}, Deadline(wait))
        return Context(self._sandbox, (self._sandbox._do(flow)).id)

    def default(self, language: ContextLanguage | str = "python") -> "Context":
        """The one of a language that is always there: it starts with the first code for it."""
        return Context(self._sandbox, f"ctx_{language}")

    def get(self, context: str, *, wait: float = SHORT) -> "Context":
        """One that was created before. Raises RequestError, `code` `not_found`."""
        info = self._sandbox._do(self._core.get(context, Deadline(wait)))
        return Context(self._sandbox, info.id)

    def list(self, *, wait: float = SHORT) -> Sequence[ContextInfo]:
        """Those that live, the oldest first."""
        return self._sandbox._do(self._core.list(Deadline(wait)))


class Context:
    """One interpreter. Leaving the context removes it."""

    def __init__(self, sandbox: Owner, name: str) -> None:
        self._sandbox = sandbox
        self._core = ContextCore(sandbox._core, sandbox.id)
        self.id = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def run(
        self,
        code: str,
        *,
        timeout: float | None = 60.0,
        env: Mapping[str, str] | None = None,
        on_stdout: Heard | None = None,
        on_stderr: Heard | None = None,
        on_value: OnValue | None = None,
    ) -> CodeResult:
        """Runs code to its end. `timeout` seconds after its start it is interrupted; None: never.
        `on_stdout`, `on_stderr` and `on_value` hear of what it does as it does it. An exception in it is
        a result, never an error; whoever stops waiting has it interrupted."""
        body = code_body(code, env, timeout)
        deadline = Deadline((timeout or 86_400.0) + MARGIN)
        silent = on_stdout is None and on_stderr is None and on_value is None
        if silent and timeout is not None and timeout < LONGEST:
            return self._sandbox._do(self._core.run(self.id, body, deadline))
        collector = Collector(on_stdout, on_stderr, on_value)
        for _ in self._follow(body, deadline, collector):
            pass
        return collector.result()

    def stream(
        self, code: str, *, timeout: float = 3600.0, env: Mapping[str, str] | None = None
    ) -> Iterator[Piece]:
        """Runs code and gives what it prints, shows and raises, piece by piece. Leaving the iteration
        early interrupts it."""
        body = code_body(code, env, timeout)
        collector = Collector(None, None, None)
        yield from self._follow(body, Deadline(timeout + MARGIN), collector)

    def interrupt(self, *, wait: float = SHORT) -> None:
        """What runs in it ends with an interrupt, if it heeds that; the state stays."""
        self._tell("interrupt", wait)

    def restart(self, *, wait: float = BEGINNING) -> None:
        """It begins anew, with nothing in it."""
        self._tell("restart", wait)

    def remove(self, *, wait: float = SHORT) -> None:
        """End it; one that has ended is no error."""
        try:
            self._sandbox._do(self._core.remove(self.id, Deadline(wait)))
        except RequestError as refusal:
            if refusal.code != "not_found":
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def _tell(self, verb: str, wait: float) -> None:
        self._sandbox._do(self._core.tell(self.id, verb, Deadline(wait)))

    def _follow(self, body: bytes, deadline: Deadline, collector: Collector) -> Iterator[Piece]:
        exchange: Any = _Exchange(self._sandbox._client._transport)
        try:
            documents = exchange.drive(self._core.follow(self.id, body, deadline))
            while (document := exchange.drive(documents.next(deadline))) is not None:
                piece = collector.feed(document)
                if piece is not None:
                    yield piece
            if not collector.over:
                raise ServerError("the stream of the code ended before it", code="bad_answer")
        finally:
            exchange.close()
