"""Whether a job costs the same however many there were, are, wait, or are ready: four curves.

Each point is a compiled hello in a fresh sandbox, with the CPU of the whole service and its sandboxes. A
curve has a service of its own, or one for each point where the size is a setting.
"""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from loadtest import closedloop, cpu, footprint, service
from loadtest.closedloop import ClosedLoad
from loadtest.footprint import Footprint
from loadtest.http1 import Connection
from loadtest.measurement import Measurement
from loadtest.peers.http import Server, job_of, with_service_cpu
from loadtest.report import number, table
from loadtest.service import Service
from loadtest.workload import Workload

Say = Callable[[str], None]
_POLICIES = Path(__file__).parent.parent / "policies"
_POOL = re.compile(rb'^sandboxd_node_pool\{[^}]*template="default"[^}]*\} (\S+)$', re.MULTILINE)
_MEMORY = 1 << 30
"""Bytes that the node hands out while the queue grows: one job takes them all."""
_FILLERS = 16
"""Connections that fill the queue."""
_ANSWER_WITHIN = 3_600.0
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


class Point(Struct, frozen=True, kw_only=True):
    size: int
    p50: float
    """Milliseconds."""
    p99: float
    cpu: float
    """Milliseconds of a job: gateway, node, Redis, sandboxes."""
    per_second: float
    held: Footprint | None = None
    """What the service holds after it, at rest."""


class Curve(Struct, frozen=True, kw_only=True):
    title: str
    grows: str
    """What the size is."""
    points: list[Point]
    told: str = ""
    """What a reader must know to read it."""

    @property
    def factor(self) -> float:
        """CPU of a job at the largest size, by that at the smallest but one: the first point pays for
        what is made once."""
        first = self.points[min(1, len(self.points) - 2)]
        return self.points[-1].cpu / first.cpu


class BrokenError(Exception):
    """A job went wrong, so that nothing was measured; the text has the answer."""


async def measure(hello: Workload, directory: Path, plan: Plan, say: Say) -> list[Curve]:
    """Four curves. Raises BrokenError, ServiceError, ExchangeError."""
    made = []
    for curve in (_jobs, _warm, _clients, _depth):
        made.append(await curve(hello, directory, plan))
        say(f"growth: {made[-1].title}: done")
    return made


async def _jobs(hello: Workload, directory: Path, plan: Plan) -> Curve:
    points, before = [], 0
    async with _service() as started:
        for total in plan.jobs:
            count = total - before
            point = await _point(total, started, hello, min(plan.at_once, count), count)
            await asyncio.sleep(_REST)
            held = footprint.read(started.pid, started.instance)
            points.append(msgspec.structs.replace(point, held=held))
            before = total
    told = "Memory and descriptors are those of the service's own processes, without its sandboxes."
    return Curve(title="By jobs since the start", grows="jobs", points=points, told=told)


async def _warm(hello: Workload, directory: Path, plan: Plan) -> Curve:
    points = []
    for size in plan.warm:
        policies = directory / f"policies-{size}"
        shutil.copytree(_POLICIES, policies)
        template = policies / "templates" / "default.toml"
        lines = [line for line in template.read_text().splitlines() if "pool_" not in line]
        template.write_text("\n".join([*lines, f"pool_size = {size}", f"pool_max = {size}", ""]))
        async with _service(f"policies={policies}") as started:
            await _filled(started, size)
            points.append(await _point(size, started, hello, plan.at_once, plan.sample))
    return Curve(title="By sandboxes that are ready", grows="warm sandboxes", points=points)


async def _clients(hello: Workload, directory: Path, plan: Plan) -> Curve:
    async with _service() as started:
        points = [
            await _point(clients, started, hello, clients, max(plan.sample, 4 * clients))
            for clients in plan.clients
        ]
    told = "The latency grows as the line before two cores does: clients, divided by jobs a second."
    return Curve(title="By clients at once", grows="clients", points=points, told=told)


async def _depth(hello: Workload, directory: Path, plan: Plan) -> Curve:
    """One job holds all memory that the node hands out; behind it the queue grows. p50 and p99 are of
    submitting one more; the CPU is of the jobs that go through once the first is gone."""
    points = []
    most = max(plan.depth) + plan.sample + 10
    limits = (f"queue.max_length={most}", f"gateway.tenant_max_jobs={most}")
    for depth in plan.depth:
        async with _service(f"node.memory_capacity={_MEMORY}", *limits) as started:
            points.append(await _deep(depth, started, hello, plan.sample))
    told = (
        "p50 and p99: until a job is accepted; CPU and jobs a second: from then until all are done."
    )
    return Curve(title="By depth of the queue", grows="jobs waiting", points=points, told=told)


