"""Finds out which hierarchies the host has mounted, and so which implementation serves."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from sandboxd.drivers.exec.cgroups.base import Cgroups
from sandboxd.drivers.exec.cgroups.cores import Cpusets, forget
from sandboxd.drivers.exec.cgroups.v1 import V1
from sandboxd.drivers.exec.cgroups.v2 import V2
from sandboxd.errors import DriverFault

NEEDED = ("memory", "pids", "cpu")


class Mounts(Struct, frozen=True):
    v1: dict[str, Path]
    """Mount point by controller."""
    v2: Path | None


def parse(mountinfo: str) -> Mounts:
    """The cgroup mounts of a `/proc/self/mountinfo` text. Pure."""
    v1: dict[str, Path] = {}
    v2: Path | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = Path(before.split(" ")[4].replace("\\040", " "))
        if kind == "cgroup2" and v2 is None:
            v2 = point
        elif kind == "cgroup":
            for option in options.split(","):
                v1.setdefault(option, point)
    return Mounts(v1, v2)


def find(instance: str, cores: Sequence[int] = ()) -> Cgroups:
    """The implementation for this host, which keeps `cores` for those that are pinned to one. Raises
    DriverFault if a needed controller is nowhere."""
    mounts = parse(Path("/proc/self/mountinfo").read_text())
    if mounts.v2 is not None:
        available = (mounts.v2 / "cgroup.controllers").read_text().split()
        if all(name in available for name in NEEDED):
            if cores and "cpuset" not in available:
                raise DriverFault("cgroups", "keep cores", "there is no cpuset controller")
            return V2(mounts.v2, instance, cores)
    # With a v2 tree, CPU time comes from there.
    needed = NEEDED if mounts.v2 is not None else (*NEEDED, "cpuacct")
    missing = [name for name in needed if name not in mounts.v1]
    if missing:
        raise DriverFault("cgroups", "find controllers", f"not mounted: {', '.join(missing)}")
    cpusets = None
    if cores:
        if "cpuset" not in mounts.v1:
            raise DriverFault("cgroups", "keep cores", "no cpuset hierarchy is mounted")
        cpusets = Cpusets(mounts.v1["cpuset"], instance, cores)
    elif "cpuset" in mounts.v1:
        forget(mounts.v1["cpuset"], instance)
    return V1({name: mounts.v1[name] for name in needed}, mounts.v2, instance, cpusets)
