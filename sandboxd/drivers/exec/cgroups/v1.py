"""v1 controllers, with the controller-less v2 tree of a hybrid host where there is one.

The v2 tree gives what v1 lacks: `cgroup.kill`, `cgroup.freeze`, birth into the group, and `cpu.stat`.
Without it, sandboxes are killed through their pid namespace and CPU time comes from cpuacct. v1 has
no `memory.oom.group`: an eventfd tells of an OOM kill, and the owner ends the group.
"""

import errno
import os
import select
import signal
from pathlib import Path

from sandboxd.drivers.exec.cgroups.base import LimitBelowUse, Present, Usage
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
from sandboxd.errors import DriverFault

_PERIOD_US = 100_000  # what every new group has
_RDONLY = os.O_RDONLY | os.O_CLOEXEC


class V1:
    def __init__(self, controllers: dict[str, Path], unified: Path | None, instance: str) -> None:
        self._name = f"sandboxd-{instance}"
        self._roots = {point / self._name for point in controllers.values()}
        self._memory = controllers["memory"] / self._name
        self._pids = controllers["pids"] / self._name
        self._cpu = controllers["cpu"] / self._name
        self._cpuacct = controllers["cpuacct"] / self._name if unified is None else None
        self._unified = unified / self._name if unified is not None else None
        if self._unified is not None:
            self._roots.add(self._unified)
        self.kind = "v1" if unified is None else "hybrid"
        self.layers = frozenset(
            {"cgroup_memory", "cgroup_pids", "cgroup_cpu"}
            | ({"cgroup_kill"} if unified is not None else set())
        )
        with faults("make the instance's groups"):
            for root in self._roots:
                root.mkdir(exist_ok=True)

    def make(self, name: str, *, memory: int, pids: int, cpus: float) -> "V1Group":
        group = V1Group(
            made=[root / name for root in self._roots],
            memory=self._memory / name,
            pids=self._pids / name,
            cpu=self._cpu / name,
            cpuacct=None if self._cpuacct is None else self._cpuacct / name,
            unified=None if self._unified is None else self._unified / name,
        )
        try:
            with faults("make a group"):
                for directory in group.made:
                    directory.mkdir()
                write(self._cpu / name / "cpu.cfs_quota_us", str(int(cpus * _PERIOD_US)))
                group.open({self._memory / name, self._pids / name, self._cpu / name})
                group.limit(memory=memory, pids=pids)
        except BaseException:
            group.remove()
            raise
        return group

    def sweep(self) -> int:
        names = {
            path.name
            for root in self._roots
            if root.is_dir()
            for path in root.iterdir()
            if path.is_dir()
        }
        for name in names:
            with faults("sweep"):
                if self._unified is not None and (self._unified / name).is_dir():
                    write(self._unified / name / "cgroup.kill", "1")
                for root in self._roots:
                    _kill_members(root / name)
                    remove_directory(root / name)
        return len(names)

    def close(self) -> None:
        for root in self._roots:
            remove_directory(root)


