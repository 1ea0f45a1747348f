"""v1 controllers, with the controller-less v2 tree of a hybrid host where there is one.

The v2 tree gives what v1 lacks: `cgroup.kill`, `cgroup.freeze`, birth into the group, and `cpu.stat`.
Without it, sandboxes are killed through their pid namespace and CPU time comes from cpuacct. v1 has
no `memory.oom.group`: an eventfd tells of an OOM kill, and the owner ends the group.
"""

import contextlib
import errno
import os
import select
import signal
from collections.abc import Collection
from pathlib import Path

from sandboxd.drivers.exec.cgroups.base import LimitBelowUse, Present, Usage
from sandboxd.drivers.exec.cgroups.cores import Cpusets
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
from sandboxd.native.group import Groups, Step

_READ = os.O_RDONLY | os.O_CLOEXEC
_PERIOD_US = 100_000  # what every new group has
_MEMORY, _SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
_SOCKETS = "memory.kmem.tcp.limit_in_bytes"
"""v1 counts the buffers of TCP and UDP sockets only once they have a limit, and apart."""


class V1:
    def __init__(
        self,
        controllers: dict[str, Path],
        unified: Path | None,
        instance: str,
        cpusets: Cpusets | None = None,
    ) -> None:
        self.cpusets = cpusets
        self._name = f"sandboxd-{instance}"
        roots = {point / self._name for point in controllers.values()}
        self.memory = controllers["memory"] / self._name
        self.pids = controllers["pids"] / self._name
        self.cpu = controllers["cpu"] / self._name
        self._cpuacct = controllers["cpuacct"] / self._name if unified is None else None
        self.unified = unified / self._name if unified is not None else None
        if self.unified is not None:
            roots.add(self.unified)
        self._roots = sorted(roots)
        self.kind = "v1" if unified is None else "hybrid"
        self.layers = frozenset(
            {"cgroup_memory", "cgroup_pids", "cgroup_cpu"}
            | ({"cgroup_kill"} if unified is not None else set())
        )
        with faults("make the instance's groups"):
            for root in self._roots:
                root.mkdir(exist_ok=True)
            self._fds = [
                os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for root in self._roots
            ]
        self.swap = (self.memory / _SWAP).exists()
        self.sockets = (self.memory / _SOCKETS).exists()
        self._groups = Groups(self._fds, self._steps())

    def _steps(self) -> list[Step]:
        """What makes a group, and in which order its descriptors come; see `V1Group`."""
        number = {root: at for at, root in enumerate(self._roots)}
        memory, pids, cpu = number[self.memory], number[self.pids], number[self.cpu]
        steps = [Step("make", root) for root in number.values()]
        steps.append(Step("set", cpu, "cpu.cfs_quota_us", at=2))
        steps.append(Step("set", memory, _MEMORY, at=0, unit=PAGE))
        if self.swap:
            steps.append(Step("set", memory, _SWAP, at=0, unit=PAGE))
        if self.sockets:
            steps.append(Step("set", memory, _SOCKETS, at=0, unit=PAGE))
        steps.append(Step("set", pids, "pids.max", at=1))
        steps.append(Step("read", memory, "memory.oom_control"))
        steps.append(Step("event", memory, "cgroup.event_control", at=0))
        steps.append(Step("read", memory, "memory.max_usage_in_bytes"))
        steps.append(Step("read", pids, "pids.events"))
        joined = {self.memory, self.pids, self.cpu}
        if self.unified is not None:
            steps.append(Step("read", number[self.unified], "cpu.stat"))
            steps.append(Step("write", number[self.unified], "cgroup.kill"))
            steps.append(Step("read", number[self.unified], "."))
        elif self._cpuacct is not None:
            joined.add(self._cpuacct)
            steps.append(Step("read", number[self._cpuacct], "cpuacct.usage"))
        return steps + [Step("write", number[root], "tasks") for root in sorted(joined)]

    def make(self, name: str, *, memory: int, pids: int, cpus: float) -> "V1Group":
        with faults("make a group"):
            fds = self._groups.make(name, (memory, pids, int(cpus * _PERIOD_US)))
            if self.cpusets is not None:
                fds.append(self.cpusets.tasks())
        return V1Group(self, name, fds, (memory, pids))

    def adopt(self, name: str, *, memory: int, pids: int) -> "V1Group":
        fds: list[int] = []
        try:
            with faults("adopt a group"):
                fds.append(os.open(self.memory / name / "memory.oom_control", _READ))
                fds.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
                event = f"{fds[1]} {fds[0]}"
                write(self.memory / name / "cgroup.event_control", event)
                fds.append(os.open(self.memory / name / "memory.max_usage_in_bytes", _READ))
                fds.append(os.open(self.pids / name / "pids.events", _READ))
                if self.unified is not None:
                    unified = self.unified / name
                    fds.append(os.open(unified / "cpu.stat", _READ))
                    fds.append(os.open(unified / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC))
                    fds.append(os.open(unified, _READ | os.O_DIRECTORY))
                elif self._cpuacct is not None:
                    fds.append(os.open(self._cpuacct / name / "cpuacct.usage", _READ))
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        group = V1Group(self, name, fds, (memory, pids))
        group.settle()
        return group

    def sweep(self, keep: Collection[str] = ()) -> int:
        names = {
            path.name
            for root in self._roots
            if root.is_dir()
            for path in root.iterdir()
            if path.is_dir() and path.name not in keep
        }
        for name in names:
            with faults("sweep"):
                if self.unified is not None and (self.unified / name).is_dir():
                    write(self.unified / name / "cgroup.kill", "1")
                for root in self._roots:
                    _kill_members(root / name)
                    remove_directory(root / name)
        return len(names)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        for root in self._roots:
            remove_directory(root)
        if self.cpusets is not None:
            self.cpusets.close()

    def remove(self, name: str) -> None:
        with faults("remove"):
            self._groups.remove(name)


