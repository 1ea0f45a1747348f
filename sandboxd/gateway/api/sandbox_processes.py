"""`/v1/sandboxes/{id}/exec` and `…/processes`: commands in an open sandbox.

`exec` waits for the end, or streams where the client accepts NDJSON or server-sent events; `processes`
starts in the background. The WebSockets are in `sandbox_sockets`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from msgspec.structs import asdict, replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.api.sandbox_lines import NDJSON, Document, Lines, accepted
from sandboxd.gateway.api.sandbox_requests import (
    Bodies,
    answer,
    flag,
    known_query,
    number,
    process_of,
    who,
)
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.following import Exit, Item, Output, command_result, followed
from sandboxd.gateway.sessions.line import Line, decoded
from sandboxd.gateway.sessions.names import is_context_id, new_process_id
from sandboxd.gateway.waiting import ClientGone, disconnected, unless
from sandboxd.model import FileContent, agent
from sandboxd.model.agent import Kind
from sandboxd.model.session import Process, ProcessRequest, ProcessResult, ProcessState, PtySize
from sandboxd.model.session_api import CommandRequest, InputRequest, SignalRequest

_MARGIN = 15.0
"""Seconds that a node may take beyond the command's own time."""
_MAX_INPUT = 1 << 20
"""Bytes of input that go with a call."""
_PIPE = 64 << 10
"""What a pipe takes though nobody reads it."""
_encode = msgspec.json.Encoder().encode
_FIELDS = ProcessRequest.__struct_fields__


