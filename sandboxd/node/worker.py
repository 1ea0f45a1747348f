"""Claims jobs that the node has capacity for, and carries each to its one terminal result.

Three loops: one waits for news from the queue, one claims, one renews leases. Each claimed job is a
task. A job that was started here is always completed, however long Redis is away.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, ParamSpec

from sandboxd.drivers.exec.base import Built
from sandboxd.errors import DriverFault, Overload, RequestError, SystemFault, Unavailable
from sandboxd.model import Lease, Result, Status
from sandboxd.node.capacity import Capacity
from sandboxd.node.execution import Execution
from sandboxd.node.fitting import Fitter
from sandboxd.node.judging import Judge, Parts, Reported
from sandboxd.node.live import Live
from sandboxd.node.network import Networks
from sandboxd.node.pool import Pool
from sandboxd.node.sandbox import NotStarted, prepare
from sandboxd.policy import Policies
from sandboxd.queue import Queue

P = ParamSpec("P")
Work = Execution | Reported | Parts
log = logging.getLogger(__name__)

_WAIT = 5.0
_RETRY_FIRST, _RETRY_MAX = 0.05, 2.0
_CLAIM_MAX = 64
_TURNS = 2
"""Of the loop, until a job that was taken with a warm sandbox has its start on the way."""
_BUILD_ATTEMPTS = 3


class Worker:
    def __init__(
        self,
        queue: Queue,
        pool: Pool,
        policies: Policies,
        capacity: Capacity,
        *,
        node: str,
        lease: float,
        collect_max: int,
        judge: Judge | None = None,
        networks: Networks | None = None,
        fitter: Fitter | None = None,
    ) -> None:
        """Without a `judge`, submissions are left to other nodes."""
        self._queue, self._pool, self._policies = queue, pool, policies
        self.capacity = capacity
        self._node, self._lease, self._collect_max = node, lease, collect_max
        self._judge, self._networks = judge, networks
        self._fitter = fitter
        self._active: dict[str, tuple[Lease, Work]] = {}
        self.live: dict[str, Live] = {}
        """Runs that a stream can attach to."""
        self._news = asyncio.Event()
        self._behind = True
        """Jobs may wait that this node had no room for."""
        self._freed = 0
        self._jobs: set[asyncio.Task[object]] = set()
        self._draining = False
        self.finished: dict[str, int] = {}
        """Runs ended on this node since its start, by status."""

    @property
    def running(self) -> int:
        return len(self._active)

    async def run(self) -> None:
        """Until cancelled; jobs that run then are left to `drain`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._claim())
            group.create_task(self._renew())

    async def drain(self, grace: float) -> None:
        """Claim no more, and give running jobs `grace` seconds to end; the rest is cancelled."""
        self._draining = True
        with suppress(Unavailable):  # then leases expire of what comes unasked
            await self._queue.withdraw(self._node)
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=grace)
        for _, execution in self._active.values():
            execution.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=grace)

    async def _listen(self) -> None:
        self._news.set()
        pause = _RETRY_FIRST
        while True:
            try:
                commands = await self._queue.wait(self._node, _WAIT)
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_MAX)
                continue
            pause = _RETRY_FIRST
            for command in commands:
                if command.lease is not None:
                    self._take(command.lease)
                elif command.kind == "cancel" and command.job in self._active:
                    self._active[command.job][1].cancel()
            if any(command.lease is not None for command in commands):
                # A job waits for the answer to its start; nobody does for the next claim or news.
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
            self._news.set()

    async def _claim(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            capacity, freed = self.capacity, self._freed
            if self._draining or capacity.cpu_free <= 0 or capacity.memory_free <= 0:
                self._behind = True
                continue
            try:
                leases = await self._queue.claim(
                    self._node,
                    jobs=_CLAIM_MAX,
                    cpu=capacity.cpu_free,
                    memory=capacity.memory_free,
                    takes=True,
                )
            except Unavailable:
                self._behind = True
                continue  # the listener meets the same outage, waits it out and sets the news
            self._behind = self._queue.left_behind(self._node)
            if self._behind and self._freed != freed:
                self._news.set()  # there may be room now for what did not fit
            for lease in leases:
                self._begin(lease)

    def _take(self, lease: Lease) -> None:
        """A job that came unasked, for which there may be no room any more: a claim overtook it."""
        job, capacity = lease.job, self.capacity
        fits = job.reserve_cpu <= capacity.cpu_free and job.reserve_memory <= capacity.memory_free
        if fits and not self._draining:
            self._begin(lease)
        else:
            self._keep(self._insist(self._queue.release, lease))

    def _begin(self, lease: Lease) -> None:
        self.capacity.reserve(lease.job.reserve_cpu, lease.job.reserve_memory)
        self._keep(self._serve(lease))

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _renew(self) -> None:
        pause, retry = self._lease / 3, _RETRY_FIRST
        while True:
            await asyncio.sleep(pause)
            held = [(job, lease.attempt) for job, (lease, _) in self._active.items()]
            try:
                lost = await self._queue.renew(self._node, held) if held else set()
                await self._queue.reap()
            except Unavailable:
                # A queue that was slow to fail has taken a third of the lease; another would be the last.
                pause, retry = retry, min(retry * 2, _RETRY_MAX)
                continue
            pause, retry = self._lease / 3, _RETRY_FIRST
            for job in lost & self._active.keys():
                self._active[job][1].cancel()

    async def _serve(self, lease: Lease) -> None:
        job = lease.job
        try:
            execution = self._work(lease)
        except SystemFault as error:
            # Another node's policies may know what this one's do not.
            if (result := await self._not_built(lease, error)) is not None:
                await self._complete(lease, result)
        else:
            await self._carry(lease, execution)
        finally:
            self.capacity.free(job.reserve_cpu, job.reserve_memory)
            self._freed += 1
            if self._behind:
                self._news.set()

    def _work(self, lease: Lease) -> Work:
        """Raises DriverFault if this node's policies do not know a language."""
        if lease.job.together is not None:
            return Parts(lease.job, self._pool, node=self._node, collect_max=self._collect_max)
        if lease.job.submission is None:
            return Execution(
                lease.job,
                self._policies,
                self._pool,
                node=self._node,
                collect_max=self._collect_max,
                networks=self._networks,
                fitter=self._fitter,
            )
        if self._judge is None:
            raise DriverFault("judge", "judge", "this node does not")
        return self._judge.judging(lease)

    async def _carry(self, lease: Lease, execution: Work) -> None:
        job, held = lease.job, (lease, execution)
        self._active[job.id] = held
        self.live[job.id] = execution.live
        try:
            result = await self._execute(lease, execution)
            if result is not None:
                execution.live.finish(result)
                self.finished[result.status] = self.finished.get(result.status, 0) + 1
                await self._complete(lease, result)
        finally:
            execution.live.abandon()
            # A job that was lost and came back is here twice for a moment.
            if self._active.get(job.id) is held:
                del self._active[job.id], self.live[job.id]

    async def _execute(self, lease: Lease, execution: Work) -> Result | None:
        """The result, or None if the job is not ours to end (any more)."""
        try:
            built = await self._first(execution)
        except RequestError as error:  # it was there when the gateway looked
            if not await self._insist(self._queue.start, lease):
                return None
            return self._internal_error(lease, f"{error.code}: {error.detail}")
        except (SystemFault, Overload) as error:
            return await self._not_built(lease, error)
        starting = asyncio.create_task(self._insist(self._queue.start, lease))
        try:
            if isinstance(execution, Execution):
                return await execution.run(built, starting)
            await prepare(built, lease.job.limits)
            if await starting:
                return await execution.run(built)
            self._pool.restock(built)
        except (SystemFault, Overload) as error:
            log.error("run %s: %s", lease.job.id, error)
            if await starting:
                return self._internal_error(lease, str(error))
        except NotStarted:
            pass
        return None

    async def _first(self, execution: Work) -> Built:
        if isinstance(execution, Execution):
            return await execution.first()
        return await self._pool.claim(*execution.shelves)

    async def _not_built(self, lease: Lease, error: SystemFault | Overload) -> Result | None:
        """Let another node, or a later moment, try; in the end say that the host failed."""
        if lease.attempt < _BUILD_ATTEMPTS and await self._insist(self._queue.release, lease):
            return None
        if not await self._insist(self._queue.start, lease):
            return None
        return self._internal_error(lease, str(error))

    async def _complete(self, lease: Lease, result: Result) -> None:
        if not await self._insist(self._queue.complete, lease, result):
            log.warning("run %s was ended elsewhere before its result came", lease.job.id)

    async def _insist(
        self, transition: Callable[P, Awaitable[bool]], *args: P.args, **kwargs: P.kwargs
    ) -> bool:
        """Repeat an idempotent transition until Redis answers."""
        pause = _RETRY_FIRST
        while True:
            try:
                return await transition(*args, **kwargs)
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_MAX)

    def _internal_error(self, lease: Lease, reason: str) -> Result:
        return Result(
            id=lease.job.id,
            status=Status.INTERNAL_ERROR,
            reason=reason,
            language=lease.job.request.language,
            node=self._node,
            created_at=lease.job.created_at,
        )
