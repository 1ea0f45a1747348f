"""A queue that remembers and an execution that runs nothing, for the worker's tests."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable

from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built
from sandboxd.errors import DriverFault, Unavailable
from sandboxd.model import Command, Job, Lease, Limits, Result, RunRequest, Status
from sandboxd.node.live import Live
from sandboxd.node.pool import Pool
from sandboxd.node.sandbox import NotStarted


def job(name: str, **changes: object) -> Job:
    plain = Job(
        id=name,
        tenant="t",
        request=RunRequest(template="t", command=["x"]),
        template="t",
        limits=Limits(),
        created_at="2026-01-01T00:00:00Z",
        reserve_cpu=1000,
        reserve_memory=100,
    )
    return replace(plain, **changes)


class FakeQueue:
    """Remembers every transition; refuses and fails as told."""

    def __init__(self) -> None:
        self.waiting: list[Job] = []
        self.attempts: Counter[str] = Counter()
        self.log: list[tuple[str, str, int]] = []
        self.asked: list[str] = []
        """Names of what was called, as it was."""
        self.results: dict[str, Result] = {}
        self.commands: asyncio.Queue[Command | None] = asyncio.Queue()
        self.out_of_reach = 0
        """Transitions that answer Unavailable before one gets through."""
        self.refused: set[str] = set()
        """Names of transitions that answer False."""
        self.lost: set[str] = set()
        self.offers: list[tuple[int, int]] = []
        self.withdrawn = False
        self.slow: asyncio.Event | None = None
        """Holds back the answer of a claim until it is set."""

    def submit(self, *jobs: Job) -> None:
        self.waiting += jobs
        self.commands.put_nowait(None)

    def cancel(self, name: str) -> None:
        self.commands.put_nowait(Command(kind="cancel", job=name))

    async def wait(self, node: str, timeout: float) -> list[Command]:
        self.asked.append("wait")
        command = await self.commands.get()
        return [] if command is None else [command]

    def hand_over(self, job: Job) -> None:
        """As a queue does to whom it knows to be idle."""
        self.attempts[job.id] += 1
        lease = Lease(job=job, attempt=self.attempts[job.id], node="n1")
        self.commands.put_nowait(Command(kind="job", job=job.id, lease=lease))

    async def withdraw(self, node: str) -> None:
        self.withdrawn = True

    async def claim(
        self, node: str, *, jobs: int, cpu: int, memory: int, takes: bool
    ) -> list[Lease]:
        assert takes
        self.asked.append("claim")
        self.offers.append((cpu, memory))
        leases: list[Lease] = []
        while self.waiting and len(leases) < jobs:
            cpu -= self.waiting[0].reserve_cpu
            memory -= self.waiting[0].reserve_memory
            if cpu < 0 or memory < 0:
                break
            taken = self.waiting.pop(0)
            self.attempts[taken.id] += 1
            leases.append(Lease(job=taken, attempt=self.attempts[taken.id], node=node))
        self._left = bool(self.waiting)
        if self.slow is not None:
            await self.slow.wait()
        return leases

    def left_behind(self, node: str) -> bool:
        return self._left

    async def _transition(self, name: str, lease: Lease) -> bool:
        self.asked.append(name)
        await asyncio.sleep(0)
        if self.out_of_reach:
            self.out_of_reach -= 1
            raise Unavailable("as told")
        if name in self.refused:
            return False
        self.log.append((name, lease.job.id, lease.attempt))
        return True

    async def start(self, lease: Lease) -> bool:
        return await self._transition("start", lease)

    async def release(self, lease: Lease) -> bool:
        done = await self._transition("release", lease)
        if done:
            self.submit(lease.job)
        return done

    async def complete(self, lease: Lease, result: Result) -> bool:
        done = await self._transition("complete", lease)
        if done:
            assert lease.job.id not in self.results, "a second result"
            self.results[lease.job.id] = result
        return done

    async def renew(self, node: str, leases: Iterable[tuple[str, int]]) -> set[str]:
        self.log += [("renew", name, attempt) for name, attempt in leases]
        return {name for name, _ in leases if name in self.lost}

    async def reap(self) -> tuple[int, int]:
        return 0, 0

    def transitions(self, name: str) -> list[str]:
        return [what for what, who, _ in self.log if who == name and what != "renew"]


class FakeExecution:
    """Runs nothing: ends when its gate opens, or when it is cancelled."""

    made: dict[str, "FakeExecution"]
    gates_open: bool
    fault: Exception | None

    def __init__(self, job: Job, policies: object, pool: Pool, **_: object) -> None:
        if job.request.language == "unknown":
            raise DriverFault("policies", "find the language", "unknown")
        self.job, self._pool = job, pool
        self.shelves = (job.template,)
        self.live = Live(interactive=False)
        self._end: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        if self.gates_open:
            self._end.set_result(Status.OK)
        self.started_with: Built | None = None
        self.made[job.id] = self

    async def first(self) -> Built:
        return await self._pool.claim(*self.shelves)

    def open(self) -> None:
        self._end.set_result(Status.OK)

    def cancel(self) -> None:
        if not self._end.done():
            self._end.set_result(Status.CANCELLED)

    async def run(self, built: Built, started: Awaitable[bool]) -> Result:
        try:
            if not await started:
                raise NotStarted
            self.started_with = built
            status = await self._end
            if self.fault is not None:
                raise self.fault
            return Result(id=self.job.id, status=status)
        finally:
            self._pool.discard(built)