class Processes:
    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway, self._bodies = gateway, bodies
        self._sandboxes = gateway.sandboxes

    async def execute(self, request: Request) -> ASGIApp:
        """Run a command to its end; it is killed if the client leaves before."""
        tenant, sandbox = who(request)
        known_query(request.query_params)
        wanted = await self._bodies.large(request, CommandRequest)
        process, data = command(wanted)
        kind = accepted(request)
        if kind is not None:
            return Lines(self._gateway, self._streamed(tenant, sandbox, process, data), kind)
        most = self._gateway.settings.gateway.total_timeout
        process = replace(process, timeout=min(process.timeout or most, most), stdin=False)
        with self._gateway.slots.take():
            work = self._run(tenant, sandbox, process, data, most + _MARGIN)
            result = await unless(
                disconnected(request.receive), ClientGone(), self._gateway.unless_closing(work)
            )
        return answer(command_result(result))

    async def _run(
        self, tenant: str, sandbox: str, process: ProcessRequest, data: bytes, timeout: float
    ) -> ProcessResult:
        name = new_process_id()
        if len(data) <= _MAX_INPUT:
            call = agent.Run(tenant=tenant, sandbox=sandbox, id=name, process=process, input=data)
            return await self._sandboxes.ask(call, ProcessResult, timeout)
        long = agent.Exec(
            tenant=tenant, sandbox=sandbox, id=name, process=replace(process, stdin=True),
            on_disconnect="kill",
        )  # fmt: skip
        async with self._sandboxes.open(long) as (line, _), feeding(line, data):
            while True:
                kind, payload = await line.next()
                if kind is Kind.REPLY:
                    return decoded(payload, ProcessResult)

    async def _streamed(
        self, tenant: str, sandbox: str, process: ProcessRequest, data: bytes
    ) -> AsyncIterator[Document]:
        process = replace(process, stdin=bool(data))
        call = agent.Exec(
            tenant=tenant, sandbox=sandbox, id=new_process_id(), process=process,
            on_disconnect="kill",
        )  # fmt: skip
        async with followed(self._sandboxes, call) as (line, items), feeding(line, data):
            async for item in items:
                yield _document(item)

    async def all(self, request: Request) -> Response:
        """GET: those that run, and the last that ended. POST: start one in the background."""
        tenant, sandbox = who(request)
        known_query(request.query_params)
        if request.method == "POST":
            wanted = await self._bodies.large(request, CommandRequest)
            return answer(await self._start(tenant, sandbox, wanted), 201)
        call = agent.Processes(tenant=tenant, sandbox=sandbox)
        found = await self._sandboxes.ask(call, agent.ProcessList)
        processes = [each for each in found.processes if not is_context_id(each.id)]
        return answer(agent.ProcessList(processes))

    async def _start(self, tenant: str, sandbox: str, wanted: CommandRequest) -> Process:
        process, data = command(wanted)
        if len(data) > _PIPE:
            raise InvalidRequest(
                f"in the background it is at most {_PIPE} bytes; send the rest to its stdin",
                field="input",
            )
        if data:
            process = replace(process, stdin=True)
        call = agent.Start(tenant=tenant, sandbox=sandbox, id=new_process_id(), process=process)
        started = await self._sandboxes.ask(call, Process)
        if data and started.state is ProcessState.RUNNING:
            say = agent.Input(
                tenant=tenant, sandbox=sandbox, process=started.id, data=data,
                eof=not wanted.stdin,
            )  # fmt: skip
            return await self._sandboxes.ask(say, Process)
        return started

    async def one(self, request: Request) -> Response:
        """The process; with `wait=SECONDS`, as soon as it has ended or so long has passed."""
        tenant, sandbox = who(request)
        name = process_of(request)
        known_query(request.query_params, "wait")
        wait = number(request.query_params, "wait", 0, 0, 3600) or 0
        call = agent.Inspect(tenant=tenant, sandbox=sandbox, process=name)
        if wait:
            with self._gateway.slots.take():
                await unless(
                    disconnected(request.receive), ClientGone(),
                    self._gateway.unless_closing(self._ended(call, float(wait))),
                )  # fmt: skip
        return answer(await self._sandboxes.ask(call, Process))

    async def _ended(self, call: agent.Inspect, seconds: float) -> None:
        attach = agent.Attach(
            tenant=call.tenant, sandbox=call.sandbox, process=call.process, history=False
        )
        try:
            async with asyncio.timeout(seconds), followed(self._sandboxes, attach) as (_, items):
                async for _ in items:
                    pass
        except TimeoutError:
            return

    async def output(self, request: Request) -> ASGIApp:
        """Its output so far and from now on, to its end; `history=false` for the latter alone."""
        tenant, sandbox = who(request)
        name = process_of(request)
        known_query(request.query_params, "history")
        call = agent.Attach(
            tenant=tenant, sandbox=sandbox, process=name,
            history=flag(request.query_params, "history", True),
        )  # fmt: skip
        return Lines(self._gateway, self._attached(call), accepted(request) or NDJSON)

    async def _attached(self, call: agent.Attach) -> AsyncIterator[Document]:
        async with followed(self._sandboxes, call) as (_, items):
            async for item in items:
                yield _document(item)

    async def signal(self, request: Request) -> Response:
        """To the process and its process group."""
        tenant, sandbox = who(request)
        name = process_of(request)
        wanted = await self._bodies.small(request, SignalRequest)
        call = agent.Signal(
            tenant=tenant, sandbox=sandbox, process=name,
            signal=admission.signal_number(wanted.signal),
        )  # fmt: skip
        return answer(await self._sandboxes.ask(call, Process))

    async def resize(self, request: Request) -> Response:
        tenant, sandbox = who(request)
        name = process_of(request)
        wanted = await self._bodies.small(request, PtySize)
        call = agent.Resize(tenant=tenant, sandbox=sandbox, process=name, size=wanted)
        return answer(await self._sandboxes.ask(call, Process))

    async def stdin(self, request: Request) -> Response:
        """The answer comes when the process' pipe has taken all of it."""
        tenant, sandbox = who(request)
        name = process_of(request)
        wanted = await self._bodies.large(request, InputRequest)
        data = admission.content(wanted.data, "data")
        call = agent.Input(tenant=tenant, sandbox=sandbox, process=name, data=b"")
        with self._gateway.slots.take():
            work = self._input(call, data, wanted.eof)
            process = await unless(disconnected(request.receive), ClientGone(), work)
        return answer(process)

    async def _input(self, call: agent.Input, data: bytes, eof: bool) -> Process:
        """In pieces: a call has a largest size."""
        while True:
            piece, data = data[:_MAX_INPUT], data[_MAX_INPUT:]
            said = replace(call, data=piece, eof=eof and not data)
            process = await self._sandboxes.ask(said, Process)
            if not data:
                return process


def command(wanted: CommandRequest) -> tuple[ProcessRequest, bytes]:
    """The process that a request means, checked, and its input."""
    fields = asdict(wanted)
    process = ProcessRequest(**{name: fields[name] for name in _FIELDS})
    admission.check_process(process)
    return process, admission.content(wanted.input, "input")


@asynccontextmanager
async def feeding(line: Line, data: bytes) -> AsyncIterator[None]:
    """`data`, and its end, go to the process' stdin while the block reads what it says."""
    if not data:
        yield
        return
    task = asyncio.create_task(_feed(line, data))
    try:
        yield
    finally:
        task.cancel()
        # Whoever reads the line has met its end too.
        await asyncio.gather(task, return_exceptions=True)


async def _feed(line: Line, data: bytes) -> None:
    await line.write_data(data)
    await line.write(agent.frame(Kind.END))


def _document(item: Item) -> Document:
    if isinstance(item, Output):
        content = FileContent.of(item.data)
        body = {"type": item.stream} | (
            {"text": content.text} if content.text is not None else {"base64": content.base64}
        )
        return Document(item.stream, _encode(body))
    kind = "exit" if isinstance(item, Exit) else "started"
    if isinstance(item, agent.Missed):
        kind = "missed"
    return Document(kind, _encode(item))
