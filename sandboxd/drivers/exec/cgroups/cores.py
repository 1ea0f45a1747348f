"""Cores that are kept for judged programs: nothing else of this instance runs there.

By cpusets, which a program cannot leave, as it can an affinity that was set for it. On v1 they are few
and shared, one for each such core and one with the rest, and a sandbox's processes are moved; on v2 each
sandbox's group has its own. Other processes of the machine are not kept off: that is the operator's.
"""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from sandboxd.drivers.exec.cgroups.files import faults, read_fd, remove_directory, write
from sandboxd.errors import DriverFault


def numbers(text: str) -> list[int]:
    """The cores of a list in the kernel's notation, such as `0-2,5`. Raises ValueError."""
    found: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    return found


def rest(available: Collection[int], cores: Collection[int]) -> str:
    """What is left for everything else. Raises DriverFault if a core is not there, or none is left."""
    missing = sorted(set(cores) - set(available))
    if missing:
        raise DriverFault("cgroups", "keep cores", f"there is no core {missing[0]} here")
    left = sorted(set(available) - set(cores))
    if not left:
        raise DriverFault("cgroups", "keep cores", "one has to be left for everything else")
    return ",".join(str(core) for core in left)


def forget(mount: Path, instance: str) -> None:
    """Remove what an earlier node of the instance, which kept cores, left; not what still has members."""
    root = mount / f"sandboxd-{instance}"
    if root.is_dir():
        for directory in [*(path for path in root.iterdir() if path.is_dir()), root]:
            with suppress(OSError):
                directory.rmdir()


class Cpusets:
    """The v1 hierarchy's."""

    def __init__(self, mount: Path, instance: str, cores: Sequence[int]) -> None:
        self._root = mount / f"sandboxd-{instance}"
        available = (mount / "cpuset.cpus").read_text().strip()
        self._mems = (mount / "cpuset.mems").read_text().strip()
        left = rest(numbers(available), cores)
        self._kept = [self._root / "rest", *(self._core(core) for core in cores)]
        with faults("keep cores"):
            self._make(self._root, available)
            for directory, cpus in zip(self._kept, [left, *map(str, cores)], strict=True):
                self._make(directory, cpus)
            # By it a process joins the rest.
            self.rest = os.open(self._kept[0] / "tasks", os.O_WRONLY | os.O_CLOEXEC)

    def _core(self, core: int) -> Path:
        return self._root / f"core-{core}"

    def _make(self, directory: Path, cpus: str) -> None:
        directory.mkdir(exist_ok=True)
        write(directory / "cpuset.mems", self._mems)
        write(directory / "cpuset.cpus", cpus)

    def tasks(self) -> int:
        """A descriptor to join the rest by; the caller's."""
        return os.dup(self.rest)

    def move(self, members: Path, core: int) -> None:
        """The processes of `members`, a `cgroup.procs` file, none of which forks at the moment."""
        target = self._core(core) / "cgroup.procs"
        with faults("move to a core"):
            pids = members.read_text().split()
            for pid in pids:
                write(target, pid)
            fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
            try:
                there = set(read_fd(fd).split())
            finally:
                os.close(fd)
        if not set(pids) <= there:
            raise DriverFault("cgroups", "move to a core", "a process has not moved")

    def close(self) -> None:
        os.close(self.rest)
        for directory in [*self._kept, self._root]:
            remove_directory(directory)
