"""One sandbox that lives: its processes and files, its time, its pauses, its end."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built
from sandboxd.drivers.network.slots import KeptSlot
from sandboxd.errors import Conflict, DriverFault, SandboxEnded
from sandboxd.model.moment import rfc3339
from sandboxd.model.session import (
    End,
    EndReason,
    Metrics,
    ProcessRequest,
    Sandbox,
    SandboxRequest,
    SandboxState,
    SessionLimits,
)
from sandboxd.native import ExecOrder
from sandboxd.native.core import ABI
from sandboxd.node.sessions.enforcing import OWN_PIDS, enforce, merged
from sandboxd.node.sessions.file_line import FileLine
from sandboxd.node.sessions.files import Files
from sandboxd.node.sessions.history import History
from sandboxd.node.sessions.keeping import Keeping
from sandboxd.node.sessions.kept import Identity, KeptProcess, KeptSession
from sandboxd.node.sessions.lifetime import Lifetime, Step, decide
from sandboxd.node.sessions.orders import session_order
from sandboxd.node.sessions.process import LiveProcess
from sandboxd.node.sessions.processes import Processes
from sandboxd.node.sessions.waiting import to_its_end
from sandboxd.settings import SessionSettings

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

_SETTLE = 5.0
_RECLAIM_AFTER = 1.0
"""Seconds of a pause after which its memory is taken back: one between two requests is not worth it."""


class Session:
    def __init__(
        self,
        identity: Identity,
        request: SandboxRequest,
        limits: SessionLimits,
        built: Built,
        *,
        kept: KeptSession | None = None,
        first: tuple[KeptProcess, list[int]] | None = None,
        settings: SessionSettings,
        keeping: Keeping,
        network: Callable[[], KeptSlot | None] = lambda: None,
        on_change: Callable[["Session", str], None],
        on_end: Callable[["Session"], None],
    ) -> None:
        """`limits` are complete and in force. `on_change` is told of what time has done (`paused`),
        `on_end` once, when nothing of it runs any more and the sandbox may be destroyed. With `kept`
        it is one that lives already; `first` is a process that runs in a new one already, of the first
        runner, with its descriptors. `network` tells what another node needs to go on with its
        network, or None if none could."""
        self.identity, self.request, self.limits, self.built = identity, request, limits, built
        self.metadata = dict(request.metadata)
        self._on_change, self._on_end = on_change, on_end
        self._keeping, self._settings = keeping, settings
        self._network = network
        self._loop = asyncio.get_running_loop()
        now = time.monotonic()
        self._wall = time.time() - now
        self.life = Lifetime(
            timeout=request.timeout,
            idle_timeout=request.idle_timeout,
            on_timeout=request.on_timeout,
            since=now,
            active=now,
        )
        self.end: End | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.paused_at: float | None = None
        self._ending: EndReason | None = None
        self._works: set[asyncio.Future[Any]] = set()
        self._released = False
        self._portable = False
        """Whether another node could go on with it: a network may end with its node."""
        self._change = asyncio.Lock()
        self.processes = Processes(
            built.native,
            self._order,
            most=settings.processes_max,
            keep=self._keep_process,
            forget=self._forget_process,
            numbers=kept.numbers if kept is not None else None if first is None else 0,
        )
        self.history = History(settings.metrics_kept)
        init = self.processes.init
        self._file_lines = FileLine(init), FileLine(init, root=True)
        self._files, self._files_of_root = map(Files, self._file_lines)
        self._timer: asyncio.TimerHandle | None = None
        self._reclaiming: asyncio.TimerHandle | None = None
        self._timing: asyncio.Task[None] | None = None
        self._loop.add_reader(built.native.pidfd, self._on_gone)
        if kept is not None:
            self.life.since = kept.expires_at - self._wall - request.timeout
            self.life.paused, self.paused_at = kept.paused_at is not None, kept.paused_at
        self._watch_time()
        self.keep()
        if first is not None:
            self.processes.restore(*first)

    def record(self) -> Sandbox:
        identity, life = self.identity, self.life
        state = SandboxState.PAUSED if life.paused else SandboxState.RUNNING
        return Sandbox(
            id=identity.id,
            state=state if self.end is None else SandboxState.ENDED,
            template=identity.template,
            image=identity.image,
            volumes=self.request.volumes,
            data=self.request.data,
            key=identity.key,
            metadata=self.metadata,
            limits=self.limits,
            network=identity.network,
            node=identity.node,
            isolation=sorted(self.built.layers),
            created_at=rfc3339(identity.created_at),
            expires_at=rfc3339(self._wall + life.expires),
            timeout=life.timeout,
            idle_timeout=life.idle_timeout,
            on_timeout=life.on_timeout,
            paused_at=rfc3339(self.paused_at) if self.paused_at is not None else None,
            forked_from=identity.forked_from,
            end=self.end,
        )

    def keep(self) -> None:
        """Hand over what another node needs to go on with this sandbox, should this one die."""
        if self.end is not None or self._ending is not None:
            return
        slot = self._network() if self.networked else None
        was, self._portable = self._portable, slot is not None or not self.networked
        if not self._portable:
            if was:
                self._keeping.drop(self.identity.id)
            return
        built, native, life = self.built, self.built.native, self.life
        kept = KeptSession(
            abi=ABI,
            identity=self.identity,
            request=replace(
                self.request,
                metadata=self.metadata,
                timeout=life.timeout,
                idle_timeout=life.idle_timeout,
                on_timeout=life.on_timeout,
            ),
            limits=self.limits,
            expires_at=self._wall + life.expires,
            paused_at=self.paused_at,
            numbers=self.processes.init.number,
            name=built.name,
            image=built.spec.image.digest,
            uid=built.uid,
            pid=native.pid,
            layers=sorted(native.layers),
            group_limits=built.group.limits,
            disk=built.disk,
            slot=slot,
        )
        fds = [native.control, native.pidfd, native.scratch, built.slot.fd]
        self._keeping.put(self.identity.id, kept, fds)

    @property
    def networked(self) -> bool:
        """Whether it was built with a network, though it may be cut off from it."""
        return self.built.spec.network is not None

    def keep_all(self) -> None:
        """The same with its processes."""
        self.keep()
        self.processes.keep_all()

    def _keep_process(self, process: LiveProcess) -> None:
        if self._portable and self.end is None:
            self._keeping.put(f"{self.identity.id}/{process.id}", *process.kept())

    def _forget_process(self, name: str) -> None:
        self._keeping.drop(f"{self.identity.id}/{name}")

    @contextmanager
    def used(self) -> Iterator[None]:
        """It is not idle meanwhile."""
        self.life.busy += 1
        try:
            yield
        finally:
            self.life.busy -= 1
            self.life.active = time.monotonic()
            if self.life.idle_timeout is not None:
                self._watch_time()

    def extend(self, timeout: float | None) -> None:
        self.life.extend(time.monotonic(), timeout)
        self._watch_time()
        self.keep()

    def retime(self, idle_timeout: float | None, on_timeout: str | None) -> None:
        """Change what shall happen when; None leaves it, an idle timeout of 0 takes it away."""
        if idle_timeout is not None:
            self.life.idle_timeout = idle_timeout or None
        if on_timeout is not None:
            self.life.on_timeout = "pause" if on_timeout == "pause" else "kill"
        self._watch_time()
        self.keep()

    def _watch_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ending is not None or self.end is not None:
            return
        now = time.monotonic()
        decision = decide(self.life, now)
        if decision.again is not None:
            self._timer = self._loop.call_later(decision.again - now, self._watch_time)
        elif decision.step is Step.KILL:
            self.kill(decision.reason)
        elif decision.step is Step.PAUSE and self._timing is None:
            self._timing = self._loop.create_task(self._pause_by_time())

    async def _pause_by_time(self) -> None:
        try:
            if await self.pause():
                self._on_change(self, "paused")
        except (Conflict, DriverFault, SandboxEnded):
            self.kill(EndReason.TIMEOUT)  # what cannot be paused is not kept for ever
        finally:
            self._timing = None

    async def pause(self) -> bool:
        """Whether it was running. The answer comes when everything stands still. Raises Conflict."""
        return await to_its_end(self._pause())

    async def _pause(self) -> bool:
        async with self._change:
            self._living()
            if self.life.paused:
                return False
            await self.work(self._freeze, True)
            self._living()
            self.life.paused, self.paused_at = True, time.time()
            self._reclaiming = self._loop.call_later(_RECLAIM_AFTER, self._reclaim)
            self._watch_time()
            self.keep()
            return True

    async def resume(self) -> bool:
        """Whether it was paused."""
        return await to_its_end(self._resume())

    async def _resume(self) -> bool:
        async with self._change:
            self._living()
            if not self.life.paused:
                return False
            self._keep_memory()
            await self.work(self._freeze, False)
            self._living()
            self.life.woken(time.monotonic())
            self.paused_at = None
            self._watch_time()
            self.keep()
            return True

    def _reclaim(self) -> None:
        """It has stood still for a while: somebody else may need its memory more."""
        self._reclaiming = None
        self._track(self.built.group.reclaim, swap=self._settings.pause_to_swap)

    def _keep_memory(self) -> None:
        if self._reclaiming is not None:
            self._reclaiming.cancel()
            self._reclaiming = None

    def _freeze(self, frozen: bool) -> None:
        try:
            self.built.group.freeze(frozen)
            settled = self.built.group.settled(frozen, _SETTLE)
        except DriverFault as error:
            raise Conflict(f"this node cannot pause: {error}") from error
        if not settled and frozen:
            self.built.group.freeze(False)
            raise Conflict(f"the sandbox did not stand still within {_SETTLE:g} s")

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Nothing in it moves meanwhile, whatever is asked; not to be cancelled (`to_its_end`). Raises
        Conflict, SandboxEnded."""
        async with self._change:
            self._living()
            if self.life.paused:
                yield
                return
            await self.work(self._freeze, True)
            try:
                yield
            finally:
                await self.work(self._freeze, False)

    def _living(self) -> None:
        if self._ending is not None or self.end is not None:
            raise SandboxEnded(f"sandbox {self.identity.id} has ended")

    async def limit(self, wanted: SessionLimits) -> None:
        """Put other limits in force; None leaves one as it is. Raises Conflict where more is in use
        than it shall have."""
        await to_its_end(self._limit(wanted))

    async def _limit(self, wanted: SessionLimits) -> None:
        async with self._change:
            self._living()
            limits = merged(self.limits, wanted)
            await self.work(enforce, self.built, self.limits, limits)
            self.limits = limits
            self.keep()

    async def metrics(self) -> Metrics:
        self._living()
        return await self.work(self._measure)

    async def remember(self) -> None:
        """What it uses now, among `history`. Raises SandboxEnded, DriverFault."""
        self.history.add(time.time(), await self.metrics())

    def _measure(self) -> Metrics:
        group, disk = self.built.group, os.fstatvfs(self.built.native.scratch)
        usage, present = group.usage(), group.present()
        memory, pids = group.limits
        network = self.built.spec.network
        sent, got = (0, 0) if network is None else network.traffic(self.built.slot)
        return Metrics(
            at=rfc3339(time.time()),
            cpu_time=usage.cpu_time,
            memory=present.memory,
            peak_memory=usage.peak_memory,
            memory_limit=memory,
            pids=present.pids,
            pids_limit=pids - OWN_PIDS,
            disk=(disk.f_blocks - disk.f_bfree) * disk.f_frsize,
            disk_limit=disk.f_blocks * disk.f_frsize,
            processes=self.processes.running,
            oom_kills=usage.oom_kills,
            rx_bytes=got,
            tx_bytes=sent,
        )

    def kill(self, reason: EndReason) -> None:
        """End it; `over` is done when nothing of it runs any more."""
        if self._ending is not None or self.end is not None:
            return
        self._ending = reason
        self._keep_memory()
        if self._timer is not None:
            self._timer.cancel()
        if "cgroup_kill" in self.built.layers:
            # In a thread: the kernel holds one lock over all groups, while others come and go.
            self._track(self.built.group.kill)
        else:
            self._end_init()

    def _end_init(self) -> None:
        try:
            signal.pidfd_send_signal(self.built.native.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _on_gone(self) -> None:
        self._loop.remove_reader(self.built.native.pidfd)
        reason = self._ending
        if reason is None:
            oom = self.built.group.usage().oom_kills > 0
            reason = EndReason.MEMORY_EXCEEDED if oom else EndReason.CRASHED
        self.end = End(reason=reason, at=rfc3339(time.time()))
        self._ending = reason
        self._keep_memory()
        if self._timer is not None:
            self._timer.cancel()
        self.processes.close()
        for line in self._file_lines:
            line.close()
        self._keeping.drop(self.identity.id)
        self.over.set_result(None)
        self._release()

    def files(self, *, root: bool) -> Files:
        """As its user may use them, or as its root may; each by a service that starts when needed."""
        return self._files_of_root if root else self._files

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """In a thread. The descriptors of the sandbox are there until it is done, whoever waits.
        Raises SandboxEnded, and what the function does."""
        return await asyncio.shield(self._track(function, *args, **kwargs))

    def _track(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        if self._released:
            raise SandboxEnded(f"sandbox {self.identity.id} has ended")
        future = self._loop.run_in_executor(None, partial(function, *args, **kwargs))
        self._works.add(future)
        future.add_done_callback(self._worked)
        return future

    def _worked(self, future: asyncio.Future[Any]) -> None:
        self._works.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            log.debug("sandbox %s: %s", self.identity.id, error)
        if self.end is not None:
            self._release()

    def _release(self) -> None:
        """Let the sandbox be destroyed, once no thread is about to use a descriptor of it."""
        if not self._released and not self._works:
            self._released = True
            self._on_end(self)

    def _order(self, request: ProcessRequest) -> ExecOrder:
        assert self.limits.open_files is not None
        return session_order(self.built.spec, self.request.env, self.limits.open_files, request)
