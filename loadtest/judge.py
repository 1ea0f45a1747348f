"""Judging beside what it is compared with, in turns: submissions and the same programs bare.

A 50-case C++ submission beside a shell loop that runs the binary as often; a burst of Python submissions
beside as many bare interpreters; one `/run` of `/bin/cat` as go-judge's clients ask for it, beside
go-judge itself where its address is given.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import msgspec
from msgspec import Struct

from loadtest.http1 import Connection, request
from loadtest.peers.http import Server
from loadtest.workload import DEBIAN_PYTHON

_ANSWER_WITHIN = 300.0
_MILLISECOND = """
#include <cstdio>
#include <ctime>
int main() {
    int n;
    if (std::scanf("%d", &n) != 1) return 1;
    timespec now;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now); while (now.tv_nsec < 1000000);
    std::printf("%d\\n", n * n);
}
"""
_SUM = "print(sum(map(int, input().split())))"
_LOOP = 'for i in "$1"/*.in; do "$2" <"$i" >"$1/out" || exit; done'
_MANY = 'seq "$1" | xargs -P "$2" -I{} sh -c \'"$0" "$1" <"$2" >/dev/null\' "$3" "$4" "$5"'


class Plan(Struct, frozen=True, kw_only=True):
    rounds: int = 5
    cases: int = 50
    burst: int = 100
    """Python submissions of ten cases each."""
    runs: int = 300
    """Of `/bin/cat`, in each round."""


QUICK = Plan(rounds=2, burst=10, runs=100)


class WrongVerdictError(Exception):
    """A submission did not get the verdict that it must get; the text has the answer."""


class Asker:
    """One keep-alive connection to the service."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wire = Connection(server.host, server.port)

    async def ask(self, path: str, body: Any) -> Any:
        """The answer of a POST. Raises ExchangeError, WrongVerdictError unless it is 200."""
        headers = [("Content-Type", "application/json")]
        if self._server.key:
            headers.append(("Authorization", f"Bearer {self._server.key}"))
        host = f"{self._server.host}:{self._server.port}"
        target = self._server.base + path
        sent = request("POST", target, host, msgspec.json.encode(body), headers)
        status, answer = await self._wire.exchange(sent, _ANSWER_WITHIN)
        if status != 200:
            raise WrongVerdictError(f"{path}: {status} {answer[:500]!r}")
        return msgspec.json.decode(answer)

    async def accepted(self, body: Any) -> Any:
        found = await self.ask("/v1/submissions", body)
        if found.get("verdict") != "AC":
            raise WrongVerdictError(msgspec.json.encode(found)[:500].decode())
        return found

    def close(self) -> None:
        self._wire.close()


async def main(
    server: Server, directory: Path, plan: Plan, go_judge: Server | None = None
) -> list[str]:
    """Run everything; the table's lines. Raises ExchangeError, WrongVerdictError, OSError."""
    return [
        "| judging | sandboxd | beside it | ratio of times |",
        "|---|---|---|---|",
        await _cases(server, directory, plan),
        await _burst(server, directory, plan),
        await _cat(server, plan, go_judge),
    ]


async def _cases(server: Server, directory: Path, plan: Plan) -> str:
    source, program, inputs = directory / "ms.cpp", directory / "ms", directory / "inputs"
    source.write_text(_MILLISECOND)
    inputs.mkdir()
    for number in range(plan.cases):
        (inputs / f"{number}.in").write_text(f"{number}\n")
    await _command("g++", "-O2", "-o", str(program), str(source))
    submission = {
        "language": "cpp", "source": _MILLISECOND, "parallel": os.cpu_count() or 1,
        "cases": [{"input": f"{n}\n", "answer": f"{n * n}\n"} for n in range(plan.cases)],
    }  # fmt: skip
    asker = Asker(server)
    try:
        started = time.monotonic()
        await asker.accepted(submission)
        first = time.monotonic() - started
        ours, bare = await _in_turns(
            plan.rounds,
            lambda: asker.accepted(submission),
            lambda: _command("sh", "-c", _LOOP, "sh", str(inputs), str(program)),
        )
    finally:
        asker.close()
    return (
        f"| {plan.cases} cases of 1 ms, C++ (with compiler {first:.2f} s) "
        f"| {median(ours) * 1e3:.0f} ms, {plan.cases / median(ours):.0f} cases/s "
        f"| shell loop {median(bare) * 1e3:.0f} ms | {_ratio(ours, bare):.2f} |"
    )


