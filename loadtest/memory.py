"""What a sandbox holds in memory while a Python program sleeps in it, ours and the peers', and what the
service holds beside them.

It is PSS: of a page that several processes share, each has its part. What the kernel itself keeps for a
sandbox is in its control group's count alone.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

from loadtest import cpu
from loadtest.closedloop import ClosedLoad
from loadtest.cpu import Process
from loadtest.footprint import own
from loadtest.http1 import ExchangeError
from loadtest.job import Expectation, job
from loadtest.peers import Peer, PeerError
from loadtest.peers.command import CommandPeer, DaemonPeer
from loadtest.peers.http import HttpPeer
from loadtest.report import Held
from loadtest.workload import ASLEEP, SLEEP

_EACH = 0.1
"""Seconds between two looks."""
_FULL_AGAIN = 1.0
"""Seconds in which the service's shelves are as they were."""
_MARK = "asleep"
_RUN = {"language": "python", "source": f"open('/proc/self/comm', 'w').write('{_MARK}')\n{SLEEP}"}
_SANDBOX = re.compile(r"/(sb-[0-9a-f]+)")
_COUNTS = {
    "memory": ("/sys/fs/cgroup/memory", "memory.usage_in_bytes"),
    "": ("/sys/fs/cgroup", "memory.current"),
}
"""Where a hierarchy of version 1, or 2, is mounted, and its file."""
_NOTHING_YET = {"sandbox-init", "sudo"}
"""What runs in a sandbox that waits for its first program."""
_GOALS = {"": 1 << 19, "python3": 6 << 20}
"""Bytes, by the interpreter that waits."""
_Answer = TypeVar("_Answer")


async def measure(peers: Sequence[Peer], ours: HttpPeer, say: Callable[[str], None]) -> list[Held]:
    """Of each peer that is a command, and of the service if its process is known. As root. What cannot be
    measured is told to `say`."""
    tried = [
        (peer.name, _of_command(peer))
        for peer in peers
        if isinstance(peer, CommandPeer) and not isinstance(peer, DaemonPeer) and peer.runs(ASLEEP)
    ]
    if ours.pid is not None:
        tried.append((ours.name, _of_run(ours, ours.pid)))
    found = []
    for name, of in tried:
        try:
            found.append(await of)
        except (PeerError, ExchangeError) as error:
            say(f"memory of {name}: {error}")
    return [*found, *(await _of_service(ours.pid) if ours.pid is not None else [])]


async def _of_command(peer: CommandPeer) -> Held:
    driver = await peer.start(ASLEEP, load := ClosedLoad(clients=1, seconds=30.0, max_jobs=1))

    def look() -> list[int]:
        table = cpu.processes()
        if driver.pid not in table:
            return []
        name = table[driver.pid].argv[:1]  # its keeper is no part of the sandbox
        return [pid for pid in below(driver.pid, table) if table[pid].argv[:1] != name]

    held, measured = await _while(peer.name, look, peer.end(driver, load))
    if not measured.ok:
        raise PeerError(f"{measured.errors} {measured.examples}")
    return held


async def _of_run(ours: HttpPeer, root: int) -> Held:
    def look() -> list[int]:
        return next((pids for pids in _sandboxes(root) if _MARK in map(_name, pids)), [])

    client = await ours.server.connect()
    try:
        running = client.run(job(_MARK, _RUN, Expectation(exit_code=0, stdout="")))
        held, failure = await _while(ours.name, look, running)
    finally:
        client.close()
    if failure:
        raise PeerError(str(failure))
    return held


async def _of_service(root: int) -> list[Held]:
    await asyncio.sleep(_FULL_AGAIN)
    kept: dict[str, list[tuple[int, int]]] = {}
    for pids in await asyncio.to_thread(_sandboxes, root):
        names = set(map(_name, pids)) - _NOTHING_YET
        sizes = (sum(map(pss, pids)), charged(pids[0]))
        kept.setdefault(min(names, default=""), []).append(sizes)
    rows = []
    for name, found in sorted(kept.items()):
        sizes, groups = zip(*found, strict=True)
        what = f"{name} that waits, in its sandbox" if name else "sandbox that waits"
        rows.append(
            Held(
                what=f"{what}: median of {len(sizes)}", rest=int(median(sizes)), peak=max(sizes),
                charged=int(median(groups)), goal=_GOALS.get(name),
            )
        )  # fmt: skip
    table = cpu.processes()
    inside = {pid for pids in _sandboxes(root) for pid in pids}
    for role in cpu.ROLES[:4]:
        pids = [p for p in own(root) if p in table and cpu.role_of(table[p], "serve") == role]
        rows.append(Held(what=role, rest=sum(map(pss, pids))))
    ahead = [pid for pid in below(root, table) if pid not in inside and pid not in own(root)]
    rows.append(Held(what="interpreters that others are forked from", rest=sum(map(pss, ahead))))
    return rows


async def _while(
    what: str, look: Callable[[], list[int]], work: Awaitable[_Answer]
) -> tuple[Held, _Answer]:
    """What the processes that `look` finds held as long as `work` went on; at rest is the median."""
    task = asyncio.ensure_future(work)
    seen = []
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_EACH)
            if total := sum(map(pss, await asyncio.to_thread(look))):
                seen.append(total)
    finally:
        if not task.done():
            task.cancel()
    return Held(what=what, rest=int(median(seen or [0])), peak=max(seen, default=0)), await task


def _sandboxes(root: int) -> list[list[int]]:
    """The processes of each sandbox of the service, told apart by their control groups."""
    found: dict[str, list[int]] = {}
    for pid in below(root, cpu.processes()):
        try:
            group = _SANDBOX.search(Path(f"/proc/{pid}/cgroup").read_text())
        except OSError:
            continue  # it ended while we looked
        if group:
            found.setdefault(group[1], []).append(pid)
    return list(found.values())


def below(root: int, table: Mapping[int, Process]) -> list[int]:
    """The descendants of a process."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found, left = list[int](), [root]
    while left:
        more = children.get(left.pop(), [])
        found += more
        left += more
    return found


def pss(pid: int) -> int:
    """Bytes; nothing of a process that has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except OSError:
        return 0


def charged(pid: int) -> int:
    """Bytes that the control group of a sandbox's process counts; 0 where none counts memory."""
    try:
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            place, file = _COUNTS.get(controllers, ("", ""))
            if (count := Path(f"{place}{_group(path)}/{file}")).is_file():
                return int(count.read_text())
    except OSError:
        pass  # it ended while we looked
    return 0


def _group(path: str) -> str:
    found = _SANDBOX.search(path)
    return path[: found.end()] if found else path


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
