"""A sandbox that lives, for asyncio. `sync_sandbox` is made of this file, see tools/unasync.py."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from sandboxd_client.async_client import AsyncClient
from sandboxd_client.async_contexts import AsyncContext, AsyncContexts
from sandboxd_client.async_documents import documents_of
from sandboxd_client.async_files import AsyncFiles
from sandboxd_client.async_port import AsyncPortStream
from sandboxd_client.async_terminal import AsyncTerminal
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


class AsyncSandbox:
    """One open sandbox. `wait` is how long a call may take, in seconds; everything raises
    SandboxdError and nothing else for what goes wrong on the way. Leaving the context kills it."""

    def __init__(self, client: AsyncClient, info: SandboxInfo, *, own_client: bool = False) -> None:
        """Use `create` or `connect`."""
        self._client, self._own_client = client, own_client
        self._core = _core(client)
        self.id = info.id
        self.info = info
        """As it was last seen; `refresh` looks again."""
        self.process = AsyncProcesses(self)
        self.files = AsyncFiles(self)
        self.pty = AsyncPtys(self)
        self.ports = AsyncPorts(self)
        self.contexts = AsyncContexts(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}, {self.info.state} when last seen>"

    @classmethod
    async def create(
        cls,
        *,
        client: AsyncClient | None = None,
        idempotency_key: str | None = None,
        wait: float = CREATION,
        **options: Unpack[SandboxOptions],
    ) -> Self:
        """A new one, or with `key` the one that has it already. `client` is the service; without it,
        one is made of the environment, and closed with the sandbox."""
        return await cls._opened(
            client, lambda core: core.create(options, idempotency_key, Deadline(wait))
        )

    @classmethod
    async def connect(
        cls, sandbox: str, *, client: AsyncClient | None = None, wait: float = SHORT
    ) -> Self:
        """One that was created before, here or elsewhere. Raises RequestError, `code` `not_found`."""
        return await cls._opened(client, lambda core: core.sandbox(sandbox, Deadline(wait)))

    @classmethod
    async def list(
        cls,
        *,
        client: AsyncClient | None = None,
        state: Literal["running", "paused", "ended"] | None = None,
        metadata: Mapping[str, str] | None = None,
        wait: float = SHORT,
    ) -> AsyncIterator[SandboxInfo]:
        """Those there are, the newest first; with `metadata`, those that have all of these pairs."""
        used = client or AsyncClient()
        deadline, cursor = Deadline(wait), None
        try:
            while True:
                page, cursor = await used._do(
                    _core(used).page(state, metadata or {}, cursor, 100, deadline)
                )
                for info in page:
                    yield info
                if cursor is None:
                    return
        finally:
            if client is None:
                await used.aclose()

    @classmethod
    async def _opened(cls, client: AsyncClient | None, flow: Any) -> Self:
        used = client or AsyncClient()
        try:
            info = await used._do(flow(_core(used)))
        except BaseException:
            if client is None:
                await used.aclose()
            raise
        return cls(used, info, own_client=client is None)

    # Commands

    async def run(
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
            return await self._do(self._core.execute(self.id, body, deadline))
        collector = Collector(on_stdout, on_stderr, options.get("keep_output", 1 << 20))
        async for _ in self._follow(body, "", deadline, collector):
            pass
        return collector.result()

    async def stream(
        self,
        command: Command,
        *,
        input: str | bytes = "",
        timeout: float = 3600.0,
        **options: Unpack[CommandOptions],
    ) -> AsyncIterator[Output]:
        """Runs a command and gives its output, piece by piece, to its end. Leaving the iteration early
        kills it."""
        body = command_body(command, options, input=input, timeout=timeout)
        async for piece in self._follow(body, "", Deadline(timeout + MARGIN), Collector(keep=0)):
            yield piece

    async def run_code(
        self, code: str, *, language: str = "python", timeout: float | None = 60.0,
        on_stdout: Heard | None = None, on_stderr: Heard | None = None,
        **options: Unpack[CommandOptions],
    ) -> CommandResult:  # fmt: skip
        """Runs a program, given to its interpreter on stdin. Raises ValueError for a language that is
        none of python, bash, sh, javascript, ruby, perl."""
        if language not in _CODE:
            raise ValueError(f"language is one of {', '.join(_CODE)}")
        return await self.run(
            _CODE[language], input=code, timeout=timeout, on_stdout=on_stdout,
            on_stderr=on_stderr, **options,
        )  # fmt: skip

    async def context(
        self,
        language: ContextLanguage | str = "python",
        *,
        cwd: str = "/work",
        env: Mapping[str, str] | None = None,
    ) -> AsyncContext:
        """A new interpreter that keeps its state between pieces of code, as `contexts.create`."""
        return await self.contexts.create(language, cwd=cwd, env=env)

    async def _follow(
        self, body: bytes | None, process: str, deadline: Deadline, collector: Collector
    ) -> AsyncIterator[Output]:
        flow = self._core.follow(self.id, body, process, deadline)
        async with aclosing(documents_of(self._client, flow, deadline)) as documents:
            async for document in documents:
                piece = collector.feed(document)
                if piece is not None:
                    yield piece
        if collector.process is None:
            raise broken(process or "the command")

    # Life

    async def refresh(self, *, wait: float = SHORT) -> SandboxInfo:
        """What it is now; also after its end, for a day: `info.end` says why."""
        return await self._seen(self._core.sandbox(self.id, Deadline(wait)))

    async def extend(self, timeout: float | None = None, *, wait: float = SHORT) -> SandboxInfo:
        """Its time to live starts again from now; `timeout` is a new one."""
        body = {} if timeout is None else {"timeout": timeout}
        return await self._seen(self._core.change(self.id, "extend", body, Deadline(wait)))

    async def update(
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
        return await self._seen(self._core.update(self.id, body, Deadline(wait)))

    async def pause(self, *, wait: float = SHORT) -> SandboxInfo:
        """Everything in it stands still until the next call that needs it, or `resume`."""
        return await self._seen(self._core.change(self.id, "pause", None, Deadline(wait)))

    async def resume(self, *, wait: float = SHORT) -> SandboxInfo:
        return await self._seen(self._core.change(self.id, "resume", None, Deadline(wait)))

    async def snapshot(self, name: str | None = None, *, wait: float = COPYING) -> Snapshot:
        """Its files become an image; processes are not part of it."""
        return await self._do(self._core.snapshot(self.id, name, Deadline(wait)))

    async def fork(self, count: int = 1, *, wait: float = COPYING) -> "Sequence[AsyncSandbox]":
        """`count` new sandboxes with the files that this one has at one instant. They are killed by
        themselves, not with this one."""
        made = await self._do(self._core.fork(self.id, count, Deadline(wait)))
        return [AsyncSandbox(self._client, info) for info in made]

    async def metrics(self, *, wait: float = SHORT) -> Metrics:
        return await self._do(self._core.metrics(self.id, Deadline(wait)))

    async def network_records(
        self, *, after: str | None = None, limit: int = 100, wait: float = SHORT
    ) -> tuple[NetworkRecord, ...]:
        """What it asked of its network, the oldest first; also after its end. `after` is the `id` of the
        last that is known."""
        return await self._do(self._core.network_records(self.id, after, limit, Deadline(wait)))

    async def metrics_stream(
        self, interval: int = 5, *, wait: float = 86_400.0
    ) -> AsyncIterator[Metrics]:
        """What it uses, every `interval` seconds, for `wait` seconds: then Timeout is raised."""
        deadline = Deadline(wait)
        flow = self._core.used(self.id, interval, deadline)
        async with aclosing(documents_of(self._client, flow, deadline)) as documents:
            async for document in documents:
                yield use_of(document)

    async def metrics_history(
        self, *, after: str | None = None, wait: float = SHORT
    ) -> MetricsHistory:
        """What it has used over time, later than the sample at `after`."""
        return await self._do(self._core.history(self.id, after, Deadline(wait)))

    async def events(
        self, *, after: str | None = None, wait: float = 86_400.0
    ) -> AsyncIterator[SandboxEvent]:
        """What happened and happens to it, to its end."""
        deadline = Deadline(wait)
        flow = self._core.events_of(self.id, after, deadline)
        async with aclosing(documents_of(self._client, flow, deadline)) as documents:
            async for document in documents:
                yield happening_of(document)

    @classmethod
    async def all_events(
        cls, *, client: AsyncClient | None = None, after: str | None = None, wait: float = 86_400.0
    ) -> AsyncIterator[SandboxEvent]:
        """What happens to all the tenant's sandboxes, from now on or after the event of that id, for
        `wait` seconds: then Timeout is raised."""
        used = client or AsyncClient()
        deadline = Deadline(wait)
        try:
            flow = _core(used).events_of(None, after, deadline)
            async with aclosing(documents_of(used, flow, deadline)) as documents:
                async for document in documents:
                    yield happening_of(document)
        finally:
            if client is None:
                await used.aclose()

    async def kill(self, *, wait: float = SHORT) -> SandboxInfo:
        """Ends it with everything in it; one that has ended is no error."""
        return await self._seen(self._core.kill(self.id, Deadline(wait)))

    async def aclose(self) -> None:
        """Lets go of it without ending it."""
        if self._own_client:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.kill()
        except RequestError as refusal:
            if refusal.code != "not_found":
                raise
        finally:
            await self.aclose()

    async def _seen(self, flow: Flow[SandboxInfo]) -> SandboxInfo:
        self.info = await self._do(flow)
        return self.info

    async def _do(self, flow: Flow[T]) -> T:
        return await self._client._do(flow)


class AsyncProcesses:
    """`sandbox.process`: commands that outlive the call that started them."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    async def start(
        self,
        command: Command,
        *,
        input: str | bytes = "",
        stdin: bool = False,
        timeout: float | None = None,
        wait: float = SHORT,
        **options: Unpack[CommandOptions],
    ) -> "AsyncProcess":
        """Starts a command and returns at once. `input` (at most 64 KiB) is all of its stdin, unless
        `stdin` keeps that open for `write`."""
        body = command_body(command, options, input=input, timeout=timeout, stdin=stdin)
        core = self._sandbox._core
        info = await self._sandbox._do(core.start(self._sandbox.id, body, Deadline(wait)))
        return AsyncProcess(self._sandbox, info)

    def live(
        self,
        command: Command,
        *,
        stdin: bool = False,
        pty: tuple[int, int] | None = None,
        timeout: float | None = None,
        wait: float = 86_400.0,
        **options: Unpack[CommandOptions],
    ) -> AsyncTerminal:
        """A context manager: a command, live, both ways, that ends when it is left. `pty`: rows and
        columns of a terminal for it, instead of pipes."""
        body = command_body(command, options, timeout=timeout, stdin=stdin, pty=pty)
        endpoint = self._sandbox._core.endpoint
        return AsyncTerminal.started(endpoint, self._sandbox.id, body, Deadline(wait), kill=True)

    async def list(self, *, wait: float = SHORT) -> Sequence[ProcessInfo]:
        """Those that run, and the last hundred that ended; the oldest first."""
        core = self._sandbox._core
        return await self._sandbox._do(core.processes(self._sandbox.id, Deadline(wait)))

    async def get(self, process: str, *, wait: float = SHORT) -> "AsyncProcess":
        """The handle of one that was started before. Raises RequestError, `code` `not_found`."""
        core = self._sandbox._core
        flow = core.process(self._sandbox.id, process, 0, Deadline(wait))
        return AsyncProcess(self._sandbox, await self._sandbox._do(flow))


