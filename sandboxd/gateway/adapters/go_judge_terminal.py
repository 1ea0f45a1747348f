"""A command of go-judge with a terminal (`tty`, on a stream): in a sandbox that lives, made for it alone.

Runs have pipes, sessions have terminals. The sandbox ends with its command. CPU time is the whole
sandbox's, looked at when its limit can be reached at the earliest.
"""

import asyncio
import contextlib
from typing import Protocol

from sandboxd.errors import SandboxdError, SandboxEnded
from sandboxd.gateway.adapters.go_judge_words import Asked
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.following import Exit, Output, followed
from sandboxd.gateway.sessions.line import Line
from sandboxd.gateway.sessions.names import new_process_id
from sandboxd.gateway.sessions.opening import opened
from sandboxd.model import Limits, PartOutcome, Status, agent, merge
from sandboxd.model.agent import Kind, message
from sandboxd.model.session import (
    EndReason,
    Metrics,
    Process,
    ProcessRequest,
    PtySize,
    Sandbox,
    SandboxRequest,
    SessionLimits,
)

_KILL = 9
_STEP = 0.005
"""Seconds: no look at the CPU time comes sooner after the last."""
_MARGIN = 60.0
"""Seconds that the sandbox would live on, were it forgotten."""
_LEAST_MEMORY, _LEAST_PIDS = 16 << 20, 8
_END_OF_INPUT = b"\x04"
_NOT_STARTED = {"not_found": 127, "denied": 126}


class Seat(Protocol):
    """The client at the terminal."""

    async def typed(self) -> bytes | PtySize:
        """Input, empty for its end, or the terminal's new size."""

    async def show(self, descriptor: int, data: bytes) -> None: ...


class Terminal:
    def __init__(self, gateway: Gateway, tenant: str, asked: Asked) -> None:
        self._sandboxes, self._gateway, self._tenant = gateway.sandboxes, gateway, tenant
        self._request = asked.request
        self._sandbox, self._process = "", new_process_id()
        self._cancelled = self._out_of_time = False
        self._used_before = 0.0

    async def run(self, seat: Seat) -> PartOutcome:
        """Its end. Raises what a new sandbox and its processes raise."""
        policies = self._gateway.policies
        template = policies.templates[admission.DEFAULT_TEMPLATE]
        limits = merge(policies.limits.defaults, template.limits, self._request.limits)
        wanted = SandboxRequest(
            timeout=limits.wall_time + _MARGIN,
            limits=SessionLimits(
                memory=max(limits.memory, _LEAST_MEMORY), pids=max(limits.pids, _LEAST_PIDS)
            ),
        )
        sandbox, _ = await opened(self._gateway, self._tenant, wanted)
        self._sandbox = sandbox.id
        try:
            return await self._follow(seat, limits, template.cpus)
        finally:
            with contextlib.suppress(SandboxdError):
                await self._sandboxes.ask(agent.Kill(**self._place), Sandbox)

    async def cancel(self) -> None:
        """The client wants no more of it."""
        self._cancelled = True
        await self._kill()

    @property
    def _place(self) -> dict[str, str]:
        return {"tenant": self._tenant, "sandbox": self._sandbox}

    async def _follow(self, seat: Seat, limits: Limits, cpus: float) -> PartOutcome:
        self._used_before = (await self._metrics()).cpu_time
        request = ProcessRequest(
            command=list(self._request.command or ()), env=self._request.env, pty=PtySize(),
            stdin=True, timeout=limits.wall_time,
        )  # fmt: skip
        admission.check_process(request)
        call = agent.Exec(**self._place, id=self._process, process=request, on_disconnect="kill")
        async with followed(self._sandboxes, call) as (line, items):
            beside = [
                asyncio.create_task(self._type(seat, line)),
                asyncio.create_task(self._watch(limits.cpu_time, cpus)),
            ]
            try:
                if self._cancelled:
                    await self._kill()
                async for item in items:
                    if isinstance(item, Output):
                        await seat.show(1, item.data)
                    elif isinstance(item, Exit):
                        return await self._outcome(item.process)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
        raise AssertionError("a process is followed to its exit")

    async def _type(self, seat: Seat, line: Line) -> None:
        while True:
            said = await seat.typed()
            if isinstance(said, PtySize):
                await line.write(message(Kind.RESIZE, said))
            else:
                await line.write_data(said or _END_OF_INPUT)

    async def _watch(self, limit: float, cpus: float) -> None:
        left = limit
        while left > 0:
            await asyncio.sleep(max(left / cpus, _STEP))
            left = limit - ((await self._metrics()).cpu_time - self._used_before)
        self._out_of_time = True
        await self._kill()

    async def _kill(self) -> None:
        kill = agent.Signal(**self._place, process=self._process, signal=_KILL)
        with contextlib.suppress(SandboxdError):  # not there yet, or no more
            await self._sandboxes.ask(kill, Process)

    async def _metrics(self) -> Metrics:
        return await self._sandboxes.ask(agent.Metrics(**self._place), Metrics)

    async def _outcome(self, process: Process) -> PartOutcome:
        out_of_memory, cpu_time, peak_memory = False, process.cpu_time, process.peak_memory
        try:
            used = await self._metrics()
        except SandboxEnded:
            entry = await self._sandboxes.entry(self._tenant, self._sandbox)
            end = entry.sandbox.end
            out_of_memory = end is not None and end.reason is EndReason.MEMORY_EXCEEDED
        else:
            out_of_memory = used.oom_kills > 0
            cpu_time = max(0.0, used.cpu_time - self._used_before)
            peak_memory = used.peak_memory
        code = process.exit_code
        if process.error is not None:
            code = _NOT_STARTED.get(process.error, 126)
        return PartOutcome(
            status=self._status(process, code, out_of_memory=out_of_memory),
            exit_code=code, signal=process.signal, reason=process.error,
            stdout="", stderr="", stdout_truncated=False, stderr_truncated=False,
            encoding="utf-8", cpu_time=cpu_time, wall_time=process.wall_time,
            peak_memory=peak_memory,
        )  # fmt: skip

    def _status(self, process: Process, code: int | None, *, out_of_memory: bool) -> Status:
        if self._cancelled:
            return Status.CANCELLED
        if out_of_memory:
            return Status.MEMORY_EXCEEDED
        if self._out_of_time:
            return Status.CPU_TIME_EXCEEDED
        if process.timed_out:
            return Status.WALL_TIME_EXCEEDED
        if process.signal is not None:
            return Status.SIGNALLED
        return Status.NONZERO_EXIT if code else Status.OK
