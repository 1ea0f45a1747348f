"""What a running service holds while nothing runs: memory, descriptors, control groups."""

from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from loadtest import cpu

_CGROUPS = Path("/sys/fs/cgroup")


class Footprint(Struct, frozen=True, kw_only=True):
    memory: dict[str, int]
    """Bytes that no file could give back, by role: of the first process and its children, not of
    sandboxes."""
    descriptors: int
    """Open in the same."""
    groups: int
    """Control groups of the instance, in all hierarchies."""


def read(pid: int, instance: str) -> Footprint:
    """Of the service whose first process is `pid`; one that ends meanwhile counts as nothing."""
    processes = own(pid)
    return Footprint(
        memory=memory(pid),
        descriptors=sum(map(_descriptors, processes)),
        groups=sum(1 for root in _roots(instance) for entry in root.iterdir() if entry.is_dir()),
    )


def memory(pid: int) -> dict[str, int]:
    """Bytes that no file could give back, by role, of the service's own processes."""
    found = dict.fromkeys(cpu.ROLES[:4], 0)
    table = cpu.processes()
    for each in own(pid):
        if each in table:
            found[cpu.role_of(table[each], "serve")] += _resident(each)
    return found


def own(pid: int) -> list[int]:
    """The first process and its children: gateway, node, keeper, courier, Redis."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [pid, *map(int, file.read().split())]


def _resident(pid: int) -> int:
    """Bytes of anonymous and shared memory of one process."""
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = file.readlines()
    except OSError:
        return 0
    return sum(
        int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:"))
    )


def _descriptors(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def _roots(instance: str) -> Iterable[Path]:
    """The instance's group in each hierarchy: directly below where cgroups are mounted, with version 1
    one further down."""
    if not _CGROUPS.is_dir():
        return []
    places = [_CGROUPS, *(entry for entry in _CGROUPS.iterdir() if entry.is_dir())]
    return [root for place in places if (root := place / f"sandboxd-{instance}").is_dir()]
