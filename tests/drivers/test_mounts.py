"""Which control group hierarchies a host has, read from its mount table."""

from pathlib import Path

import pytest

from sandboxd.drivers.exec.cgroups import mounts
from sandboxd.drivers.exec.cgroups.mounts import Mounts, parse
from sandboxd.drivers.exec.cgroups.v1 import V1
from sandboxd.drivers.exec.cgroups.v2 import V2
from sandboxd.errors import DriverFault

V1_ONLY = """\
25 30 0:23 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
26 25 0:24 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
31 26 0:29 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
33 26 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct
34 26 0:32 / /sys/fs/cgroup/memory rw shared:16 - cgroup cgroup rw,memory
35 26 0:33 / /sys/fs/cgroup/pids rw shared:17 - cgroup cgroup rw,pids
"""
HYBRID = V1_ONLY + "27 26 0:25 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n"
UNIFIED = """\
25 30 0:23 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
26 25 0:24 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""
IN_DOCKER = """\
1 0 0:50 / / rw,relatime master:2 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d
2 1 0:60 / /proc rw,nosuid - proc proc rw
3 1 0:61 / /sys ro,nosuid - sysfs sysfs ro
4 3 0:62 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
5 4 0:31 /docker/3f2a /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:15 - cgroup cgroup rw,cpu,cpuacct
6 4 0:32 /docker/3f2a /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory
7 4 0:33 /docker/3f2a /sys/fs/cgroup/pids ro,nosuid master:17 - cgroup cgroup rw,pids
8 4 0:29 /docker/3f2a /sys/fs/cgroup/systemd ro,nosuid - cgroup cgroup rw,xattr,name=systemd
"""
POINT = Path("/sys/fs/cgroup")


def test_v1_controllers_that_share_a_mount_are_both_found() -> None:
    found = parse(V1_ONLY)
    assert found.v2 is None
    assert found.v1["cpu"] == found.v1["cpuacct"] == POINT / "cpu,cpuacct"
    assert (found.v1["memory"], found.v1["pids"]) == (POINT / "memory", POINT / "pids")


def test_hybrid_host_has_both() -> None:
    found = parse(HYBRID)
    assert found.v2 == POINT / "unified"
    assert found.v1 == parse(V1_ONLY).v1


def test_unified_host_has_no_v1() -> None:
    assert parse(UNIFIED) == Mounts({}, POINT)


def test_mounts_inside_a_container_are_found_by_their_point() -> None:
    found = parse(IN_DOCKER)
    assert (found.v1["memory"], found.v2) == (POINT / "memory", None)


def test_first_mount_of_a_hierarchy_wins() -> None:
    again = HYBRID.replace("/sys/fs/cgroup", "/mnt/again")
    assert parse(HYBRID + again) == parse(HYBRID)


def test_optional_fields_and_spaces_do_not_confuse() -> None:
    line = "5 4 0:31 / /odd\\040place rw shared:1 master:2 - cgroup none rw,memory\n"
    assert parse(line).v1["memory"] == Path("/odd place")
    assert parse("") == Mounts({}, None)


class _Host:
    """A pretended host: its mount table and control files, below a directory."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._monkeypatch = root, monkeypatch

    def mounted(self, table: str, controllers: str = "") -> None:
        text = table.replace("/sys/fs/cgroup", str(self.root))
        found = parse(text)
        for point in {*found.v1.values(), *([found.v2] if found.v2 else [])}:
            point.mkdir(parents=True, exist_ok=True)
        if found.v2 is not None:
            (found.v2 / "cgroup.controllers").write_text(controllers)
            (found.v2 / "cgroup.subtree_control").touch()
        self._monkeypatch.setattr(mounts, "parse", lambda _: found)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Host:
    return _Host(tmp_path, monkeypatch)


def test_unified_tree_without_controllers_is_hybrid(host: _Host) -> None:
    host.mounted(HYBRID)
    cgroups = mounts.find("x")
    assert isinstance(cgroups, V1) and cgroups.kind == "hybrid"
    assert "cgroup_kill" in cgroups.layers


def test_v1_alone_cannot_kill_a_group(host: _Host) -> None:
    host.mounted(V1_ONLY)
    cgroups = mounts.find("x")
    assert cgroups.kind == "v1" and "cgroup_kill" not in cgroups.layers


def test_unified_tree_with_every_controller_is_v2(host: _Host) -> None:
    host.mounted(UNIFIED, "cpuset cpu io memory pids\n")
    own = host.root / "sandboxd-x"
    own.mkdir()
    (own / "cgroup.subtree_control").touch()
    assert isinstance(mounts.find("x"), V2)
    assert (host.root / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


@pytest.mark.parametrize("lacking", ["memory", "pids", "cpu,cpuacct"])
def test_missing_controller_is_named(host: _Host, lacking: str) -> None:
    table = "".join(line for line in HYBRID.splitlines(True) if f"rw,{lacking}\n" not in line)
    host.mounted(table, "io hugetlb")
    with pytest.raises(DriverFault, match=f"not mounted: {lacking.split(',')[0]}"):
        mounts.find("x")


def test_cpuacct_is_missed_only_where_nothing_else_tells_cpu_time(host: _Host) -> None:
    host.mounted(V1_ONLY.replace("rw,cpu,cpuacct", "rw,cpu"))
    with pytest.raises(DriverFault, match="cpuacct"):
        mounts.find("x")
    host.mounted(HYBRID.replace("rw,cpu,cpuacct", "rw,cpu"))
    assert mounts.find("x").kind == "hybrid"