class AsyncProcess:
    """A command in a sandbox."""

    def __init__(self, sandbox: AsyncSandbox, info: ProcessInfo) -> None:
        self._sandbox = sandbox
        self.id = info.id
        self.info = info
        """As it was last seen."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}, {self.info.state} when last seen>"

    async def refresh(self, *, wait: float = SHORT) -> ProcessInfo:
        return await self._wait(0, Deadline(wait))

    async def wait(self, timeout: float = 86_400.0) -> ProcessInfo:
        """What it is when it has ended. Raises Timeout after `timeout` seconds; it goes on then."""
        deadline = Deadline(timeout)
        while self.info.running:
            await self._wait(max(1, min(300, int(deadline.check()))), deadline)
        return self.info

    async def output(
        self, *, history: bool = True, wait: float = 86_400.0
    ) -> AsyncIterator[Output]:
        """What is kept of its output so far, unless `history` is false, and all that comes, to its
        end. Leaving the iteration leaves the process alone."""
        if not history:
            async with self.attach(history=False, wait=wait) as terminal:
                async for piece in terminal:
                    yield piece
            return
        deadline = Deadline(wait)
        async for piece in self._sandbox._follow(None, self.id, deadline, Collector(keep=0)):
            yield piece

    async def result(self, timeout: float = 86_400.0) -> CommandResult:
        """How it ended, with what is kept of its output."""
        collector = Collector(keep=64 << 20)
        async for _ in self._sandbox._follow(None, self.id, Deadline(timeout), collector):
            pass
        result = collector.result()
        self.info = result.process
        return result

    async def write(self, data: str | bytes, *, eof: bool = False, wait: float = SHORT) -> None:
        """To its stdin; returns when the process' pipe has taken all of it."""
        body: dict[str, Any] = {"eof": eof}
        if data:
            body["data"] = content(data)
        await self._tell("stdin", body, wait)

    async def close_stdin(self, *, wait: float = SHORT) -> None:
        await self._tell("stdin", {"eof": True}, wait)

    async def signal(self, signal: int | str, *, wait: float = SHORT) -> None:
        """Number or name, to it and its process group."""
        await self._tell("signal", {"signal": signal}, wait)

    async def kill(self, *, wait: float = SHORT) -> None:
        await self.signal("SIGKILL", wait=wait)

    def attach(self, *, history: bool = True, wait: float = 86_400.0) -> AsyncTerminal:
        """A context manager: its output and input, live."""
        endpoint = self._sandbox._core.endpoint
        return AsyncTerminal.attached(
            endpoint, self._sandbox.id, self.id, Deadline(wait), history=history
        )

    async def _tell(self, verb: str, body: Mapping[str, Any], wait: float) -> None:
        core = self._sandbox._core
        flow = core.tell(self._sandbox.id, self.id, verb, body, Deadline(wait))
        self.info = await self._sandbox._do(flow)

    async def _wait(self, seconds: int, deadline: Deadline) -> ProcessInfo:
        core = self._sandbox._core
        flow = core.process(self._sandbox.id, self.id, seconds, deadline)
        self.info = await self._sandbox._do(flow)
        return self.info


