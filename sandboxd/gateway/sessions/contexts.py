"""Contexts as the gateway sees them: processes that speak `kernels.protocol`, which it takes apart here.

A run is a connection of its own to the process: its events are picked out of what the kernel says, a
client that reads slowly holds the kernel up, and one that leaves has its run interrupted. Nothing of a
context is remembered between two requests.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from sandboxd.errors import Conflict, InvalidRequest, NotFound, RequestError, SandboxdError
from sandboxd.gateway.bodies import Budget
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.following import Exit, Item, Output, Started, followed
from sandboxd.gateway.sessions.line import Line, NodeLost
from sandboxd.gateway.sessions.names import default_language, is_context_id, new_context_id
from sandboxd.gateway.sessions.sandboxes import PATIENCE, Sandboxes
from sandboxd.kernels import protocol
from sandboxd.model import agent
from sandboxd.model.agent import MAX_DATA, Missed
from sandboxd.model.context import (
    CodeEvent,
    CodeRequest,
    Configured,
    Context,
    ContextRequest,
    Ended,
    EndStatus,
    KernelEvent,
    Omitted,
    Refused,
    Stderr,
    default_context_id,
)
from sandboxd.model.session import Process, ProcessState

BUDGET = 256 << 20
"""Bytes of unfinished events that the process holds for all its clients."""
_DOCUMENT_MAX = 3 << 20
_START = 60.0
"""Seconds for an interpreter to come up on a busy machine."""
_GRACE = 3.0
"""Seconds for an interrupted run to end."""
_TAIL = 2048
"""Bytes of a kernel's own stderr that are told with its end."""


class ContextUnavailable(RequestError):
    code, status, title = "context_unavailable", 422, "The sandbox cannot have such a context"


