"""The v2 implementation against a tree of plain files: what it writes, in which order, and what it
reads. That a kernel obeys is proved in the VM lane."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxd.drivers.exec.cgroups import v2
from sandboxd.drivers.exec.cgroups.v2 import V2
from sandboxd.errors import DriverFault

MIB = 1 << 20
FILES = {
    "cgroup.subtree_control": "", "cgroup.kill": "", "cgroup.freeze": "0\n", "cpu.max": "",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
    "memory.max": "", "memory.swap.max": "", "memory.oom.group": "0\n",
    "memory.peak": "12345\n", "memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 1\n",
    "pids.max": "", "pids.events": "max 7\n", "cpuset.cpus": "", "cpuset.cpus.effective": "0-3\n",
}  # fmt: skip


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in which, as in a control group tree, a new directory has its files at once. Those of
    limits are empty, since writing to a plain file does not replace what it holds."""
    mount = tmp_path / "unified"
    mkdir: Callable[..., None] = Path.mkdir

    def with_files(self: Path, *args: object, **options: object) -> None:
        new = not self.exists()
        mkdir(self, *args, **options)
        if new and self.is_relative_to(mount):
            for name, text in FILES.items():
                (self / name).write_text(text)

    monkeypatch.setattr(Path, "mkdir", with_files)
    monkeypatch.setattr(Path, "rmdir", lambda self: shutil.rmtree(self))
    mount.mkdir()
    fds = set(os.listdir("/proc/self/fd"))
    yield mount
    assert set(os.listdir("/proc/self/fd")) == fds


def test_controllers_are_handed_down_to_the_sandboxes(mount: Path) -> None:
    V2(mount, "x")
    for directory in (mount, mount / "sandboxd-x"):
        assert (directory / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_kept_cores_are_left_by_all_and_used_by_whom_is_pinned(mount: Path) -> None:
    group = V2(mount, "x", [1, 3]).make("g", memory=32 * MIB, pids=9, cpus=1)
    file = mount / "sandboxd-x" / "g" / "cpuset.cpus"
    assert file.read_text() == "0,2"
    group.pin(3)
    assert file.read_text().startswith("3")
    group.remove()
    for directory in (mount, mount / "sandboxd-x"):
        assert (directory / "cgroup.subtree_control").read_text() == "+cpuset +cpu +memory +pids"
    with pytest.raises(DriverFault, match="no core 4"):
        V2(mount, "y", [4])
    with pytest.raises(DriverFault, match="one has to be left"):
        V2(mount, "y", [0, 1, 2, 3])


def test_group_is_limited_whole_and_without_swap(mount: Path) -> None:
    group = V2(mount, "x").make("g", memory=32 * MIB, pids=9, cpus=1.5)
    path = mount / "sandboxd-x" / "g"
    assert (path / "memory.max").read_text().strip() == str(32 * MIB)
    assert (path / "pids.max").read_text().strip() == "9"
    assert (path / "cpu.max").read_text().strip() == "150000 100000"
    assert (path / "memory.oom.group").read_text()[0] == "1"
    assert (path / "memory.swap.max").read_text()[0] == "0"
    assert (group.tasks, group.oom_event) == ((), -1)
    assert os.path.samestat(os.fstat(group.directory), path.stat())
    group.settle()
    assert group.directory == -1
    group.remove()
    assert not path.exists()


def test_kernel_without_swap_accounting_is_fine(
    mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(FILES, "memory.swap.max")
    V2(mount, "x").make("g", memory=32 * MIB, pids=9, cpus=1.0).remove()


def test_usage_is_read_from_the_kernels_words(mount: Path) -> None:
    group = V2(mount, "x").make("g", memory=32 * MIB, pids=9, cpus=1.0)
    usage = group.usage()
    assert (usage.cpu_time, usage.peak_memory) == (1.5, 12345)
    assert (usage.oom_kills, usage.pids_refused) == (2, 7)
    group.remove()


def test_kill_and_freeze_are_one_write_each(mount: Path) -> None:
    group = V2(mount, "x").make("g", memory=32 * MIB, pids=9, cpus=1.0)
    path = mount / "sandboxd-x" / "g"
    group.kill()
    assert (path / "cgroup.kill").read_text() == "1"
    group.freeze(True)
    assert (path / "cgroup.freeze").read_text()[0] == "1"
    group.freeze(False)
    assert (path / "cgroup.freeze").read_text()[0] == "0"
    group.remove()


@pytest.mark.parametrize("lacking", ["memory.max", "pids.max", "cpu.max", "memory.peak"])
def test_missing_control_file_stops_the_group_and_leaves_nothing(
    mount: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    cgroups = V2(mount, "x")
    monkeypatch.delitem(FILES, lacking)
    with pytest.raises(DriverFault, match=lacking):
        cgroups.make("g", memory=32 * MIB, pids=9, cpus=1.0)
    assert not (mount / "sandboxd-x" / "g").exists()


def test_sweep_kills_then_removes_each_group(mount: Path) -> None:
    cgroups = V2(mount, "x")
    groups = [cgroups.make(name, memory=MIB, pids=9, cpus=1.0) for name in ("a", "b")]
    assert V2(mount, "x").sweep() == 2
    assert [path.name for path in (mount / "sandboxd-x").iterdir() if path.is_dir()] == []
    for group in groups:
        group.remove()
    cgroups.close()
    assert not (mount / "sandboxd-x").exists()


def test_a_group_is_taken_over_as_it_is_and_others_are_swept(mount: Path) -> None:
    cgroups = V2(mount, "x")
    group = cgroups.make("kept", memory=64 * MIB, pids=10, cpus=1.0)
    left = cgroups.make("left", memory=64 * MIB, pids=10, cpus=1.0)
    for each in (group, left):
        each.close()
    assert cgroups.sweep({"kept"}) == 1
    adopted = cgroups.adopt("kept", memory=64 * MIB, pids=10)
    assert (adopted.limits, adopted.directory) == ((64 * MIB, 10), -1)
    assert adopted.cpu_time() == 1.5
    adopted.kill_one()
    assert (mount / "sandboxd-x" / "kept" / "memory.oom.group").read_text().startswith("0")
    adopted.remove()
    with pytest.raises(DriverFault):
        cgroups.adopt("left", memory=1, pids=1)


def test_a_limit_below_what_is_in_use_is_known_before_it_kills(mount: Path) -> None:
    group = V2(mount, "x").make("g", memory=64 * MIB, pids=10, cpus=1.0)
    files = mount / "sandboxd-x" / "g"
    (files / "pids.current").write_text("1\n")
    (files / "memory.current").write_text(f"{40 * MIB}\n")
    assert group.fits(40 * MIB)
    assert not group.fits(30 * MIB), "there is nothing to reclaim by"
    (files / "memory.reclaim").write_text("")
    assert not group.fits(30 * MIB)
    assert (files / "memory.reclaim").read_text() == str(10 * MIB)
    group.remove()


@pytest.mark.parametrize("swap", [False, True])
def test_memory_is_reclaimed_to_swap_only_where_that_is_wanted(
    mount: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    group = V2(mount, "x").make("g", memory=64 * MIB, pids=10, cpus=1.0)
    files = mount / "sandboxd-x" / "g"
    (files / "pids.current").write_text("1\n")
    (files / "memory.current").write_text(f"{40 * MIB}\n")
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(v2, "write", lambda path, text: written.append((path.name, text)))
    group.reclaim(swap=swap)
    limits = [("memory.swap.max", most) for most in ("max", "0")] if swap else []
    assert written == [*limits[:1], ("memory.reclaim", str(40 * MIB)), *limits[1:]]
    group.remove()
