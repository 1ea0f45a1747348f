"""The processes of one sandbox that were started through the API, and the one that waits to be next."""

import asyncio
import signal
from collections.abc import Callable

from sandboxd.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    Overload,
    QuotaExceeded,
    SandboxEnded,
)
from sandboxd.model.session import ProcessRequest
from sandboxd.native import ExecOrder, Exited, Native
from sandboxd.node.sessions.init_line import InitLine, Runner
from sandboxd.node.sessions.kept import KeptProcess
from sandboxd.node.sessions.process import LiveProcess

_ENDED_KEPT = 100
_TRIES = 3
_UNKNOWN = 1 << 16
"""Numbers that a node may have given to processes since it last said how many."""


class Processes:
    def __init__(
        self,
        native: Native,
        order: Callable[[ProcessRequest], ExecOrder],
        *,
        most: int,
        keep: Callable[[LiveProcess], None],
        forget: Callable[[str], None],
        numbers: int | None,
    ) -> None:
        """`most` run at once. `keep` is called when another node would have to know, `forget` when
        nobody has to any more. `numbers` have been given to processes by the node before this one;
        None: the sandbox is new, and its first runner waits."""
        self._order, self._most, self._keep, self._forget = order, most, keep, forget
        self._loop = asyncio.get_running_loop()
        first = 0 if numbers is None else numbers + _UNKNOWN
        self.init = InitLine(native, self._on_exit, first=first)
        self._all: dict[str, LiveProcess] = {}
        self._by_number: dict[int, LiveProcess] = {}
        self._starting: set[str] = set()
        self._spare: Runner | None = self.init.first() if numbers is None else None
        self._refilling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def running(self) -> int:
        return len(self._by_number)

    def all(self) -> list[LiveProcess]:
        return list(self._all.values())

    def get(self, name: str) -> LiveProcess:
        """Raises NotFound."""
        process = self._all.get(name)
        if process is None:
            raise NotFound(f"no process {name}")
        return process

    def signal(self, name: str, number: int) -> None:
        """To a process and its group. Raises NotFound, Conflict if it has ended."""
        process = self.get(name)
        if not process.running:
            raise Conflict("the process has ended")
        self.init.signal(process.number, number)

    async def start(
        self, name: str, request: ProcessRequest, stdin: bytes | None, *, first: bytes = b""
    ) -> LiveProcess:
        """Start a process; its record says whether it came to be. `stdin`: all of it, if known, or
        `first`, at most 64 KiB of one that stays open, ahead of whatever else is written.
        Raises Conflict for an id that is taken, QuotaExceeded, InvalidRequest, Overload."""
        if name in self._all or name in self._starting:
            raise Conflict("there is a process of this id", field="id")
        if len(self._by_number) + len(self._starting) >= self._most:
            raise QuotaExceeded(f"{self._most} processes run in the sandbox")
        self._forget_ended()
        self._starting.add(name)
        try:
            process = await self._start(name, request, stdin, first)
        finally:
            self._starting.discard(name)
            self._refill()
        self._keep(process)
        return process

    async def _start(
        self, name: str, request: ProcessRequest, stdin: bytes | None, first: bytes
    ) -> LiveProcess:
        for attempt in range(_TRIES):
            runner = await self._take_runner(root=request.user == "root")
            process = self._new(name, request)
            self._by_number[runner.number] = self._all[name] = process
            try:
                await process.start(runner, self._order(request), stdin, first)
            except (Overload, ValueError) as error:
                del self._all[name]
                self._by_number.pop(runner.number, None)
                runner.close()
                if isinstance(error, ValueError):
                    raise InvalidRequest(str(error), field="command") from error
                if attempt == _TRIES - 1:  # the sandbox kills its runners
                    raise
            else:
                break
        return process

    def restore(self, kept: KeptProcess, fds: list[int]) -> None:
        """A process that the node before this one has started; its descriptors are ours."""
        process = self._new(kept.id, kept.request, lost=True)
        process.restore(kept, fds)
        self._all[kept.id] = process
        if process.running:
            self._by_number[kept.number] = process
        self._keep(process)
        self._refill()

    def forget(self, name: str) -> None:
        """Let go of one that has ended; its id may be used again. Raises NotFound, Conflict."""
        process = self.get(name)
        if process.running:
            raise Conflict("the process has not ended")
        self._drop(process)

    def keep_all(self) -> None:
        for process in self._all.values():
            self._keep(process)

    def _new(self, name: str, request: ProcessRequest, *, lost: bool = False) -> LiveProcess:
        process = LiveProcess(
            name,
            request,
            lambda: self.signal(name, signal.SIGKILL),
            lambda: self._keep(process),
            lost=lost,
        )
        return process

    async def _take_runner(self, *, root: bool) -> Runner:
        """One that is armed, the spare one if it is there and not to be root."""
        for _ in range(_TRIES):
            runner = None
            if not root:
                runner, self._spare = self._spare, None
            if runner is None:
                runner = await self.init.spawn(root=root)
            await runner.armed
            if not runner.gone:
                return runner
            runner.close()
        raise Overload("the sandbox ends every process before it starts", retry_after=0.1)

    def _refill(self) -> None:
        if self._spare is None and self._refilling is None and not self._closed:
            self._refilling = self._loop.create_task(self._spawn_spare())

    async def _spawn_spare(self) -> None:
        try:
            runner = await self.init.spawn()
        except (Overload, SandboxEnded):
            return  # the next process finds none ready, and says why none can be had
        finally:
            self._refilling = None
        if self._spare is None and not self._closed:
            self._spare = runner
        else:
            runner.close()

    def _on_exit(self, exited: Exited) -> None:
        process = self._by_number.pop(exited.id, None)
        if process is not None:
            process.on_exit(exited)
            self._loop.call_soon(self._keep, process)  # whoever waits comes first
        elif self._spare is not None and self._spare.number == exited.id:
            self._spare.close()
            self._spare = None

    def _forget_ended(self) -> None:
        ended = [process for process in self._all.values() if not process.running]
        for process in ended[: max(0, len(ended) - _ENDED_KEPT + 1)]:
            self._drop(process)

    def _drop(self, process: LiveProcess) -> None:
        process.close()
        del self._all[process.id]
        self._forget(process.id)

    def close(self) -> None:
        """The sandbox is gone, and they with it."""
        self._closed = True
        self.init.close()
        for process in self._all.values():
            process.lost()
        self._by_number.clear()
        if self._spare is not None:
            self._spare.close()
            self._spare = None