async def _burst(server: Server, directory: Path, plan: Plan) -> str:
    script, given = directory / "sum.py", directory / "sum.in"
    script.write_text(_SUM)
    given.write_text("1 2\n")
    cases = [{"input": f"{n} 1\n", "answer": f"{n + 1}\n"} for n in range(10)]
    # Each source is another one: nothing of one submission can serve the next.
    bodies = [
        {"language": "python", "source": f"{_SUM}  # {number}", "cases": cases}
        for number in range(plan.burst)
    ]
    askers = [Asker(server) for _ in bodies]

    async def all_at_once() -> None:
        async with asyncio.TaskGroup() as group:
            for asker, body in zip(askers, bodies, strict=True):
                group.create_task(asker.accepted(body))

    runs, cores = str(plan.burst * 10), str(os.cpu_count() or 1)
    try:
        ours, bare = await _in_turns(
            max(1, plan.rounds // 2),
            all_at_once,
            lambda: _command(
                "sh", "-c", _MANY, "sh", runs, cores, DEBIAN_PYTHON, str(script), str(given)
            ),
        )
    finally:
        for asker in askers:
            asker.close()
    total = plan.burst * 10
    return (
        f"| {plan.burst} Python submissions of 10 cases at once "
        f"| {total / median(ours):.0f} cases/s | {cores} `python3` at a time "
        f"{total / median(bare):.0f}/s | {_ratio(ours, bare):.2f} |"
    )


async def _cat(server: Server, plan: Plan, go_judge: Server | None) -> str:
    ours = Asker(server)
    theirs = None if go_judge is None else Asker(go_judge)
    took: tuple[list[float], list[float]] = ([], [])
    try:
        for _ in range(plan.rounds):
            took[0].extend(await _cats(ours, "/compat/go_judge/run", plan.runs))
            if theirs is not None:
                took[1].extend(await _cats(theirs, "/run", plan.runs))
    finally:
        for asker in (ours, theirs):
            if asker is not None:
                asker.close()
    beside = "| "
    if theirs is not None:
        ratio = median(took[0]) / median(took[1])
        beside = f"go-judge {_spread(took[1])} | {ratio:.2f} "
    return f"| go-judge `/run` of `/bin/cat` | {_spread(took[0])} | {beside}|"


async def _cats(asker: Asker, path: str, count: int) -> list[float]:
    """Seconds that each took, one after the other. Raises WrongVerdictError."""
    command = {
        "args": ["/bin/cat"], "env": ["PATH=/usr/bin:/bin"],
        "files": [{"content": "hello"}, *({"name": x, "max": 10240} for x in ("stdout", "stderr"))],
        "cpuLimit": 1_000_000_000, "memoryLimit": 64 << 20, "procLimit": 4,
    }  # fmt: skip
    took = list[float]()
    for number in range(count):
        started = time.monotonic()
        [found] = await asker.ask(path, {"cmd": [command]})
        took.append(time.monotonic() - started)
        if found["files"] != {"stdout": "hello", "stderr": ""}:
            raise WrongVerdictError(f"run {number}: {found}")
    return took


def _spread(took: Sequence[float]) -> str:
    steps = quantiles(took, n=100)
    return f"p50 {steps[49] * 1e3:.2f} ms, p99 {steps[98] * 1e3:.2f} ms"


async def _in_turns(
    rounds: int, first: Callable[[], Awaitable[object]], second: Callable[[], Awaitable[object]]
) -> tuple[list[float], list[float]]:
    """Seconds that each took, round by round."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for one, spent in zip((first, second), times, strict=True):
            started = time.monotonic()
            await one()
            spent.append(time.monotonic() - started)
    return times


def _ratio(ours: Sequence[float], bare: Sequence[float]) -> float:
    return median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))


async def _command(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.DEVNULL)
    if await process.wait():
        raise OSError(f"{argv[0]} ended with {process.returncode}")
