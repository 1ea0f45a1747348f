"""How far apart the times of one program's runs are, alone and beside noisy neighbours, with cores kept
for judging and without: each in a private service."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from loadtest import service
from loadtest.judge import Asker, WrongVerdictError
from loadtest.peers.http import Server

_NOISE = 3
"""Neighbours, each of which computes and writes memory all the time."""
_WORK = """
#include <cstdio>
#include <vector>
int main() {
    std::vector<unsigned> v(1 << 18, 1);
    unsigned sum = 0;
    for (int round = 0; round < 40; round++)
        for (unsigned i = 0; i < v.size(); i++) sum += v[(i * 7919u) & (v.size() - 1)] += sum;
    std::printf("%d", sum != 1);
}
"""
_NEIGHBOUR = """
#include <cstring>
#include <vector>
int main() {
    std::vector<char> v(32 << 20);
    for (char c = 0;; c++) std::memset(v.data(), c, v.size());
}
"""


async def main(cases: int) -> list[str]:
    """The table's lines. Raises ServiceError, ExchangeError, WrongVerdictError."""
    kept = (os.cpu_count() or 1) - 1
    lines = [
        "| cores | neighbours | CPU time p5, p50, p95, max | spread (p95 - p5) / p50 | wall p50, p95 |",
        "|---|---|---|---|---|",
    ]
    for name, flags in (("any", ()), (f"{kept} kept", ("--set", f"judge.cores={kept}"))):
        async with service.private((*service.COMMAND, *flags)) as private:
            for noisy in (False, True):
                lines.append(await _measure(private.server, name, cases, noisy=noisy))
    return lines


async def _measure(server: Server, name: str, cases: int, *, noisy: bool) -> str:
    async with _neighbours(server, _NOISE if noisy else 0):
        asker = Asker(server)
        try:
            body = {
                "language": "cpp", "source": _WORK, "parallel": 1,
                "cases": [{"answer": "1"}] * cases, "limits": {"cpu_time": 5, "wall_time": 30},
            }  # fmt: skip
            found = await asker.accepted(body)
        finally:
            asker.close()
    cpu = sorted(case["cpu_time"] * 1e3 for case in found["cases"])
    wall = sorted(case["wall_time"] * 1e3 for case in found["cases"])
    low, high = _at(cpu, 0.05), _at(cpu, 0.95)
    return (
        f"| {name} | {_NOISE if noisy else 'none'} "
        f"| {low:.1f}, {median(cpu):.1f}, {high:.1f}, {cpu[-1]:.1f} ms "
        f"| {(high - low) / median(cpu):.1%} | {median(wall):.1f}, {_at(wall, 0.95):.1f} ms |"
    )


@asynccontextmanager
async def _neighbours(server: Server, count: int) -> AsyncIterator[None]:
    """Runs of the same service that never rest, from before the block to its end."""
    askers = [Asker(server) for _ in range(count)]
    body = {
        "language": "cpp", "source": _NEIGHBOUR,
        "limits": {"cpu_time": 300, "wall_time": 300},
    }  # fmt: skip
    tasks = [asyncio.create_task(asker.ask("/v1/runs", body)) for asker in askers]
    try:
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=4)  # their compilers have ended by then
            if done:
                raise WrongVerdictError(f"a neighbour has ended: {done.pop().result()}")
        yield
    finally:
        # Who closes the connection gives the run up.
        for task, asker in zip(tasks, askers, strict=True):
            task.cancel()
            asker.close()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def _at(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(part * len(values)))]
