"""One sandbox while its program runs: watches, stops at a limit, and brings files out.

Everything here is an event: the control socket (the program's end), the pidfd (the sandbox's end), the
OOM eventfd, two pipes, and two timers. The CPU timer is set to the earliest moment at which the limit
can be reached, so it fires a handful of times at most.
"""

import asyncio
import errno
import math
import os
import signal
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from msgspec import Struct

from sandboxd.drivers.exec.base import Built
from sandboxd.drivers.exec.cgroups import LimitBelowUse
from sandboxd.drivers.exec.native import inodes
from sandboxd.errors import DriverFault, NativeFault, SandboxLost
from sandboxd.model import Limits
from sandboxd.native import (
    EndOfStream,
    ExecOrder,
    Exited,
    Failed,
    Opened,
    Quiet,
    receive,
    resize,
    send_exec,
    send_go,
    send_open,
    send_quiesce,
)
from sandboxd.node.files import Brought, read
from sandboxd.node.outcome import Facts, Stop
from sandboxd.node.stdio import Input, Output, PassedOutput

_QUIESCE_GRACE = 0.25
"""Seconds that init gets to end the job by itself before the whole group is killed."""
_CPU_STEP = 0.001
_OPEN_TIMEOUT = 5.0
LARGE = 1 << 20
"""Bytes of files above which they are copied in a thread."""


class Ended(Struct, frozen=True, kw_only=True):
    facts: Facts
    peak_memory: int
    init_alive: bool
    """Files can still be brought out."""
    at: float = 0.0
    """When it ended, or was first told to, in seconds of CLOCK_MONOTONIC."""


class NotStarted(Exception):
    """The job is not ours to run (any more): nothing of it was executed."""