class Contexts:
    """One per gateway process."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._budget = Budget(BUDGET)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def create(self, tenant: str, sandbox: str, wanted: ContextRequest) -> Context:
        """A new one, when it is ready. Raises ContextUnavailable, and as `Sandboxes.ask`."""
        check(wanted)
        name = new_context_id()
        call = agent.StartContext(tenant=tenant, sandbox=sandbox, id=name, context=wanted)
        return await self._begun(call, wanted.cwd)

    async def restart(self, tenant: str, sandbox: str, context: str) -> Context:
        """The same with nothing in it, when it is ready. Raises as `create`, and NotFound."""
        process = await self._process(tenant, sandbox, context)
        call = agent.RestartContext(tenant=tenant, sandbox=sandbox, id=context)
        return await self._begun(call, process.cwd)

    async def list(self, tenant: str, sandbox: str) -> list[Context]:
        call = agent.Processes(tenant=tenant, sandbox=sandbox)
        found = await self._sandboxes.ask(call, agent.ProcessList)
        return [
            shown(process)
            for process in found.processes
            if is_context_id(process.id) and process.state is ProcessState.RUNNING
        ]

    async def get(self, tenant: str, sandbox: str, context: str) -> Context:
        """Raises NotFound, also for one that has ended."""
        return shown(await self._living(tenant, sandbox, context))

    async def remove(self, tenant: str, sandbox: str, context: str) -> Context:
        """End it and its process group; answered when it is gone. Raises NotFound."""
        process = await self._living(tenant, sandbox, context)
        await self._end(tenant, sandbox, context)
        attach = agent.Attach(tenant=tenant, sandbox=sandbox, process=context, history=False)
        async with asyncio.timeout(PATIENCE), followed(self._sandboxes, attach) as (_, items):
            async for _ in items:
                pass
        return shown(process)

    async def interrupt(self, tenant: str, sandbox: str, context: str) -> Context:
        """What runs in it is to end with an interrupt; the context stays. Raises NotFound."""
        process = await self._living(tenant, sandbox, context)
        await self._tell(tenant, sandbox, context, protocol.interrupt(None))
        return shown(process)

    async def run(
        self, tenant: str, sandbox: str, context: str, wanted: CodeRequest
    ) -> AsyncIterator[CodeEvent]:
        """What comes of a piece of code, from `started` to `end`. A default context is started with its
        first run. Raises NotFound, ContextUnavailable, InvalidRequest, and as `Sandboxes.open`; close
        it early and the run is interrupted."""
        admission.check_environment(wanted.env)
        run = secrets.token_hex(8)
        document = protocol.run(run, wanted.code, wanted.env)
        if len(document) > _DOCUMENT_MAX:
            raise InvalidRequest(f"is more than {_DOCUMENT_MAX} bytes", field="code")
        async with AsyncExitStack() as stack:
            line, items = await self._attached(stack, tenant, sandbox, context)
            if len(document) <= MAX_DATA:
                await line.write_data(document)
            else:  # in one piece: others may be writing too
                await self._tell(tenant, sandbox, context, document)
            clock = _Clock(line, wanted.timeout, lambda: self._stop(tenant, sandbox, context, run))
            stack.callback(clock.stop)
            reading = _Reading(run, self._budget, stack)
            try:
                async for item in items:
                    for event in reading.take(item):
                        yield clock.timed(event)
                    if reading.over:
                        return
                    if isinstance(item, Missed):
                        self._spawn(self._tell(tenant, sandbox, context, protocol.ask(run)))
            except NodeLost:
                if not clock.given_up:
                    raise
                yield Ended(status=EndStatus.TIMED_OUT, detail="the interrupt was not heeded")
            finally:
                if not reading.over and not clock.given_up:
                    self._stop(tenant, sandbox, context, run)

    async def _attached(
        self, stack: AsyncExitStack, tenant: str, sandbox: str, context: str
    ) -> tuple[Line, AsyncIterator[Item]]:
        language = default_language(context)
        call = agent.Attach(tenant=tenant, sandbox=sandbox, process=context, history=False)
        try:
            line, items, first = await self._follow(stack, call)
            if first.process.state is ProcessState.RUNNING:
                return line, items
        except NotFound as error:
            missing = await self._missing(tenant, sandbox, context, error)
            if language is None or missing is error:
                raise missing from None
            await self._start_default(tenant, sandbox, language)
        else:
            if language is None:
                raise Conflict("the context's interpreter has ended; restart it")
            again = agent.RestartContext(tenant=tenant, sandbox=sandbox, id=context)
            await self._sandboxes.ask(again, Process)
        # Its first words say why, if it cannot be.
        begun = agent.Attach(tenant=tenant, sandbox=sandbox, process=context, history=True)
        line, items, _ = await self._follow(stack, begun)
        return line, items

    async def _follow(
        self, stack: AsyncExitStack, call: agent.Attach
    ) -> tuple[Line, AsyncIterator[Item], Started]:
        line, items = await stack.enter_async_context(followed(self._sandboxes, call))
        first = await anext(items)
        assert isinstance(first, Started)  # of `followed`
        return line, items, first

    async def _start_default(self, tenant: str, sandbox: str, language: str) -> None:
        call = agent.StartContext(
            tenant=tenant, sandbox=sandbox, id=default_context_id(language),
            context=ContextRequest(language=language),
        )  # fmt: skip
        try:
            _check_started(await self._sandboxes.ask(call, Process))
        except Conflict:
            return  # somebody else's first run has come before

    async def _begun(self, call: agent.StartContext | agent.RestartContext, cwd: str) -> Context:
        process = await self._sandboxes.ask(call, Process)
        _check_started(process)
        attach = agent.Attach(
            tenant=call.tenant, sandbox=call.sandbox, process=call.id, history=True
        )
        try:
            async with (
                asyncio.timeout(_START),
                followed(self._sandboxes, attach) as (line, items),
                AsyncExitStack() as stack,
            ):
                await line.write_data(protocol.configure(cwd))
                reading = _Reading(None, self._budget, stack)
                async for item in items:
                    for event in reading.take(item):
                        if isinstance(event, Ended):
                            raise ContextUnavailable(event.detail)
                    if reading.configured:
                        break
        except BaseException as error:
            self._spawn(self._end(call.tenant, call.sandbox, call.id))
            if isinstance(error, TimeoutError):
                raise ContextUnavailable(f"it was not ready in {_START:g} seconds") from None
            raise
        return shown(process)

    async def _process(self, tenant: str, sandbox: str, context: str) -> Process:
        """One that was started, even if it has ended. Raises NotFound."""
        call = agent.Inspect(tenant=tenant, sandbox=sandbox, process=context)
        try:
            return await self._sandboxes.ask(call, Process)
        except NotFound as error:
            raise await self._missing(tenant, sandbox, context, error) from None

    async def _missing(
        self, tenant: str, sandbox: str, context: str, error: NotFound
    ) -> SandboxdError:
        """What a node's NotFound is about: the sandbox or the context. Raises SandboxEnded, NotFound."""
        if type(error) is not NotFound:
            return error
        await self._sandboxes.live(tenant, sandbox)
        return NotFound(f"there is no context {context}")

    async def _living(self, tenant: str, sandbox: str, context: str) -> Process:
        """Raises NotFound."""
        process = await self._process(tenant, sandbox, context)
        if process.state is not ProcessState.RUNNING:
            raise NotFound(f"context {context} has ended")
        return process

    async def _tell(self, tenant: str, sandbox: str, context: str, document: bytes) -> None:
        call = agent.Input(tenant=tenant, sandbox=sandbox, process=context, data=document)
        await self._sandboxes.ask(call, Process)

    def _stop(self, tenant: str, sandbox: str, context: str, run: str) -> None:
        self._spawn(self._tell(tenant, sandbox, context, protocol.interrupt(run)))

    async def _end(self, tenant: str, sandbox: str, context: str) -> None:
        call = agent.Signal(tenant=tenant, sandbox=sandbox, process=context, signal=9)
        await self._sandboxes.ask(call, Process)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Interrupts that are on their way arrive, for a second."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)