class V1Group:
    def __init__(
        self,
        *,
        made: list[Path],
        memory: Path,
        pids: Path,
        cpu: Path,
        cpuacct: Path | None,
        unified: Path | None,
    ) -> None:
        self.made = made
        self.tasks: tuple[int, ...] = ()
        self.directory = -1
        self.oom_event = -1
        self._memory, self._pids, self._unified = memory, pids, unified
        self._cpu, self._cpuacct = cpu, cpuacct
        self._fds: list[int] = []
        self._cpu_fd = self._oom_fd = self._peak_fd = self._kill_fd = self._pids_fd = -1
        self.limits: tuple[int, int] = (0, 0)

    def open(self, joined: set[Path]) -> None:
        """Open what the run path needs, so that nothing on it resolves a path."""
        if self._cpuacct is not None:
            joined = {*joined, self._cpuacct}
            self._cpu_fd = self._keep(self._cpuacct / "cpuacct.usage", _RDONLY)
        if self._unified is not None:
            self._cpu_fd = self._keep(self._unified / "cpu.stat", _RDONLY)
            self._kill_fd = self._keep(self._unified / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
            self.directory = self._keep(self._unified, _RDONLY | os.O_DIRECTORY)
        self.tasks = tuple(
            self._keep(path / "tasks", os.O_WRONLY | os.O_CLOEXEC) for path in sorted(joined)
        )
        self._oom_fd = self._keep(self._memory / "memory.oom_control", _RDONLY)
        self._peak_fd = self._keep(self._memory / "memory.max_usage_in_bytes", _RDONLY)
        self._pids_fd = self._keep(self._pids / "pids.events", _RDONLY)
        self.oom_event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._fds.append(self.oom_event)
        write(self._memory / "cgroup.event_control", f"{self.oom_event} {self._oom_fd}")

    def settle(self) -> None:
        for fd in (*self.tasks, self.directory):
            if fd >= 0:
                self._fds.remove(fd)
                os.close(fd)
        self.tasks, self.directory = (), -1

    def _keep(self, path: Path, flags: int) -> int:
        fd = os.open(path, flags)
        self._fds.append(fd)
        return fd

    def limit(self, *, memory: int, pids: int) -> None:
        if (memory, pids) == self.limits:
            return
        files = [self._memory / "memory.limit_in_bytes"]
        if (swap := self._memory / "memory.memsw.limit_in_bytes").exists():
            # Memory plus swap may never be below memory: the outer limit moves first when growing.
            files.insert(0 if memory > self.limits[0] > 0 else 1, swap)
        # v1 counts the buffers of TCP and UDP sockets only once they have a limit, and apart.
        if (sockets := self._memory / "memory.kmem.tcp.limit_in_bytes").exists():
            files.append(sockets)
        with faults("set limits"):
            for file in files:
                _limit_memory(file, memory)
            set_exactly(self._pids / "pids.max", pids)
        self.limits = (memory, pids)

    def cpu_time(self) -> float:
        text = read_fd(self._cpu_fd)
        if self._unified is not None:
            return value(text, "usage_usec") / 1e6
        return int(text) / 1e9

    def usage(self) -> Usage:
        with faults("read usage"):
            return Usage(
                self.cpu_time(),
                int(read_fd(self._peak_fd)),
                value(read_fd(self._oom_fd), "oom_kill"),
                value(read_fd(self._pids_fd), "max"),
            )

    def kill(self) -> None:
        if self._kill_fd >= 0:
            os.write(self._kill_fd, b"1")

    def freeze(self, frozen: bool) -> None:
        if self._unified is None:
            raise DriverFault("cgroups", "freeze", "needs the v2 hierarchy")
        with faults("freeze"):
            write(self._unified / "cgroup.freeze", "1" if frozen else "0")

    def settled(self, frozen: bool, timeout: float) -> bool:
        if self._unified is None:
            return False
        with faults("freeze"):
            return await_state(self._unified / "cgroup.events", frozen, timeout)

    def set_cpus(self, cpus: float) -> None:
        with faults("set limits"):
            set_exactly(self._cpu / "cpu.cfs_quota_us", int(cpus * _PERIOD_US))

    def kill_one(self) -> None:
        """v1 has never done otherwise."""

    def present(self) -> Present:
        with faults("read usage"):
            return Present(
                int((self._memory / "memory.usage_in_bytes").read_text()),
                int((self._pids / "pids.current").read_text()),
            )

    def remove(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        for directory in self.made:
            remove_directory(directory)


def _limit_memory(file: Path, memory: int) -> None:
    try:
        set_exactly(file, memory, PAGE)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise LimitBelowUse("cgroups", "set limits", f"{memory} bytes are in use") from error


def _kill_members(directory: Path) -> None:
    """The kill of hosts without a v2 tree, for the sweep: by pidfd, and checked to be a member."""
    try:
        pids = [int(line) for line in (directory / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if str(pid) in (directory / "cgroup.procs").read_text().split():
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                select.select([fd], [], [], 5)
        except ProcessLookupError:
            continue
        finally:
            os.close(fd)
