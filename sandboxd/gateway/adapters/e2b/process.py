"""`process.Process`: commands and terminals in a sandbox.

Clients know a process by its number inside or by a tag; here it has an id that is never another's. Both
users of E2B are the sandbox's one: `root` has the name and no more power.
"""

import signal
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from sandboxd.errors import Conflict, InvalidRequest, NotFound, SandboxEnded
from sandboxd.gateway.adapters.e2b import paths
from sandboxd.gateway.adapters.e2b.errors import NoProcess
from sandboxd.gateway.adapters.e2b.process_messages import (
    InputEvent,
    Nothing,
    Selected,
    Selector,
    SendInput,
    SendSignal,
    Start,
    Update,
)
from sandboxd.gateway.adapters.e2b.rpc import Call, ClientStream, Method, ServerStream, Unary
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.following import Exit, Item, Output, Started, followed
from sandboxd.gateway.sessions.names import is_context_id, new_process_id
from sandboxd.model import agent
from sandboxd.model.session import Process as Record
from sandboxd.model.session import ProcessRequest, ProcessState, PtySize, Sandbox, SandboxState

_PIECE = 1 << 20
"""Bytes of input that go with one call to the node."""
_REMEMBERED = 10_000
_KEPT = 1 << 20
"""Bytes of output that whoever connects later is given first."""
_SIGNALS = {"SIGNAL_SIGTERM": signal.SIGTERM, "SIGNAL_SIGKILL": signal.SIGKILL}
_ALIVE: dict[str, Any] = {"event": {"keepalive": {}}}
_FAILED = {
    "not_found": "the command was not found",
    "denied": "the command may not be executed",
    "bad_cwd": "cwd does not exist or is no directory",
}


class Processes:
    def __init__(self, gateway: Gateway) -> None:
        self._sandboxes = gateway.sandboxes
        self._ids: OrderedDict[tuple[str, int], str] = OrderedDict()
        """Ids of processes by sandbox and number, of those that were started here."""

    def methods(self) -> dict[str, Method]:
        service = "/process.Process"
        return {
            f"{service}/List": Unary(Nothing, self.all),
            f"{service}/Start": ServerStream(Start, self.start, _ALIVE),
            f"{service}/Connect": ServerStream(Selected, self.connect, _ALIVE),
            f"{service}/SendInput": Unary(SendInput, self.send_input),
            f"{service}/StreamInput": ClientStream(InputEvent, self.stream_input),
            f"{service}/CloseStdin": Unary(Selected, self.close_stdin),
            f"{service}/SendSignal": Unary(SendSignal, self.send_signal),
            f"{service}/Update": Unary(Update, self.update),
        }

    async def all(self, call: Call, wanted: Nothing) -> dict[str, Any]:
        return {"processes": [_info(each) for each in await self._running(call)]}

    async def start(self, call: Call, wanted: Start) -> AsyncIterator[object]:
        request = _request(call, wanted)
        started = agent.Exec(
            tenant=call.tenant, sandbox=call.sandbox, id=new_process_id(), process=request
        )
        async with followed(self._sandboxes, started) as (_, items):
            async for item in items:
                if isinstance(item, Started):
                    self._remember(call, item.process)
                await self._check_end(call, item)
                for event in _events(item, request.pty is not None):
                    yield event

    async def connect(self, call: Call, wanted: Selected) -> AsyncIterator[object]:
        """What it says from now on."""
        found = await self._find(call, wanted.process)
        attach = agent.Attach(
            tenant=call.tenant, sandbox=call.sandbox, process=found.id, history=False
        )
        async with followed(self._sandboxes, attach) as (_, items):
            async for item in items:
                await self._check_end(call, item)
                for event in _events(item, found.pty):
                    yield event

    async def _check_end(self, call: Call, item: Item) -> None:
        """Raises SandboxEnded where the process was killed with its sandbox: clients want to know."""
        if isinstance(item, Exit) and item.process.signal == "SIGKILL":
            get = agent.Get(tenant=call.tenant, sandbox=call.sandbox)
            if (await self._sandboxes.ask(get, Sandbox)).state is SandboxState.ENDED:
                raise SandboxEnded("the sandbox has ended, and the process with it")

    async def send_input(self, call: Call, wanted: SendInput) -> dict[str, Any]:
        found = await self._find(call, wanted.process)
        await self._write(call, found.id, wanted.input.data)
        return {}

    async def stream_input(self, call: Call, events: AsyncIterator[InputEvent]) -> dict[str, Any]:
        found: Record | None = None
        async for event in events:
            if event.start is not None:
                found = await self._find(call, event.start.process)
            elif event.data is not None:
                if found is None:
                    raise InvalidRequest("the first message says which process is meant")
                await self._write(call, found.id, event.data.input.data)
        return {}

    async def _write(self, call: Call, process: str, data: bytes) -> None:
        """In pieces: a call has a largest size."""
        for at in range(0, len(data), _PIECE):
            piece = agent.Input(
                tenant=call.tenant,
                sandbox=call.sandbox,
                process=process,
                data=data[at : at + _PIECE],
            )
            await self._tell(piece)

    async def close_stdin(self, call: Call, wanted: Selected) -> dict[str, Any]:
        found = await self._find(call, wanted.process)
        await self._tell(
            agent.Input(
                tenant=call.tenant, sandbox=call.sandbox, process=found.id, data=b"", eof=True
            )
        )
        return {}

    async def send_signal(self, call: Call, wanted: SendSignal) -> dict[str, Any]:
        number = _SIGNALS.get(str(wanted.signal), wanted.signal)
        if number not in (signal.SIGTERM, signal.SIGKILL):
            raise InvalidRequest("is SIGTERM or SIGKILL", field="signal")
        found = await self._find(call, wanted.process)
        try:
            await self._tell(
                agent.Signal(
                    tenant=call.tenant, sandbox=call.sandbox, process=found.id, signal=int(number)
                )
            )
        except Conflict:
            raise NoProcess("the process has ended") from None
        return {}

    async def update(self, call: Call, wanted: Update) -> dict[str, Any]:
        found = await self._find(call, wanted.process)
        if wanted.pty is not None:
            size = PtySize(wanted.pty.size.rows, wanted.pty.size.cols)
            await self._tell(
                agent.Resize(tenant=call.tenant, sandbox=call.sandbox, process=found.id, size=size)
            )
        return {}

    async def _tell(self, call: agent.Input | agent.Signal | agent.Resize) -> None:
        """Raises NoProcess for one that was forgotten meanwhile."""
        try:
            # The pipe of a process that does not read fills: the client's own time bounds the wait.
            await self._sandboxes.ask(call, Record, 86_400)
        except NotFound as error:
            await self._sandboxes.live(call.tenant, call.sandbox)
            raise NoProcess(error.detail) from None

    async def _running(self, call: Call) -> list[Record]:
        listed = await self._sandboxes.ask(
            agent.Processes(tenant=call.tenant, sandbox=call.sandbox), agent.ProcessList
        )
        return [
            each for each in listed.processes
            if each.state is ProcessState.RUNNING and not is_context_id(each.id)
        ]  # fmt: skip

    async def _find(self, call: Call, wanted: Selector) -> Record:
        """The running process that is meant. Raises NoProcess."""
        if wanted.pid is not None:
            name = self._ids.get((call.target.sandbox, wanted.pid))
            if name is not None and (known := await self._inspect(call, name)) is not None:
                return known
        for each in reversed(await self._running(call)):
            if wanted.tag is not None and each.tag == wanted.tag:
                return each
            if wanted.pid is not None and each.pid == wanted.pid:
                return each
        raise NoProcess(
            f"there is no process with pid {wanted.pid}"
            if wanted.tag is None
            else f"there is no process with tag {wanted.tag!r}"
        )

    async def _inspect(self, call: Call, name: str) -> Record | None:
        """The process, if it still runs."""
        try:
            found = await self._sandboxes.ask(
                agent.Inspect(tenant=call.tenant, sandbox=call.sandbox, process=name), Record
            )
        except NotFound:
            return None
        return found if found.state is ProcessState.RUNNING else None

    def _remember(self, call: Call, process: Record) -> None:
        if process.pid is not None:
            self._ids[call.target.sandbox, process.pid] = process.id
            while len(self._ids) > _REMEMBERED:
                self._ids.popitem(last=False)