async def _deep(depth: int, started: Service, hello: Workload, sample: int) -> Point:
    server = msgspec.structs.replace(started.server, timeout=_ANSWER_WITHIN)
    blocker = {
        "language": "bash", "source": "sleep 500", "limits": {"memory": _MEMORY, "wall_time": 600},
    }  # fmt: skip
    held = await _accepted(server, msgspec.json.encode(blocker))
    await _until_running(server, held)
    body = msgspec.json.encode(hello.request)
    await asyncio.gather(
        *(
            _submit(server, body, depth // _FILLERS + (number < depth % _FILLERS))
            for number in range(_FILLERS)
        )
    )
    took = await _submit(server, body, sample)
    before, began = cpu.read(started.pid), time.perf_counter()
    client = await server.connect()
    try:
        await client.ask("DELETE", f"/v1/runs/{held}")
        failure = await client.run(job_of(hello))  # the last in the queue: all others are through
    finally:
        client.close()
    if failure:
        raise BrokenError(f"depth {depth}: {failure}")
    seconds = time.perf_counter() - began
    count = depth + sample + 1
    spent = cpu.between(before, cpu.read(started.pid))
    return Point(
        size=depth, p50=_at(took, 0.5) * 1e3, p99=_at(took, 0.99) * 1e3,
        cpu=sum(spent.values()) * 1e3 / count, per_second=count / seconds,
    )  # fmt: skip


async def _submit(server: Server, body: bytes, count: int) -> list[float]:
    """Seconds until each was accepted, one after the other."""
    if not count:
        return []
    clock = time.perf_counter  # uvloop's own clock counts milliseconds
    connection, took = Connection(server.host, server.port), list[float]()
    sent = _async_request(server, body)
    try:
        for _ in range(count):
            began = clock()
            status, answer = await connection.exchange(sent, server.timeout)
            took.append(clock() - began)
            if status != 202:
                raise BrokenError(f"submitting: {status} {answer[:300]!r}")
    finally:
        connection.close()
    return took


async def _accepted(server: Server, body: bytes) -> str:
    """The id of a run that nobody waits for."""
    connection = Connection(server.host, server.port)
    try:
        status, answer = await connection.exchange(_async_request(server, body), server.timeout)
    finally:
        connection.close()
    if status != 202:
        raise BrokenError(f"submitting: {status} {answer[:300]!r}")
    return str(msgspec.json.decode(answer)["id"])


def _async_request(server: Server, body: bytes) -> bytes:
    whole = server.request("POST", "/v1/runs", body, "application/json")
    return whole.replace(b"\r\n", b"\r\nPrefer: respond-async\r\n", 1)


async def _until_running(server: Server, run: str) -> None:
    """Asked every 50 ms; it is no part of what is measured."""
    client = await server.connect()
    try:
        async with asyncio.timeout(60):
            while True:
                _, answer = await client.ask("GET", f"/v1/runs/{run}")
                if msgspec.json.decode(answer)["state"] == "started":
                    return
                await asyncio.sleep(0.05)
    finally:
        client.close()


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
    load = ClosedLoad(clients=clients, seconds=_ANSWER_WITHIN, max_jobs=jobs)
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


def _at(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def markdown(curves: list[Curve], head: list[str], plot: str) -> list[str]:
    lines = ["# Growth", "", *head, f"![Latency and CPU against what grows]({plot})", ""]
    for curve in curves:
        columns = [curve.grows, "p50 ms", "p99 ms", "CPU ms", "jobs/s"]
        if any(point.held for point in curve.points):
            columns += ["memory MiB", "descriptors", "cgroups"]
        lines += [
            f"## {curve.title}", "",
            *table(columns, [_row(point) for point in curve.points]),
            "", f"CPU of a job at the end, to that near the beginning: {curve.factor:.2f}. {curve.told}",
            "",
        ]  # fmt: skip
    return lines


def _row(point: Point) -> list[str]:
    cells = [f"{point.size:,}"]
    cells += map(number, (point.p50, point.p99, point.cpu, point.per_second))
    if point.held:
        cells.append(number(point.held.memory / 2**20))
        cells += [str(point.held.descriptors), str(point.held.groups)]
    return cells
