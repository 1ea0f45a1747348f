"""A node that claims and answers real jobs of the queue without running anything."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from sandboxd.model import Lease, NodeRecord, Result, Status
from sandboxd.queue import Queue


def hello(lease: Lease) -> Result:
    request = lease.job.request
    return Result(
        id=lease.job.id,
        status=Status.OK,
        exit_code=0,
        stdout=f"{request.source or ''}{request.stdin}",
        language=request.language,
        node=lease.node,
        created_at=lease.job.created_at,
    )


class FakeNode:
    def __init__(self, queue: Queue, agent: Path, name: str = "n1") -> None:
        self.queue, self.name = queue, name
        self.agent = agent
        self.answer: Callable[[Lease], Result] = hello
        self.announced = asyncio.Event()
        self.gate = asyncio.Event()
        """Runs that have started end when this is set."""
        self.gate.set()
        self.started: asyncio.Queue[Lease] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()

    def record(self) -> NodeRecord:
        return NodeRecord(
            id=self.name,
            address=f"unix:{self.agent}",
            started_at="2026-01-01T00:00:00.000Z",
            version="0",
            isolation=["userns"],
            languages=["python"],
            cpu_capacity=4000,
            cpu_reserved=0,
            memory_capacity=1 << 33,
            memory_reserved=0,
            pools={"default": 3},
            running=0,
            counters={"sandboxd_node_runs_total": 7.0, "sandboxd_node_load": 0.5},
        )

    async def work(self) -> None:
        await self.queue.announce(self.record(), ttl=60)
        self.announced.set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                for lease in await self.queue.claim(self.name, jobs=64, cpu=10**9, memory=10**15):
                    tasks.create_task(self._run(lease))
                for command in await self.queue.wait(self.name, 5.0):
                    if command.kind == "cancel":
                        self.cancelled.put_nowait(command.job)

    async def _run(self, lease: Lease) -> None:
        if await self.queue.start(lease):
            self.started.put_nowait(lease)
            await self.gate.wait()
            await self.queue.complete(lease, self.answer(lease))


async def until_quiet(count: Callable[[], int]) -> None:
    """Until the count has stood still for a while: a stalled flow has no event to wait for."""
    last, still = -1, 0
    while still < 10:
        await asyncio.sleep(0.03)
        now = count()
        still = still + 1 if now == last else 0
        last = now