def _request(call: Call, wanted: Start) -> ProcessRequest:
    """Raises InvalidRequest."""
    pty = wanted.pty
    request = ProcessRequest(
        command=[wanted.process.cmd, *wanted.process.args],
        user="root" if call.root else "sandbox",
        env=dict(wanted.process.envs),
        cwd=paths.absolute(wanted.process.cwd or "", call.user),
        pty=None if pty is None else PtySize(pty.size.rows, pty.size.cols),
        stdin=True if pty is not None else wanted.stdin is not False,
        timeout=call.timeout,
        keep_output=_KEPT,
        tag=wanted.tag or "",
    )
    admission.check_process(request)
    return request


def _events(item: Item, pty: bool) -> list[dict[str, Any]]:
    """Raises InvalidRequest for a command that could not be started."""
    if isinstance(item, Started):
        process = item.process
        if process.error is not None:
            raise InvalidRequest(_FAILED.get(process.error, f"cannot start: {process.error}"))
        return [{"event": {"start": {"pid": process.pid}}}]
    if isinstance(item, Output):
        stream = "pty" if pty else item.stream
        return [{"event": {"data": {stream: item.data}}}]
    if isinstance(item, Exit):
        return [{"event": {"end": _end(item.process)}}]
    return []  # a client that was too slow has missed some: it has no word for that


def _end(process: Record) -> dict[str, Any]:
    if process.timed_out:
        raise TimeoutError
    if process.signal is None:
        code = process.exit_code or 0
        end: dict[str, Any] = {"exitCode": code, "exited": True, "status": f"exit status {code}"}
        return end | ({"error": f"exit status {code}"} if code else {})
    number = signal.Signals[process.signal] if process.signal in signal.Signals.__members__ else 0
    words = f"signal: {(signal.strsignal(number) or '').lower()}"
    return {"exitCode": -1, "exited": False, "status": words, "error": words}


def _info(process: Record) -> dict[str, Any]:
    config = {"cmd": process.command[0], "args": process.command[1:], "cwd": process.cwd}
    return {"config": config, "pid": process.pid} | ({"tag": process.tag} if process.tag else {})
