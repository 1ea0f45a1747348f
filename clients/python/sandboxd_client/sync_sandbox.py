"""A sandbox that lives, for threads. Made of `async_sandbox` by tools/unasync.py: do not edit."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from sandboxd_client.context_model import ContextLanguage
from sandboxd_client.core import Flow
from sandboxd_client.deadline import SHORT, Deadline
from sandboxd_client.errors import RequestError
from sandboxd_client.model import Output, content
from sandboxd_client.sandbox_core import SandboxCore, broken, command_body, happening_of, use_of
from sandboxd_client.sandbox_model import (
    Command,
    CommandOptions,
    CommandResult,
    Metrics,
    MetricsHistory,
    NetworkRecord,
    PortLink,
    ProcessInfo,
    SandboxEvent,
    SandboxInfo,
    SandboxLimits,
    SandboxOptions,
    Snapshot,
)
from sandboxd_client.sandbox_output import Collector, Heard
from sandboxd_client.sync_client import Client
from sandboxd_client.sync_contexts import Context, Contexts
from sandboxd_client.sync_documents import documents_of
from sandboxd_client.sync_files import Files
from sandboxd_client.sync_port import PortStream
from sandboxd_client.sync_terminal import Terminal

T = TypeVar("T")

CREATION = 90.0
COPYING = 660.0
MARGIN = 30.0
"""Seconds for transport on top of a command's own time."""
LONGEST = 900.0
"""Seconds that the service keeps a request waiting; a command with more of them is streamed."""
_CODE = {
    "python": ("python3", "-"),
    "bash": ("bash", "-s"),
    "sh": ("/bin/sh", "-s"),
    "javascript": ("node", "-"),
    "ruby": ("ruby", "-"),
    "perl": ("perl", "-"),
}


