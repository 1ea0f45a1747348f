"""Runs with a network beside runs without: how many a second, how long each takes, where its CPU goes."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loadtest import bench, cell, service
from loadtest.cell import Cell, Key, Rounds
from loadtest.closedloop import ClosedLoad
from loadtest.cpu import ROLES
from loadtest.host import Clock
from loadtest.measurement import Measurement
from loadtest.peers.http import HttpPeer
from loadtest.report import number, table
from loadtest.workload import Workload, build, workloads

CLIENTS = (1, 8, 32)
_SETTINGS = ("network.enabled=true", "network.pool_size=16", "network.warm=32")
_NETWORKS = ("none", "internet")
_FILLING = 0.5
"""Seconds in which stocks are filled up before a measurement."""
_TRUE = Workload(
    name="true",
    title="`true`, found and linked by the dynamic loader",
    stdout="",
    request={"template": "default", "command": ["true"]},
)


class _Networked(HttpPeer):
    """The service, whose every run is on one network."""

    def __init__(self, network: str, private: service.Service) -> None:
        super().__init__(network, "", private.server, private.pid)

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        """`others` in its CPU is what the rest of the machine has used, kernel threads among it."""
        await asyncio.sleep(_FILLING)
        request = {**workload.request, "network": self.name}
        before = Clock.read()
        measured = await super().measure(msgspec.structs.replace(workload, request=request), load)
        others = Clock.read().busy_since(before) - sum(measured.cpu.values())
        return measured.with_cpu({"others": max(0.0, others)})


async def measure(rounds: int, seconds: float) -> tuple[list[str], list[str]]:
    """The lines of tables, and what answers were wrong.

    Raises ServiceError, BuildError, BrokenPeerError.
    """
    flags = [word for setting in _SETTINGS for word in ("--set", setting)]
    plan = bench.Plan(rounds=rounds, seconds=seconds, clients=CLIENTS)
    with tempfile.TemporaryDirectory(prefix="sandboxd-loadtest-") as directory:
        programs = await asyncio.to_thread(build, Path(directory))
        asked = [workloads(programs)["compiled"], _TRUE]
        async with service.private([*service.COMMAND, *flags]) as private:
            peers = [_Networked(network, private) for network in _NETWORKS]
            for peer in peers:
                await bench.warm_up([peer], asked, peer, lambda _: None)
            results = await bench.measure(peers, asked, plan, lambda _: None)
    wrong = [
        text for all_of in results.values() for one in all_of for text in one.examples.values()
    ]
    return lines(results, asked), wrong


def lines(results: Mapping[Key, Rounds], asked: Sequence[Workload]) -> list[str]:
    """A table for each workload, a row for each number of clients and network."""
    found = cell.cells(dict(results))
    names = [name for name in (*ROLES, "others", "generator") if any(name in x.cpu for x in found)]
    heads = ["network", "clients", "runs/s", "of none", "p50 ms", "CPU ms", *names]
    made = []
    for workload in asked:
        of_it = [each for each in found if each.workload == workload.name]
        rows = [_row(each, _beside(of_it, each), names) for each in of_it]
        made += ["", f"{workload.title}:", "", *table(heads, rows)]
    return made


def _beside(found: Sequence[Cell], cell: Cell) -> Cell:
    """The same without a network."""
    return next(each for each in found if (each.peer, each.clients) == ("none", cell.clients))


def _row(cell: Cell, none: Cell, names: Sequence[str]) -> list[str]:
    share = 100 * cell.per_second.median / max(none.per_second.median, 1e-9)
    return [
        cell.peer,
        str(cell.clients),
        f"{cell.per_second.median:.1f}",
        f"{share:.0f} %",
        f"{cell.p50.median:.2f}",
        number(cell.cpu_total),
        *(number(cell.cpu.get(name)) for name in names),
    ]
