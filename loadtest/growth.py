"""Whether a job costs the same however many there were, are, wait, or are ready: four curves.

Each point is a compiled hello in a fresh sandbox, with the CPU of the whole service and its sandboxes. A
curve has a service of its own, or one for each point where the size is a setting.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from loadtest import backlog, closedloop, cpu, footprint, service
from loadtest.backlog import ANSWER_WITHIN
from loadtest.closedloop import ClosedLoad
from loadtest.curve import BrokenError, Curve, Point
from loadtest.http1 import ExchangeError
from loadtest.measurement import Measurement
from loadtest.peers.http import job_of, with_service_cpu
from loadtest.service import Service
from loadtest.workload import Workload

_POLICIES = Path(__file__).parent.parent / "policies"
_POOL = re.compile(rb'^sandboxd_node_pool\{[^}]*template="default"[^}]*\} (\S+)$', re.MULTILINE)
_REST = 2.0
"""Seconds in which the last sandboxes go and the pool is filled again."""


class Plan(Struct, frozen=True, kw_only=True):
    jobs: tuple[int, ...] = (10, 100, 1_000)
    """How many there were, at each point; the point is of the last of them."""
    warm: tuple[int, ...] = (10, 100)
    """Sandboxes that are ready."""
    clients: tuple[int, ...] = (1, 4, 16, 64)
    depth: tuple[int, ...] = (0, 10, 100, 1_000)
    """Jobs that wait already when one more is submitted."""
    at_once: int = 4
    sample: int = 200
    """Jobs of a point, where the size is not their number."""


FULL = Plan(
    jobs=(10, 100, 1_000, 10_000, 90_000, 100_000),  # the last ten thousand by themselves
    warm=(10, 100, 1_000),
    clients=(1, 4, 16, 64, 256),
    depth=(0, 10, 100, 1_000, 10_000, 100_000),
    sample=1_000,
)

CURVES = {
    curve.name: curve
    for curve in (
        Curve(
            name="jobs", title="By jobs since the start", grows="jobs",
            told="Memory and descriptors are those of the service's own processes, without its "
            "sandboxes. Redis keeps each result for a quarter of an hour, as it is set to.",
        ),
        Curve(name="warm", title="By sandboxes that are ready", grows="warm sandboxes"),
        Curve(
            name="clients", title="By clients at once", grows="clients",
            told="The latency grows as the line before the cores does: clients, divided by jobs a "
            "second.",
        ),
        Curve(
            name="depth", title="By depth of the queue", grows="jobs waiting",
            told="A job is `echo`, with nothing to carry along. p50 and p99: until one more is "
            "accepted; memory: while they wait; CPU and jobs a second: from then until all are done, or "
            "5,000 of more.",
        ),
    )
}  # fmt: skip


async def measure(
    names: Iterable[str],
    hello: Workload,
    directory: Path,
    plan: Plan,
    keep: Callable[[Curve], None],
) -> None:
    """The curves of these names, one after the other. Each goes to `keep` after each of its points, and
    what breaks one, which it then names, does not keep the next from being measured."""
    for name in names:
        curve = CURVES[name]
        try:
            async with aclosing(_POINTS[name](hello, directory, plan)) as found:
                async for point in found:
                    curve = msgspec.structs.replace(curve, points=[*curve.points, point])
                    keep(curve)
        except (BrokenError, ExchangeError, service.ServiceError, cpu.RestartedError) as error:
            keep(msgspec.structs.replace(curve, broken=str(error)))


async def _jobs(hello: Workload, directory: Path, plan: Plan) -> AsyncGenerator[Point, None]:
    before = 0
    async with _service() as started:
        for total in plan.jobs:
            count = total - before
            point = await _point(total, started, hello, min(plan.at_once, count), count)
            await asyncio.sleep(_REST)
            held = footprint.read(started.pid, started.instance)
            yield msgspec.structs.replace(point, held=held)
            before = total


async def _warm(hello: Workload, directory: Path, plan: Plan) -> AsyncGenerator[Point, None]:
    for size in plan.warm:
        policies = directory / f"policies-{size}"
        shutil.copytree(_POLICIES, policies)
        template = policies / "templates" / "default.toml"
        lines = [line for line in template.read_text().splitlines() if "pool_" not in line]
        template.write_text("\n".join([*lines, f"pool_size = {size}", f"pool_max = {size}", ""]))
        async with _service(f"policies={policies}") as started:
            await _filled(started, size)
            yield await _point(size, started, hello, plan.at_once, plan.sample)


async def _clients(hello: Workload, directory: Path, plan: Plan) -> AsyncGenerator[Point, None]:
    async with _service() as started:
        for clients in plan.clients:
            yield await _point(clients, started, hello, clients, max(plan.sample, 4 * clients))


async def _depth(hello: Workload, directory: Path, plan: Plan) -> AsyncGenerator[Point, None]:
    most = max(plan.depth) + plan.sample + 10
    limits = (f"queue.max_length={most}", f"gateway.tenant_max_jobs={most}")
    for depth in plan.depth:
        async with _service(f"node.memory_capacity={backlog.MEMORY}", *limits) as started:
            yield await backlog.measure(depth, started, plan.sample)


_POINTS = {"jobs": _jobs, "warm": _warm, "clients": _clients, "depth": _depth}


async def _filled(started: Service, size: int) -> None:
    """Until the node announces so many sandboxes of the template; asked every half second, before
    anything is measured."""
    client = await started.server.connect()
    try:
        async with asyncio.timeout(60 + size):
            while True:
                _, answer = await client.ask("GET", "/metrics")
                found = _POOL.search(answer)
                if found and float(found[1]) >= size:
                    return
                await asyncio.sleep(0.5)
    except TimeoutError as error:
        raise BrokenError(f"{size} warm sandboxes were not ready in time") from error
    finally:
        client.close()


async def _point(size: int, started: Service, hello: Workload, clients: int, jobs: int) -> Point:
    job = job_of(hello)
    before = cpu.read(started.pid)
    load = ClosedLoad(clients=clients, seconds=ANSWER_WITHIN, max_jobs=jobs)
    measured = await closedloop.measure(started.server.connect, lambda _: job, load)
    measured = await with_service_cpu(measured, before, started.pid)
    if measured.errors:
        raise BrokenError(f"{size}: {measured.errors} {measured.examples}")
    return Point(
        size=size, p50=measured.percentile_ms(50), p99=measured.percentile_ms(99),
        cpu=_service_cpu(measured), per_second=measured.per_second,
    )  # fmt: skip


def _service_cpu(measured: Measurement) -> float:
    return sum(v for name, v in measured.cpu_ms_per_job.items() if name != "generator")


@asynccontextmanager
async def _service(*settings: str) -> AsyncIterator[Service]:
    flags = [word for setting in settings for word in ("--set", setting)]
    async with service.private((*service.COMMAND, *flags)) as started:
        yield started