class Sandbox:
    """One open sandbox. `wait` is how long a call may take, in seconds; everything raises
    SandboxdError and nothing else for what goes wrong on the way. Leaving the context kills it."""

    def __init__(self, client: Client, info: SandboxInfo, *, own_client: bool = False) -> None:
        """Use `create` or `connect`."""
        self._client, self._own_client = client, own_client
        self._core = _core(client)
        self.id = info.id
        self.info = info
        """As it was last seen; `refresh` looks again."""
        self.process = Processes(self)
        self.files = Files(self)
        self.pty = Ptys(self)
        self.ports = Ports(self)
        self.contexts = Contexts(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}, {self.info.state} when last seen>"

    @classmethod
    def create(
        cls,
        *,
        client: Client | None = None,
        idempotency_key: str | None = None,
        wait: float = CREATION,
        **options: Unpack[SandboxOptions],
    ) -> Self:
        """A new one, or with `key` the one that has it already. `client` is the service; without it,
        one is made of the environment, and closed with the sandbox."""
        return cls._opened(
            client, lambda core: core.create(options, idempotency_key, Deadline(wait))
        )

    @classmethod
    def connect(cls, sandbox: str, *, client: Client | None = None, wait: float = SHORT) -> Self:
        """One that was created before, here or elsewhere. Raises RequestError, `code` `not_found`."""
        return cls._opened(client, lambda core: core.sandbox(sandbox, Deadline(wait)))

    @classmethod
    def list(
        cls,
        *,
        client: Client | None = None,
        state: Literal["running", "paused", "ended"] | None = None,
        metadata: Mapping[str, str] | None = None,
        wait: float = SHORT,
    ) -> Iterator[SandboxInfo]:
        """Those there are, the newest first; with `metadata`, those that have all of these pairs."""
        used = client or Client()
        deadline, cursor = Deadline(wait), None
        try:
            while True:
                page, cursor = used._do(
                    _core(used).page(state, metadata or {}, cursor, 100, deadline)
                )
                yield from page
                if cursor is None:
                    return
        finally:
            if client is None:
                used.close()

    @classmethod
    def _opened(cls, client: Client | None, flow: Any) -> Self:
        used = client or Client()
        try:
            info = used._do(flow(_core(used)))
        except BaseException:
            if client is None:
                used.close()
            raise
        return cls(used, info, own_client=client is None)

    # Commands

    def run(
        self,
        command: Command,
        *,
        input: str | bytes = "",
        timeout: float | None = 60.0,
        on_stdout: Heard | None = None,
        on_stderr: Heard | None = None,
        **options: Unpack[CommandOptions],
    ) -> CommandResult:
        """Runs a command to its end. A string is a script for the sandbox's /bin/sh, a list is argv.

        `timeout` seconds after its start it is killed, and `timed_out` says so; None: as long as the
        sandbox lives. `on_stdout` and `on_stderr` hear of output as it comes. A bad end is a result,
        never an error.
        """
        body = command_body(command, options, input=input, timeout=timeout)
        deadline = Deadline((timeout or 30 * 86_400.0) + MARGIN)
        if on_stdout is None and on_stderr is None and timeout is not None and timeout < LONGEST:
            return self._do(self._core.execute(self.id, body, deadline))
        collector = Collector(on_stdout, on_stderr, options.get("keep_output", 1 << 20))
        for _ in self._follow(body, "", deadline, collector):
            pass
        return collector.result()

    def stream(
        self,
        command: Command,
        *,
        input: str | bytes = "",
        timeout: float = 3600.0,
        **options: Unpack[CommandOptions],
    ) -> Iterator[Output]:
        """Runs a command and gives its output, piece by piece, to its end. Leaving the iteration early
        kills it."""
        body = command_body(command, options, input=input, timeout=timeout)
        yield from self._follow(body, "", Deadline(timeout + MARGIN), Collector(keep=0))

    def run_code(
        self, code: str, *, language: str = "python", timeout: float | None = 60.0,
        on_stdout: Heard | None = None, on_stderr: Heard | None = None,
        **options: Unpack[CommandOptions],
    ) -> CommandResult:  # fmt: skip
        """Runs a program, given to its interpreter on stdin. Raises ValueError for a language that is
        none of python, bash, sh, javascript, ruby, perl."""
        if language not in _CODE:
            raise ValueError(f"language is one of {', '.join(_CODE)}")
        return self.run(
            _CODE[language], input=code, timeout=timeout, on_stdout=on_stdout,
            on_stderr=on_stderr, **options,
        )  # fmt: skip

    def context(
        self,
        language: ContextLanguage | str = "python",
        *,
        cwd: str = "/work",
        env: Mapping[str, str] | None = None,
    ) -> Context:
        """A new interpreter that keeps its state between pieces of code, as `contexts.create`."""
        return self.contexts.create(language, cwd=cwd, env=env)

    def _follow(
        self, body: bytes | None, process: str, deadline: Deadline, collector: Collector
    ) -> Iterator[Output]:
        flow = self._core.follow(self.id, body, process, deadline)
        with closing(documents_of(self._client, flow, deadline)) as documents:
            for document in documents:
                piece = collector.feed(document)
                if piece is not None:
                    yield piece
        if collector.process is None:
            raise broken(process or "the command")

    # Life

    def refresh(self, *, wait: float = SHORT) -> SandboxInfo:
        """What it is now; also after its end, for a day: `info.end` says why."""
        return self._seen(self._core.sandbox(self.id, Deadline(wait)))

    def extend(self, timeout: float | None = None, *, wait: float = SHORT) -> SandboxInfo:
        """Its time to live starts again from now; `timeout` is a new one."""
        body = {} if timeout is None else {"timeout": timeout}
        return self._seen(self._core.change(self.id, "extend", body, Deadline(wait)))

    def update(
        self,
        *,
        limits: SandboxLimits | Mapping[str, float] | None = None,
        metadata: Mapping[str, str] | None = None,
        idle_timeout: float | None = None,
        on_timeout: Literal["kill", "pause"] | None = None,
        network: str | Mapping[str, Any] | None = None,
        wait: float = SHORT,
    ) -> SandboxInfo:
        """Changes what may be changed while it lives; `idle_timeout` 0 takes it away."""
        given = limits.given() if isinstance(limits, SandboxLimits) else limits
        body = {"limits": given, "metadata": metadata, "idle_timeout": idle_timeout,
                "on_timeout": on_timeout, "network": network}  # fmt: skip
        body = {name: value for name, value in body.items() if value is not None}
        return self._seen(self._core.update(self.id, body, Deadline(wait)))

    def pause(self, *, wait: float = SHORT) -> SandboxInfo:
        """Everything in it stands still until the next call that needs it, or `resume`."""
        return self._seen(self._core.change(self.id, "pause", None, Deadline(wait)))

    def resume(self, *, wait: float = SHORT) -> SandboxInfo:
        return self._seen(self._core.change(self.id, "resume", None, Deadline(wait)))

    def snapshot(self, name: str | None = None, *, wait: float = COPYING) -> Snapshot:
        """Its files become an image; processes are not part of it."""
        return self._do(self._core.snapshot(self.id, name, Deadline(wait)))

    def fork(self, count: int = 1, *, wait: float = COPYING) -> "Sequence[Sandbox]":
        """`count` new sandboxes with the files that this one has at one instant. They are killed by
        themselves, not with this one."""
        made = self._do(self._core.fork(self.id, count, Deadline(wait)))
        return [Sandbox(self._client, info) for info in made]

    def metrics(self, *, wait: float = SHORT) -> Metrics:
        return self._do(self._core.metrics(self.id, Deadline(wait)))

    def network_records(
        self, *, after: str | None = None, limit: int = 100, wait: float = SHORT
    ) -> tuple[NetworkRecord, ...]:
        """What it asked of its network, the oldest first; also after its end. `after` is the `id` of the
        last that is known."""
        return self._do(self._core.network_records(self.id, after, limit, Deadline(wait)))

    def metrics_stream(self, interval: int = 5, *, wait: float = 86_400.0) -> Iterator[Metrics]:
        """What it uses, every `interval` seconds, for `wait` seconds: then Timeout is raised."""
        deadline = Deadline(wait)
        flow = self._core.used(self.id, interval, deadline)
        with closing(documents_of(self._client, flow, deadline)) as documents:
            for document in documents:
                yield use_of(document)

    def metrics_history(self, *, after: str | None = None, wait: float = SHORT) -> MetricsHistory:
        """What it has used over time, later than the sample at `after`."""
        return self._do(self._core.history(self.id, after, Deadline(wait)))

    def events(self, *, after: str | None = None, wait: float = 86_400.0) -> Iterator[SandboxEvent]:
        """What happened and happens to it, to its end."""
        deadline = Deadline(wait)
        flow = self._core.events_of(self.id, after, deadline)
        with closing(documents_of(self._client, flow, deadline)) as documents:
            for document in documents:
                yield happening_of(document)

    @classmethod
    def all_events(
        cls, *, client: Client | None = None, after: str | None = None, wait: float = 86_400.0
    ) -> Iterator[SandboxEvent]:
        """What happens to all the tenant's sandboxes, from now on or after the event of that id, for
        `wait` seconds: then Timeout is raised."""
        used = client or Client()
        deadline = Deadline(wait)
        try:
            flow = _core(used).events_of(None, after, deadline)
            with closing(documents_of(used, flow, deadline)) as documents:
                for document in documents:
                    yield happening_of(document)
        finally:
            if client is None:
                used.close()

    def kill(self, *, wait: float = SHORT) -> SandboxInfo:
        """Ends it with everything in it; one that has ended is no error."""
        return self._seen(self._core.kill(self.id, Deadline(wait)))

    def close(self) -> None:
        """Lets go of it without ending it."""
        if self._own_client:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.kill()
        except RequestError as refusal:
            if refusal.code != "not_found":
                raise
        finally:
            self.close()

    def _seen(self, flow: Flow[SandboxInfo]) -> SandboxInfo:
        self.info = self._do(flow)
        return self.info

    def _do(self, flow: Flow[T]) -> T:
        return self._client._do(flow)