class Sandbox:
    """The single use of a built sandbox. `run` once, then `bring_out`, then the owner destroys it."""

    def __init__(self, built: Built) -> None:
        self.built = built
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._stops: set[Stop] = set()
        self._stopped_at = math.inf
        self._exited: Exited | None = None
        self._quiesce = False
        self._init_alive = True
        self._kills: list[asyncio.Future[None]] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._answers: asyncio.Queue[Opened | None] = asyncio.Queue()

    async def run(
        self,
        order: ExecOrder,
        limits: Limits,
        stdin: Input,
        stdout: Output | PassedOutput,
        stderr: Output,
        *,
        quiesce: bool,
        started: Awaitable[bool] | None = None,
    ) -> Ended:
        """Run the order to its end. `quiesce` keeps init alive after a stop, so that files can come out.
        While `started` is waited for everything is done but to execute the program; a warm interpreter,
        which cannot hold an order, gets it after that.

        Raises DriverFault or NativeFault before anything was executed, NotStarted if that was False.
        """
        self._quiesce = quiesce
        native, group = self.built.native, self.built.group
        self._limits, self._base_cpu, self._started = limits, group.cpu_time(), time.monotonic()
        try:
            try:
                await _apply(self.built, limits)
            except LimitBelowUse:
                self.stop(Stop.MEMORY)
            self._loop.add_reader(native.control, self._on_control)
            self._loop.add_reader(native.pidfd, self._on_gone)
            if group.oom_event >= 0:
                self._loop.add_reader(group.oom_event, self._on_oom)
            hold = started is not None and self.built.spec.warm is None
            if hold:
                await self._send(order, stdin, stdout, stderr, hold=True)
            if started is not None and not await started:
                raise NotStarted
            if hold:
                with self._gone_with_reason("send_go"):
                    send_go(native.exec)
            else:
                await self._send(order, stdin, stdout, stderr)
            self._started = time.monotonic()
            self._timers["wall"] = self._loop.call_later(
                limits.wall_time, self.stop, Stop.WALL_TIME
            )
            self._look_again_after(limits.cpu_time)
            await self._over
        finally:
            self._unwatch()
            await self._killed()
        stdout.drain()
        stderr.drain()
        stdin.close()
        return self._ended(stdout.exceeded or stderr.exceeded)

    async def _send(
        self,
        order: ExecOrder,
        stdin: Input,
        stdout: Output | PassedOutput,
        stderr: Output,
        *,
        hold: bool = False,
    ) -> None:
        streams = (stdin.child_fd, stdout.child_fd, stderr.child_fd)
        send = partial(send_exec, self.built.native.exec, order, *streams, hold=hold)
        try:
            with self._gone_with_reason("send_exec"):
                if sum(len(content) for _, _, content in order.files) > LARGE:
                    await asyncio.to_thread(send)
                else:
                    send()
        finally:
            stdin.start()
            stdout.start()
            stderr.start()

    @contextmanager
    def _gone_with_reason(self, stage: str) -> Iterator[None]:
        """Raises NativeFault if the runner is gone, unless it ended before it began by a stop or by the
        memory limit: then the pidfd tells when."""
        try:
            yield
        except OSError as error:
            if not self._stops and self.built.group.usage().oom_kills == 0:
                raise NativeFault(stage, error.errno or 0) from error

    def stop(self, why: Stop) -> None:
        """End the program now. The first reasons that come before its death are all kept."""
        if self._over.done():
            return
        first = not self._stops
        self._stops.add(why)
        if not first:
            return
        self._stopped_at = time.monotonic()
        if self._quiesce and why is not Stop.MEMORY:
            self._calm()
        else:
            self._kill()

    def _calm(self) -> None:
        try:
            send_quiesce(self.built.native.control)
        except OSError:
            self._kill()
        else:
            self._timers["grace"] = self._loop.call_later(_QUIESCE_GRACE, self._kill)

    def _kill(self) -> None:
        self._init_alive = False
        if "cgroup_kill" in self.built.layers:
            # In a thread: the kernel holds one lock over all groups, while others come and go.
            self._kills.append(self._loop.run_in_executor(None, self.built.group.kill))
        else:
            # Without a v2 tree, the end of its init ends the pid namespace.
            self._signal_init()

    async def _killed(self) -> None:
        """Until no thread is about to use the group, whose descriptors the owner will close."""
        if self._kills:
            await asyncio.gather(*self._kills)

    def _signal_init(self) -> None:
        try:
            signal.pidfd_send_signal(self.built.native.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _on_control(self) -> None:
        while (message := receive(self.built.native.control)) is not None:
            match message:
                case Exited():
                    self._exited = message
                    # Whoever is left behind may not turn a timely end into a late one.
                    if "wall" in self._timers:
                        self._timers["wall"].cancel()
                    if message.alone:
                        self._finish()
                    elif not self._stops:
                        # Somebody is left behind, perhaps holding stdout: the run is over all the same.
                        self._calm() if self._quiesce else self._kill()
                case Quiet():
                    self._finish()
                case Opened():
                    self._answers.put_nowait(message)
                case EndOfStream() | Failed():
                    # The pidfd says when the namespace is empty; the socket only ends earlier.
                    self._loop.remove_reader(self.built.native.control)
                    self._init_alive = False
                    self._answers.put_nowait(None)
                    return

    def _on_gone(self) -> None:
        self._init_alive = False
        self._loop.remove_reader(self.built.native.pidfd)
        self._finish()

    def _on_oom(self) -> None:
        os.read(self.built.group.oom_event, 8)
        self.stop(Stop.MEMORY)

    def _watch_cpu(self) -> None:
        left = self._limits.cpu_time - (self.built.group.cpu_time() - self._base_cpu)
        if left <= 0:
            self.stop(Stop.CPU_TIME)
        else:
            self._look_again_after(left)

    def _look_again_after(self, cpu_seconds: float) -> None:
        """When so much can have been used at the earliest."""
        self._timers["cpu"] = self._loop.call_later(
            max(cpu_seconds / self.built.spec.cpus, _CPU_STEP), self._watch_cpu
        )

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _unwatch(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._loop.remove_reader(self.built.native.pidfd)
        if self.built.group.oom_event >= 0:
            self._loop.remove_reader(self.built.group.oom_event)

    def release(self) -> None:
        """Stop listening; the owner may now destroy the sandbox."""
        self._loop.remove_reader(self.built.native.control)

    def _ended(self, output_exceeded: bool) -> Ended:
        usage = self.built.group.usage()
        end = self._exited.at if self._exited is not None else time.monotonic()
        report = receive(self.built.native.exec)
        scratch = os.fstatvfs(self.built.native.scratch)
        facts = Facts(
            stops=frozenset(self._stops),
            wait_status=self._exited.status if self._exited is not None else None,
            failed=report if isinstance(report, Failed) else None,
            cpu_time=max(0.0, usage.cpu_time - self._base_cpu),
            wall_time=max(0.0, end - self._started),
            oom_kills=usage.oom_kills,
            output_exceeded=output_exceeded,
            scratch_full=scratch.f_bavail == 0 or scratch.f_ffree == 0,
        )
        return Ended(
            facts=facts,
            peak_memory=usage.peak_memory,
            init_alive=self._init_alive,
            at=min(end, self._stopped_at),
        )

    async def bring_out(self, paths: Sequence[str], *, glob: bool, budget: int) -> list[Brought]:
        """Read files below /work, `budget` bytes in all; for globs, the matches of each.

        The program must have ended. A file above what is left of the budget gets EFBIG.
        """
        brought: list[Brought] = []
        for path in paths:
            if not self._init_alive:
                brought.append(Brought(path, None, errno.ENOENT))
                continue
            with suppress(BrokenPipeError):  # then the answer is that there is none
                send_open(self.built.native.control, path, glob=glob)
            parent = path.rpartition("/")[0]
            while True:
                answer = await self._answer()
                if answer is None:
                    # A job that filled its memory with files leaves init none to open them with.
                    brought.append(Brought(path, None, errno.EIO))
                    break
                if answer.fd >= 0:
                    name = f"{parent}/{answer.name}" if glob and parent else answer.name
                    file = await asyncio.to_thread(read, name if glob else path, answer, budget)
                    budget -= len(file.data or b"")
                    brought.append(file)
                elif answer.errno:
                    brought.append(Brought(path, None, answer.errno))
                if not answer.more:
                    break
        return brought

    async def _answer(self) -> Opened | None:
        try:
            return await asyncio.wait_for(self._answers.get(), _OPEN_TIMEOUT)
        except TimeoutError:
            raise SandboxLost(f"{self.built.name}: init does not answer") from None


async def prepare(built: Built, limits: Limits) -> None:
    """What `run` does first, while there is something else to wait for. What fails, fails there again."""
    with suppress(LimitBelowUse, DriverFault, NativeFault):
        await _apply(built, limits)


async def _apply(built: Built, limits: Limits) -> None:
    """In a thread where there is something to set: the kernel may have to reclaim for it."""
    asked = limits.memory, limits.pids + 1
    if asked != built.group.limits or limits.disk != built.disk:
        await asyncio.to_thread(_limit, built, limits)


def _limit(built: Built, limits: Limits) -> None:
    built.group.limit(memory=limits.memory, pids=limits.pids + 1)
    if limits.disk != built.disk:
        resize(built.native.scratch, limits.disk, inodes(limits.disk))
        built.disk = limits.disk