class AsyncPtys:
    """`sandbox.pty`: commands on a terminal."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    def open(
        self,
        command: Command = ("/bin/sh", "-i"),
        *,
        rows: int = 24,
        cols: int = 80,
        wait: float = 86_400.0,
        **options: Unpack[CommandOptions],
    ) -> AsyncTerminal:
        """A context manager. The command goes on when it is left; `attach` of its process finds it
        again, also from elsewhere."""
        body = command_body(command, options, stdin=True, pty=(rows, cols))
        endpoint = self._sandbox._core.endpoint
        return AsyncTerminal.started(endpoint, self._sandbox.id, body, Deadline(wait))


class AsyncPorts:
    """`sandbox.ports`: servers in the sandbox, on its own loopback, whatever network it has."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    async def open(self, port: int, *, wait: float = SHORT) -> bool:
        """Whether somebody listens there."""
        return await self._look(port, 0, Deadline(wait))

    async def wait(self, port: int, timeout: float = 30.0) -> None:
        """Until somebody listens there. Raises Timeout after `timeout` seconds."""
        deadline = Deadline(timeout)
        while not await self._look(port, max(1, min(300, int(deadline.check()))), deadline):
            pass

    def connect(self, port: int, *, wait: float = 86_400.0) -> AsyncPortStream:
        """A context manager: a TCP connection to it. Raises RequestError, `code` `port_closed`."""
        endpoint = self._sandbox._core.endpoint
        return AsyncPortStream.to(endpoint, self._sandbox.id, port, Deadline(wait))

    async def link(self, port: int, *, expires_in: float = 3600.0, wait: float = SHORT) -> PortLink:
        """A URL with which whoever has it reaches the HTTP server there, from a browser too. It is
        absolute, on the port's own host name if the service has a domain for that, else below its API,
        where pages have no cookies. On a unix socket, only the path of the URL means anything."""
        core = self._sandbox._core
        return await self._sandbox._do(
            core.link(self._sandbox.id, port, expires_in, Deadline(wait))
        )

    async def _look(self, port: int, seconds: int, deadline: Deadline) -> bool:
        core = self._sandbox._core
        return await self._sandbox._do(core.port(self._sandbox.id, port, seconds, deadline))


def _core(client: AsyncClient) -> SandboxCore:
    return client._sandboxes
