"""The unified hierarchy, as production has it."""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from sandboxd.drivers.exec.cgroups.base import Present, Usage
from sandboxd.drivers.exec.cgroups.cores import numbers, rest
from sandboxd.drivers.exec.cgroups.files import (
    PAGE,
    await_state,
    faults,
    read_fd,
    remove_directory,
    set_exactly,
    value,
    write,
)

_PERIOD_US = 100_000
_RDONLY = os.O_RDONLY | os.O_CLOEXEC
_CONTROLLERS = ("cpu", "memory", "pids")


class V2:
    kind = "v2"
    layers = frozenset({"cgroup_memory", "cgroup_pids", "cgroup_cpu", "cgroup_kill"})

    def __init__(self, mount: Path, instance: str, cores: Sequence[int] = ()) -> None:
        self._root = mount / f"sandboxd-{instance}"
        self._rest = ""
        controllers: tuple[str, ...] = _CONTROLLERS
        if cores:
            available = (mount / "cpuset.cpus.effective").read_text()
            self._rest = rest(numbers(available), cores)
            controllers = ("cpuset", *_CONTROLLERS)
        enable = " ".join(f"+{name}" for name in controllers)
        with faults("make the instance's group"):
            write(mount / "cgroup.subtree_control", enable)
            self._root.mkdir(exist_ok=True)
            write(self._root / "cgroup.subtree_control", enable)

    def make(self, name: str, *, memory: int, pids: int, cpus: float) -> "V2Group":
        group = V2Group(self._root / name)
        try:
            with faults("make a group"):
                group.path.mkdir()
                write(group.path / "cpu.max", f"{int(cpus * _PERIOD_US)} {_PERIOD_US}")
                if self._rest:
                    write(group.path / "cpuset.cpus", self._rest)
                write(group.path / "memory.oom.group", "1")
                swap = group.path / "memory.swap.max"
                if swap.exists():  # absent where the kernel does not account swap
                    write(swap, "0")
                group.open()
                group.limit(memory=memory, pids=pids)
        except BaseException:
            group.remove()
            raise
        return group

    def adopt(self, name: str, *, memory: int, pids: int) -> "V2Group":
        group = V2Group(self._root / name)
        try:
            with faults("adopt a group"):
                group.open()
                group.settle()
        except BaseException:
            group.close()
            raise
        group.limits = (memory, pids)
        return group

    def sweep(self, keep: Collection[str] = ()) -> int:
        if not self._root.is_dir():
            return 0  # swept and taken down already, by another of the same instance
        groups = [path for path in self._root.iterdir() if path.is_dir() and path.name not in keep]
        with faults("sweep"):
            for path in groups:
                write(path / "cgroup.kill", "1")
            for path in groups:
                remove_directory(path)
        return len(groups)

    def close(self) -> None:
        remove_directory(self._root)


class V2Group:
    tasks: tuple[int, ...] = ()
    oom_event = -1

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = -1
        self._fds: list[int] = []
        self.limits: tuple[int, int] = (0, 0)

    def open(self) -> None:
        """Open what the run path needs, so that nothing on it resolves a path."""
        self.directory = self._keep(self.path, _RDONLY | os.O_DIRECTORY)
        self._cpu_fd = self._keep(self.path / "cpu.stat", _RDONLY)
        self._events_fd = self._keep(self.path / "memory.events", _RDONLY)
        self._peak_fd = self._keep(self.path / "memory.peak", _RDONLY)
        self._pids_fd = self._keep(self.path / "pids.events", _RDONLY)
        self._kill_fd = self._keep(self.path / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)

    def settle(self) -> None:
        self._fds.remove(self.directory)
        os.close(self.directory)
        self.directory = -1

    def _keep(self, path: Path, flags: int) -> int:
        fd = os.open(path, flags)
        self._fds.append(fd)
        return fd

    def limit(self, *, memory: int, pids: int) -> None:
        if (memory, pids) == self.limits:
            return
        with faults("set limits"):
            set_exactly(self.path / "memory.max", memory, PAGE)
            set_exactly(self.path / "pids.max", pids)
        self.limits = (memory, pids)

    def fits(self, memory: int) -> bool:
        """The kernel would end processes rather than refuse."""
        excess = self.present().memory - memory
        if excess > 0:
            self._reclaim(excess)
        return self.present().memory <= memory

    def _reclaim(self, size: int) -> None:
        with contextlib.suppress(OSError):  # before 5.19 there is no such file; EAGAIN: not all
            write(self.path / "memory.reclaim", str(size))

    def reclaim(self, *, swap: bool) -> None:
        present = self.present().memory
        if not swap:
            return self._reclaim(present)
        self._swap("max")
        try:
            self._reclaim(present)
        finally:
            self._swap("0")  # what is out comes back as it is touched, and nothing more goes

    def _swap(self, most: str) -> None:
        with contextlib.suppress(FileNotFoundError), faults("limit swap"):
            write(self.path / "memory.swap.max", most)

    def cpu_time(self) -> float:
        return value(read_fd(self._cpu_fd), "usage_usec") / 1e6

    def usage(self) -> Usage:
        with faults("read usage"):
            return Usage(
                self.cpu_time(),
                int(read_fd(self._peak_fd)),
                value(read_fd(self._events_fd), "oom_kill"),
                value(read_fd(self._pids_fd), "max"),
            )

    def kill(self) -> None:
        os.write(self._kill_fd, b"1")

    def freeze(self, frozen: bool) -> None:
        with faults("freeze"):
            write(self.path / "cgroup.freeze", "1" if frozen else "0")

    def settled(self, frozen: bool, timeout: float) -> bool:
        with faults("freeze"):
            return await_state(self.path / "cgroup.events", frozen, timeout)

    def set_cpus(self, cpus: float) -> None:
        with faults("set limits"):
            write(self.path / "cpu.max", f"{int(cpus * _PERIOD_US)} {_PERIOD_US}")

    def pin(self, core: int) -> None:
        with faults("move to a core"):
            write(self.path / "cpuset.cpus", str(core))

    def kill_one(self) -> None:
        with faults("set limits"):
            write(self.path / "memory.oom.group", "0")

    def present(self) -> Present:
        with faults("read usage"):
            return Present(
                int((self.path / "memory.current").read_text()),
                int((self.path / "pids.current").read_text()),
            )

    def close(self) -> None:
        """Close descriptors; the group stays."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def remove(self) -> None:
        self.close()
        remove_directory(self.path)