class Processes:
    """`sandbox.process`: commands that outlive the call that started them."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def start(
        self,
        command: Command,
        *,
        input: str | bytes = "",
        stdin: bool = False,
        timeout: float | None = None,
        wait: float = SHORT,
        **options: Unpack[CommandOptions],
    ) -> "Process":
        """Starts a command and returns at once. `input` (at most 64 KiB) is all of its stdin, unless
        `stdin` keeps that open for `write`."""
        body = command_body(command, options, input=input, timeout=timeout, stdin=stdin)
        core = self._sandbox._core
        info = self._sandbox._do(core.start(self._sandbox.id, body, Deadline(wait)))
        return Process(self._sandbox, info)

    def live(
        self,
        command: Command,
        *,
        stdin: bool = False,
        pty: tuple[int, int] | None = None,
        timeout: float | None = None,
        wait: float = 86_400.0,
        **options: Unpack[CommandOptions],
    ) -> Terminal:
        """A context manager: a command, live, both ways, that ends when it is left. `pty`: rows and
        columns of a terminal for it, instead of pipes."""
        body = command_body(command, options, timeout=timeout, stdin=stdin, pty=pty)
        endpoint = self._sandbox._core.endpoint
        return Terminal.started(endpoint, self._sandbox.id, body, Deadline(wait), kill=True)

    def list(self, *, wait: float = SHORT) -> Sequence[ProcessInfo]:
        """Those that run, and the last hundred that ended; the oldest first."""
        core = self._sandbox._core
        return self._sandbox._do(core.processes(self._sandbox.id, Deadline(wait)))

    def get(self, process: str, *, wait: float = SHORT) -> "Process":
        """The handle of one that was started before. Raises RequestError, `code` `not_found`."""
        core = self._sandbox._core
        flow = core.process(self._sandbox.id, process, 0, Deadline(wait))
        return Process(self._sandbox, self._sandbox._do(flow))


class Process:
    """A command in a sandbox."""

    def __init__(self, sandbox: Sandbox, info: ProcessInfo) -> None:
        self._sandbox = sandbox
        self.id = info.id
        self.info = info
        """As it was last seen."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}, {self.info.state} when last seen>"

    def refresh(self, *, wait: float = SHORT) -> ProcessInfo:
        return self._wait(0, Deadline(wait))

    def wait(self, timeout: float = 86_400.0) -> ProcessInfo:
        """What it is when it has ended. Raises Timeout after `timeout` seconds; it goes on then."""
        deadline = Deadline(timeout)
        while self.info.running:
            self._wait(max(1, min(300, int(deadline.check()))), deadline)
        return self.info

    def output(self, *, history: bool = True, wait: float = 86_400.0) -> Iterator[Output]:
        """What is kept of its output so far, unless `history` is false, and all that comes, to its
        end. Leaving the iteration leaves the process alone."""
        if not history:
            with self.attach(history=False, wait=wait) as terminal:
                for piece in terminal:
                    yield piece
            return
        deadline = Deadline(wait)
        for piece in self._sandbox._follow(None, self.id, deadline, Collector(keep=0)):
            yield piece

    def result(self, timeout: float = 86_400.0) -> CommandResult:
        """How it ended, with what is kept of its output."""
        collector = Collector(keep=64 << 20)
        for _ in self._sandbox._follow(None, self.id, Deadline(timeout), collector):
            pass
        result = collector.result()
        self.info = result.process
        return result

    def write(self, data: str | bytes, *, eof: bool = False, wait: float = SHORT) -> None:
        """To its stdin; returns when the process' pipe has taken all of it."""
        body: dict[str, Any] = {"eof": eof}
        if data:
            body["data"] = content(data)
        self._tell("stdin", body, wait)

    def close_stdin(self, *, wait: float = SHORT) -> None:
        self._tell("stdin", {"eof": True}, wait)

    def signal(self, signal: int | str, *, wait: float = SHORT) -> None:
        """Number or name, to it and its process group."""
        self._tell("signal", {"signal": signal}, wait)

    def kill(self, *, wait: float = SHORT) -> None:
        self.signal("SIGKILL", wait=wait)

    def attach(self, *, history: bool = True, wait: float = 86_400.0) -> Terminal:
        """A context manager: its output and input, live."""
        endpoint = self._sandbox._core.endpoint
        return Terminal.attached(
            endpoint, self._sandbox.id, self.id, Deadline(wait), history=history
        )

    def _tell(self, verb: str, body: Mapping[str, Any], wait: float) -> None:
        core = self._sandbox._core
        flow = core.tell(self._sandbox.id, self.id, verb, body, Deadline(wait))
        self.info = self._sandbox._do(flow)

    def _wait(self, seconds: int, deadline: Deadline) -> ProcessInfo:
        core = self._sandbox._core
        flow = core.process(self._sandbox.id, self.id, seconds, deadline)
        self.info = self._sandbox._do(flow)
        return self.info