class _Clock:
    """A run's time: first it is interrupted, then given up."""

    def __init__(self, line: Line, timeout: float | None, interrupt: Callable[[], None]) -> None:
        self._line, self._interrupt = line, interrupt
        self._loop = asyncio.get_running_loop()
        self._timer = None if timeout is None else self._loop.call_later(timeout, self._ring)
        self.late = self.given_up = False

    def _ring(self) -> None:
        self.late = True
        self._interrupt()
        self._timer = self._loop.call_later(_GRACE, self._give_up)

    def _give_up(self) -> None:
        self.given_up = True
        self._line.close()

    def timed(self, event: CodeEvent) -> CodeEvent:
        """An end that came of the time's end is one."""
        if isinstance(event, Ended) and self.late:
            event.status = EndStatus.TIMED_OUT
        return event

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Reading:
    """One run's events out of what its process says; None: of a context that begins."""

    def __init__(self, run: str | None, budget: Budget, stack: AsyncExitStack) -> None:
        self._run = run
        self._share = stack.enter_context(budget.share())
        self._decoder = protocol.Decoder()
        self._stderr = b""
        self.over = self.configured = False

    def take(self, item: Item) -> list[CodeEvent]:
        """Raises ContextUnavailable, and Unavailable if too much is held already."""
        match item:
            case Output("stdout", data):
                events = self._decoder.feed(data)
                if self._decoder.held > self._share.size:
                    self._share.grow(self._decoder.held - self._share.size)
                return [event for each in events for event in self._mine(each)]
            case Output(_, data):
                self._stderr = (self._stderr + data)[-_TAIL:]
                if self._run is not None and not self.over:
                    return [Stderr(text=data.decode(errors="replace"), time=time.time())]
            case Missed():
                self._decoder.resync()
                return [Omitted()]
            case Exit(process):
                self.over = True
                return [Ended(status=EndStatus.DIED, detail=self._death(process))]
        return []

    def _mine(self, event: KernelEvent) -> list[CodeEvent]:
        match event:
            case Refused():
                self.over = True
                raise ContextUnavailable(
                    event.detail[:1000], field="cwd" if event.reason == "bad_cwd" else "language"
                )
            case Configured():
                self.configured = True
            case Ended():
                if event.of == self._run and not self.over:
                    self.over = True
                    event.run = event.of = None
                    return [event]
            case Omitted():
                return [event]
            case _ if event.run == self._run and not self.over and self._run is not None:
                event.run = None
                return [event]
        return []

    def _death(self, process: Process) -> str:
        how = process.signal or f"exit code {process.exit_code}"
        said = self._stderr.decode(errors="replace").strip()
        return f"the interpreter ended: {how}" + (f": {said}" if said else "")


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """An interrupt comes too late as easily as in time."""
    try:
        await work
    except SandboxdError:
        return


def check(wanted: ContextRequest) -> None:
    """Raises InvalidRequest."""
    admission.check_environment(wanted.env)
    admission.check_cwd(wanted.cwd)


def shown(process: Process) -> Context:
    return Context(
        id=process.id,
        language=process.tag,
        cwd=process.cwd,
        started_at=process.started_at,
        pid=process.pid,
    )


def _check_started(process: Process) -> None:
    """Raises ContextUnavailable if the interpreter is not there at all."""
    if process.error == "bad_cwd":
        raise ContextUnavailable(f"{process.cwd}: not a directory that can be entered", field="cwd")
    if process.error is not None:
        raise ContextUnavailable(
            f"{process.command[0]} of the image: {process.error}", field="language"
        )
