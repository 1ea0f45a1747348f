"""Open loop: jobs start at a constant rate, whether or not earlier ones were answered.

Latency counts from the *intended* start, so that a server that stalls cannot hide it by keeping
the generator from asking (coordinated omission). A job that finds every connection busy waits in
line, and its wait is part of its latency.
"""

import asyncio
import time
from collections import deque

from hdrh.histogram import HdrHistogram
from msgspec import Struct

from loadtest.alarm import Alarm
from loadtest.job import Client, Connect, Pick
from loadtest.measurement import Failure, Measurement, Tally, histogram

GIVEN_UP = Failure("timeout", "not answered when the generator stopped waiting")
UNSENT = Failure("unsent", "every connection was busy until the generator stopped waiting")


class OpenLoad(Struct, frozen=True, kw_only=True):
    rate: float
    """Jobs per second."""
    seconds: float
    """Length of the schedule."""
    burst: int = 1
    """Jobs that start at the same moment; the rate stays what it is."""
    max_in_flight: int = 64
    max_jobs: int = 1_000_000
    grace: float = 10.0
    """Seconds that answers are waited for after the last intended start; what is missing then is
    counted as `timeout`, or `unsent` if it was still in line."""

    @property
    def jobs(self) -> int:
        return min(max(1, round(self.rate * self.seconds)), self.max_jobs)


async def measure(
    connect: Connect, pick: Pick, load: OpenLoad, tallies: dict[str, Tally] | None = None
) -> Measurement:
    """Runs `load` to its end. Raises what `connect` raises; a job's failure is only counted.

    `tallies` receives the same by name of the job.
    """
    clients = [await connect() for _ in range(load.max_in_flight)]
    cpu = time.process_time()
    schedule = _Schedule(clients, pick, load, {} if tallies is None else tallies)
    try:
        seconds = await schedule.run()
    finally:
        for client in clients:
            client.close()
    late = _p99_ms(histogram(schedule.lateness))
    return schedule.tally.measurement(seconds, {"generator": time.process_time() - cpu}, late)


def _p99_ms(made: HdrHistogram) -> float:
    return float(made.get_value_at_percentile(99)) / 1e3


class _Schedule:
    """One pass: intended starts go to idle clients, or in line."""

    def __init__(
        self, clients: list[Client], pick: Pick, load: OpenLoad, tallies: dict[str, Tally]
    ) -> None:
        self.tally = Tally()
        self.lateness: list[int] = []
        self._by_name = tallies
        self._idle, self._pick, self._load = list(clients), pick, load
        self._line: deque[int] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
        self._begin = 0

    def _due(self, index: int) -> int:
        first = index - index % self._load.burst
        return self._begin + int(first * 1e9 / self._load.rate)

    async def run(self) -> float:
        """Seconds from the first intended start to the last end."""
        alarm = Alarm()
        self._begin = time.monotonic_ns()
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(self._load.jobs):
                    await alarm.until(self._due(index))
                    self.lateness.append(time.monotonic_ns() - self._due(index))
                    self._start(index, group)
                await self._drain()
        finally:
            alarm.close()
        return (time.monotonic_ns() - self._begin) / 1e9

    def _start(self, index: int, group: asyncio.TaskGroup) -> None:
        if not self._idle:
            self._line.append(index)
            return
        task = group.create_task(self._serve(self._idle.pop(), index))
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _serve(self, client: Client, index: int) -> None:
        """Does job `index`, then those in line; the client is idle again after them."""
        while True:
            try:
                self._record(index, await client.run(self._pick(index)))
            except asyncio.CancelledError:
                self._record(index, GIVEN_UP)
                raise
            if not self._line:
                break
            index = self._line.popleft()
        self._idle.append(client)

    def _record(self, index: int, failure: Failure | None) -> None:
        took = time.monotonic_ns() - self._due(index)
        for tally in (self.tally, self._by_name.setdefault(self._pick(index).name, Tally())):
            if failure is None:
                tally.right(took)
            else:
                tally.wrong(failure, took)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._running:
            self._drained.set()

    async def _drain(self) -> None:
        """Waits for what is in flight and in line, for the grace; then gives both up."""
        if not self._running:
            return
        self._drained.clear()
        try:
            async with asyncio.timeout(self._load.grace):
                await self._drained.wait()
        except TimeoutError:
            while self._line:
                self._record(self._line.popleft(), UNSENT)
            for task in self._running:
                task.cancel()