class Ptys:
    """`sandbox.pty`: commands on a terminal."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def open(
        self,
        command: Command = ("/bin/sh", "-i"),
        *,
        rows: int = 24,
        cols: int = 80,
        wait: float = 86_400.0,
        **options: Unpack[CommandOptions],
    ) -> Terminal:
        """A context manager. The command goes on when it is left; `attach` of its process finds it
        again, also from elsewhere."""
        body = command_body(command, options, stdin=True, pty=(rows, cols))
        endpoint = self._sandbox._core.endpoint
        return Terminal.started(endpoint, self._sandbox.id, body, Deadline(wait))


class Ports:
    """`sandbox.ports`: servers in the sandbox, on its own loopback, whatever network it has."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def open(self, port: int, *, wait: float = SHORT) -> bool:
        """Whether somebody listens there."""
        return self._look(port, 0, Deadline(wait))

    def wait(self, port: int, timeout: float = 30.0) -> None:
        """Until somebody listens there. Raises Timeout after `timeout` seconds."""
        deadline = Deadline(timeout)
        while not self._look(port, max(1, min(300, int(deadline.check()))), deadline):
            pass

    def connect(self, port: int, *, wait: float = 86_400.0) -> PortStream:
        """A context manager: a TCP connection to it. Raises RequestError, `code` `port_closed`."""
        endpoint = self._sandbox._core.endpoint
        return PortStream.to(endpoint, self._sandbox.id, port, Deadline(wait))

    def link(self, port: int, *, expires_in: float = 3600.0, wait: float = SHORT) -> PortLink:
        """A URL with which whoever has it reaches the HTTP server there, from a browser too. It is
        absolute, on the port's own host name if the service has a domain for that, else below its API,
        where pages have no cookies. On a unix socket, only the path of the URL means anything."""
        core = self._sandbox._core
        return self._sandbox._do(core.link(self._sandbox.id, port, expires_in, Deadline(wait)))

    def _look(self, port: int, seconds: int, deadline: Deadline) -> bool:
        core = self._sandbox._core
        return self._sandbox._do(core.port(self._sandbox.id, port, seconds, deadline))


def _core(client: Client) -> SandboxCore:
    return client._sandboxes
