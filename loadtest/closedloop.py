"""Closed loop: N clients, each sending its next job when the last is answered.

It finds the throughput at a concurrency. Its latencies are those of a server that is never asked
faster than it answers; for the latency at a rate, see `openloop`.
"""

import asyncio
import time

from msgspec import Struct

from loadtest.job import Client, Connect, Pick
from loadtest.measurement import Measurement, Tally


class ClosedLoad(Struct, frozen=True, kw_only=True):
    clients: int
    seconds: float
    """No job starts after it; those in flight are waited for."""
    max_jobs: int = 100_000


async def measure(connect: Connect, pick: Pick, load: ClosedLoad) -> Measurement:
    """Runs `load` to its end. Raises what `connect` raises; a job's failure is only counted."""
    clients = [await connect() for _ in range(load.clients)]
    tally = Tally()
    indices = iter(range(load.max_jobs))
    cpu = time.process_time()
    begin = time.monotonic_ns()
    deadline = begin + int(load.seconds * 1e9)

    async def back_to_back(client: Client) -> None:
        while (start := time.monotonic_ns()) < deadline:
            index = next(indices, None)
            if index is None:
                return
            failure = await client.run(pick(index))
            took = time.monotonic_ns() - start
            if failure is None:
                tally.right(took)
            else:
                tally.wrong(failure, took)

    try:
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(back_to_back(client))
        seconds = (time.monotonic_ns() - begin) / 1e9
        return tally.measurement(seconds, {"generator": time.process_time() - cpu})
    finally:
        for client in clients:
            client.close()
