"""CPU time of a running service, split by process.

What a process's children used enters its own record when it has waited for them, so a sandbox is
never missed however short it lived: the sandboxes' time is the node's waited-for children plus
those alive. It covers the whole life of a sandbox, its set-up before it enters its cgroup too,
which a cgroup's count would not.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
ROLES = ("gateway", "node", "redis", "serve", "sandboxes")
"""`serve` is the first process, with any child of it that has no name of its own here."""


class Process(Struct, frozen=True, kw_only=True):
    pid: int
    parent: int
    started: int
    """Ticks since boot: with the pid, the identity of the process."""
    own: float
    """CPU seconds, user and system."""
    waited_for: float
    """CPU seconds of the children it has waited for, and theirs."""
    argv: tuple[str, ...] = ()


class Usage(Struct, frozen=True, kw_only=True):
    """CPU seconds so far, and which processes they belong to."""

    seconds: dict[str, float]
    identities: dict[str, frozenset[tuple[int, int]]]
    """Pid and start of the processes that last as long as the service, by role."""


class RestartedError(Exception):
    """A process of the service ended between two readings: their difference means nothing."""


def read(root: int) -> Usage:
    """What the service whose first process is `root` has used. Raises ProcessLookupError."""
    return usage(root, processes())


def between(before: Usage, after: Usage) -> dict[str, float]:
    """CPU seconds by role from one reading to the next. Raises RestartedError."""
    for role, identities in before.identities.items():
        if not identities <= after.identities.get(role, frozenset()):
            raise RestartedError(role)
    return {role: used - before.seconds.get(role, 0.0) for role, used in after.seconds.items()}


def usage(root: int, table: Mapping[int, Process]) -> Usage:
    """The same from a process table."""
    if root not in table:
        raise ProcessLookupError(f"no process {root}")
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    seconds: dict[str, float] = {}
    identities: dict[str, set[tuple[int, int]]] = {}
    stack = [(table[root], "serve")]
    while stack:
        process, role = stack.pop()
        seconds[role] = seconds.get(role, 0.0) + process.own
        if process.pid == root or (role in ROLES[:3] and process.parent == root):
            identities.setdefault(role, set()).add((process.pid, process.started))
        waited = "sandboxes" if role == "node" else role
        seconds[waited] = seconds.get(waited, 0.0) + process.waited_for
        stack += [(child, role_of(child, role)) for child in children.get(process.pid, [])]
    return Usage(
        seconds=seconds, identities={role: frozenset(found) for role, found in identities.items()}
    )


def role_of(process: Process, parent: str) -> str:
    """Which of ROLES the child of a process of role `parent` has."""
    if parent in ("node", "sandboxes"):
        return "sandboxes"
    if parent in ("gateway", "redis"):
        return parent
    if process.argv and any(name in process.argv[0] for name in ("redis-server", "valkey-server")):
        return "redis"
    return next((role for role in ("gateway", "node") if role in process.argv), "serve")


def processes() -> dict[int, Process]:
    """Every process that can be read now."""
    return {process.pid: process for process in _read_all()}


def _read_all() -> Iterable[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_bytes()
                argv = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            yield parse(int(entry.name), stat, argv)


def parse(pid: int, stat: bytes, cmdline: bytes) -> Process:
    """From `/proc/<pid>/stat` and `cmdline` (proc_pid_stat(5) numbers the fields from 1)."""
    fields = stat[stat.rindex(b")") + 2 :].split()  # starts at field 3; the name may hold spaces
    return Process(
        pid=pid,
        parent=int(fields[1]),
        started=int(fields[19]),
        own=(int(fields[11]) + int(fields[12])) * _TICK,
        waited_for=(int(fields[13]) + int(fields[14])) * _TICK,
        argv=tuple(cmdline.decode("utf-8", "replace").rstrip("\0").split("\0")),
    )