class V1Group:
    """The run path has all it needs open, so that nothing on it resolves a path."""

    def __init__(self, owner: V1, name: str, fds: list[int], limits: tuple[int, int]) -> None:
        self._owner, self._name, self._fds = owner, name, fds
        self._memory, self._pids = owner.memory / name, owner.pids / name
        self._cpu = owner.cpu / name
        self._unified = None if owner.unified is None else owner.unified / name
        self.limits = limits
        self._oom_fd, self.oom_event, self._peak_fd, self._pids_fd, self._cpu_fd, *rest = fds
        self._kill_fd = self.directory = -1
        if self._unified is not None:
            self._kill_fd, self.directory, *rest = rest
        self.tasks = tuple(rest)

    def settle(self) -> None:
        for fd in (*self.tasks, self.directory):
            if fd >= 0:
                self._fds.remove(fd)
                os.close(fd)
        self.tasks, self.directory = (), -1

    def limit(self, *, memory: int, pids: int) -> None:
        if (memory, pids) == self.limits:
            return
        files = [_MEMORY]
        if self._owner.swap:
            # Memory plus swap may never be below memory: the outer limit moves first when growing.
            files.insert(0 if memory > self.limits[0] > 0 else 1, _SWAP)
        if self._owner.sockets:
            files.append(_SOCKETS)
        with faults("set limits"):
            for file in files:
                _limit_memory(self._memory / file, memory)
            set_exactly(self._pids / "pids.max", pids)
        self.limits = (memory, pids)

    def fits(self, memory: int) -> bool:
        """The kernel itself refuses what does not."""
        return True

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

    def pin(self, core: int) -> None:
        if self._owner.cpusets is None:
            raise DriverFault("cgroups", "move to a core", "none is kept")
        self._owner.cpusets.move(self._memory / "cgroup.procs", core)

    def kill_one(self) -> None:
        """v1 has never done otherwise."""

    def reclaim(self, *, swap: bool) -> None:
        with faults("reclaim"):
            write(self._memory / "memory.swappiness", "60" if swap else "0")
            with contextlib.suppress(OSError):  # EBUSY, EINTR: not all
                write(self._memory / "memory.force_empty", "0")

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
        self._owner.remove(self._name)


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
