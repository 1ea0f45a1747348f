"""The control groups of this host, as they are."""

import os
import secrets
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.drivers.exec.cgroups import Cgroups, LimitBelowUse, find
from sandboxd.drivers.exec.cgroups.mounts import parse
from sandboxd.drivers.exec.cgroups.v1 import V1
from sandboxd.errors import DriverFault
from tests.drivers.members import ASLEEP, BUSY, directories, has_cpusets, member
from tests.native.footprint import roots
from tests.patience import PATIENCE

pytestmark = pytest.mark.root

MIB = 1 << 20
INSTANCE = f"dt-{os.getpid()}-{secrets.token_hex(3)}"
HOST = parse(Path("/proc/self/mountinfo").read_text())


def _bare_v1() -> Cgroups:
    """As if the host had no v2 tree."""
    return V1(
        {name: HOST.v1[name] for name in ("memory", "pids", "cpu", "cpuacct")}, None, INSTANCE
    )


@pytest.fixture(params=["as mounted", "v1 alone"])
def cgroups(request: pytest.FixtureRequest) -> Iterator[Cgroups]:
    fds = len(os.listdir("/proc/self/fd"))
    if request.param == "as mounted":
        cgroups = find(INSTANCE)
    elif "cpuacct" in HOST.v1:
        cgroups = _bare_v1()
    else:
        pytest.skip("this host has no v1 controllers")
    try:
        yield cgroups
    finally:
        cgroups.sweep()
        cgroups.close()
    assert roots(INSTANCE) == []
    assert len(os.listdir("/proc/self/fd")) == fds


def limits(name: str) -> tuple[int, int]:
    """Memory and pids limits as the kernel has them."""
    found: dict[str, int] = {}
    for directory in directories(INSTANCE, name):
        for file in ("memory.limit_in_bytes", "memory.max", "pids.max"):
            if (directory / file).exists():
                found[file.partition(".")[0]] = int((directory / file).read_text())
        if (swap := directory / "memory.memsw.limit_in_bytes").exists():
            assert int(swap.read_text()) == found["memory"]
    return found["memory"], found["pids"]


def test_limits_are_set_raised_and_lowered(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=32 * MIB, pids=10, cpus=1.0)
    assert limits("g") == (32 * MIB, 10)
    for memory, pids in ((64 * MIB, 5), (16 * MIB, 50), (16 * MIB, 50), (1 << 34, 1000)):
        group.limit(memory=memory, pids=pids)
        assert limits("g") == (memory, pids)
    group.limit(memory=MIB + 1, pids=1)  # the kernel rounds down to a page
    assert limits("g") == (MIB, 1)
    group.remove()


def test_processor_share_is_the_given_number_of_cores(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=32 * MIB, pids=10, cpus=0.5)
    quotas = [
        (path / "cpu.cfs_quota_us").read_text() + (path / "cpu.cfs_period_us").read_text()
        for path in directories(INSTANCE, "g")
        if (path / "cpu.cfs_quota_us").exists()
    ] or [(path / "cpu.max").read_text() for path in directories(INSTANCE, "g")]
    assert quotas[0].split() == ["50000", "100000"]
    group.remove()


@pytest.mark.parametrize("bad", [{"cpus": 0.0}, {"pids": -5}, {"memory": -1}])
def test_limit_that_the_kernel_refuses_leaves_nothing(
    cgroups: Cgroups, bad: dict[str, float]
) -> None:
    asked = {"memory": 32 * MIB, "pids": 10, "cpus": 1.0, **bad}
    fds = set(os.listdir("/proc/self/fd"))
    with pytest.raises(DriverFault):
        cgroups.make("g", **asked)  # type: ignore[arg-type]
    assert directories(INSTANCE, "g") == []
    assert set(os.listdir("/proc/self/fd")) == fds


def test_cpu_time_is_the_whole_groups_and_outlives_its_processes(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=64 * MIB, pids=10, cpus=1.0)
    before = group.cpu_time()
    burn = "import time\nwhile time.process_time() < 0.1: pass\nprint('burnt', flush=True)\n"
    with (
        member(INSTANCE, "g", burn + ASLEEP, prints=True),
        member(INSTANCE, "g", burn + ASLEEP, prints=True),
    ):
        alive = group.cpu_time()
    # Each may have burnt a part before it was moved in, starting up.
    assert alive - before >= 0.1
    assert group.usage().cpu_time >= alive
    group.remove()


def test_oom_kill_is_told_and_counted(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=24 * MIB, pids=10, cpus=1.0)
    assert limits("g") == (24 * MIB, 10)
    with member(INSTANCE, "g", f"x = bytearray({128 * MIB}); print('fits')") as process:
        assert process.wait(30 * PATIENCE) == -signal.SIGKILL
    if group.oom_event >= 0:
        assert select.select([group.oom_event], [], [], 10)[0]
    usage = group.usage()
    assert usage.oom_kills >= 1
    assert 20 * MIB <= usage.peak_memory <= 24 * MIB
    group.remove()


def test_no_oom_no_event(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=64 * MIB, pids=10, cpus=1.0)
    with member(INSTANCE, "g", "print('in', flush=True)\n" + ASLEEP, prints=True):
        assert group.usage().oom_kills == 0
    if group.oom_event >= 0:
        assert select.select([group.oom_event], [], [], 0)[0] == []
    group.remove()


def test_fork_at_the_limit_is_refused_and_counted(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=64 * MIB, pids=3, cpus=1.0)
    assert limits("g")[1] == 3
    code = """
import os, signal
made = 0
for _ in range(6):
    try:
        if os.fork() == 0:
            signal.pause()
        made += 1
    except BlockingIOError:
        pass
print(made, flush=True)
input()
os.killpg(0, signal.SIGKILL)
"""
    with member(INSTANCE, "g", "import os; os.setpgid(0, 0)\n" + code) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"2\n"
        assert group.usage().pids_refused == 4
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait(10)
    group.remove()


def test_limit_below_what_is_in_use_is_told_apart(cgroups: Cgroups) -> None:
    if cgroups.kind == "v2":
        pytest.skip("v2 ends the group instead")
    group = cgroups.make("g", memory=64 * MIB, pids=10, cpus=1.0)
    code = f"x = bytearray({16 * MIB})\nprint('in', flush=True)\n"
    with (
        member(INSTANCE, "g", code + ASLEEP, prints=True),
        pytest.raises(LimitBelowUse),
    ):
        group.limit(memory=4 * MIB, pids=10)
    group.remove()


def test_kill_ends_every_process_at_once(cgroups: Cgroups) -> None:
    if "cgroup_kill" not in cgroups.layers:
        pytest.skip("needs the v2 tree")
    group = cgroups.make("g", memory=64 * MIB, pids=10, cpus=1.0)
    with member(INSTANCE, "g", ASLEEP) as first, member(INSTANCE, "g", BUSY) as second:
        group.kill()
        assert (first.wait(10), second.wait(10)) == (-signal.SIGKILL, -signal.SIGKILL)
    group.remove()


def test_frozen_group_uses_no_processor_until_thawed(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=64 * MIB, pids=10, cpus=1.0)
    if "cgroup_kill" not in cgroups.layers:
        with pytest.raises(DriverFault, match="v2"):
            group.freeze(True)
        group.remove()
        return
    (events,) = [path / "cgroup.events" for path in directories(INSTANCE, "g")
                 if (path / "cgroup.freeze").exists()]  # fmt: skip
    with member(INSTANCE, "g", "print('in', flush=True)\n" + BUSY, prints=True):
        with events.open() as told:
            told.read()
            group.freeze(True)
            while "frozen 1" not in (told.seek(0), told.read())[1]:
                assert select.select([], [], [told], 10)[2]
        frozen = group.cpu_time()
        assert select.select([], [], [], 0.05) == ([], [], [])
        assert group.cpu_time() == frozen
        group.freeze(False)
        while group.cpu_time() < frozen + 0.02:  # ends by the test's timeout if it stays frozen
            select.select([], [], [], 0.01)
    group.remove()


def test_what_is_cached_for_a_group_is_taken_back_and_what_it_holds_is_not(
    cgroups: Cgroups,
) -> None:
    group = cgroups.make("g", memory=256 * MIB, pids=10, cpus=1.0)
    file = next(Path("/usr/lib/gcc").glob("*/*/lto1"))  # large, and nobody has it mapped
    size = min(file.stat().st_size, 48 * MIB)
    with file.open("rb") as cached:  # so that reading it counts
        os.posix_fadvise(cached.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    code = (
        f"held = bytearray({8 * MIB})\nwith open({str(file)!r}, 'rb') as f: f.read({size})\n"
        f"print('in', flush=True)\n"
    )
    with member(INSTANCE, "g", code + ASLEEP, prints=True):
        before = group.present().memory
        assert before > size / 2 + 8 * MIB, "the file was cached for somebody else"
        group.reclaim(swap=False)
        assert 8 * MIB < group.present().memory < before - size / 2
    group.remove()


def test_freezing_is_waited_for_and_what_is_held_is_told(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=64 * MIB, pids=10, cpus=1.0)
    with member(INSTANCE, "g", "print('in', flush=True)\n" + BUSY, prints=True):
        held = group.present()
        assert 0 < held.memory <= 64 * MIB
        assert held.pids == 1
        if "cgroup_kill" in cgroups.layers:
            group.freeze(True)
            assert group.settled(True, 10)
            assert not group.settled(False, 0.01)
            group.freeze(False)
            assert group.settled(False, 10)
        else:
            assert not group.settled(True, 0.01)
        group.set_cpus(0.1)
        before = group.cpu_time(), time.monotonic()
        assert select.select([], [], [], 0.5) == ([], [], [])
        share = (group.cpu_time() - before[0]) / (time.monotonic() - before[1])
        assert share < 0.5, "a tenth of a core was allowed"
        group.kill_one()
    group.remove()


def test_a_living_group_is_taken_over_and_others_are_swept(cgroups: Cgroups) -> None:
    for name in ("kept", "left"):
        made = cgroups.make(name, memory=64 * MIB, pids=10, cpus=1.0)
        for fd in made._fds:  # type: ignore[attr-defined]  # as the kernel does for a dead node
            os.close(fd)
    with member(INSTANCE, "kept", "print('in', flush=True)\n" + BUSY, prints=True):
        assert cgroups.sweep({"kept"}) == 1
        assert directories(INSTANCE, "left") == []
        group = cgroups.adopt("kept", memory=64 * MIB, pids=10)
        assert group.limits == (64 * MIB, 10)
        assert group.present().pids == 1
        used = group.cpu_time()
        while group.cpu_time() == used:
            select.select([], [], [], 0.01)
        group.limit(memory=80 * MIB, pids=20)
        assert limits("kept") == (80 * MIB, 20)
        if "cgroup_kill" in cgroups.layers:
            group.kill()
    with pytest.raises(DriverFault):
        cgroups.adopt("left", memory=1, pids=1)
    group.remove()


def test_settled_group_has_no_way_in_left_open(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=64 * MIB, pids=10, cpus=1.0)
    ways = [*group.tasks, group.directory]
    group.settle()
    assert (group.tasks, group.directory) == ((), -1)
    for fd in ways:
        if fd >= 0:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
    group.remove()


def test_remove_waits_for_processes_that_are_just_dying(cgroups: Cgroups) -> None:
    group = cgroups.make("g", memory=64 * MIB, pids=20, cpus=1.0)
    with member(INSTANCE, "g", "print('in', flush=True)\n" + BUSY, prints=True) as process:
        process.kill()
        group.remove()
    assert directories(INSTANCE, "g") == []


def test_group_in_use_is_not_removed_silently(
    cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    group = cgroups.make("g", memory=64 * MIB, pids=20, cpus=1.0)
    with member(INSTANCE, "g", ASLEEP):
        with pytest.raises(DriverFault, match="busy"):
            group.remove()
        assert directories(INSTANCE, "g")


def test_sweep_ends_what_an_earlier_node_left(cgroups: Cgroups) -> None:
    groups = [
        cgroups.make(name, memory=64 * MIB, pids=10, cpus=1.0) for name in ("a", "b", "empty")
    ]
    later = find(INSTANCE) if cgroups.kind != "v1" else _bare_v1()
    with (
        member(INSTANCE, "a", ASLEEP) as first,
        member(INSTANCE, "a", BUSY) as second,
        member(INSTANCE, "b", ASLEEP) as third,
    ):
        assert later.sweep() == 3
        assert {process.wait(10) for process in (first, second, third)} == {-signal.SIGKILL}
    assert all(directories(INSTANCE, name) == [] for name in ("a", "b", "empty"))
    assert later.sweep() == 0
    for group in groups:  # what is gone already is no error
        group.remove()
    later.close()


def test_sweep_does_not_touch_another_instance(cgroups: Cgroups) -> None:
    other = find(f"{INSTANCE}-other")
    group = other.make("a", memory=64 * MIB, pids=10, cpus=1.0)
    try:
        assert cgroups.sweep() == 0
        assert directories(f"{INSTANCE}-other", "a")
    finally:
        group.remove()
        other.close()


def test_members_run_on_the_rest_until_they_are_pinned_to_a_kept_core() -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core cannot be kept and left")
    kept, left = cores[-1], set(cores[:-1])
    if not has_cpusets(HOST):
        pytest.skip("this host has no cpusets")
    cgroups = find(INSTANCE, [kept])
    try:
        group = cgroups.make("kept", memory=64 * MIB, pids=8, cpus=1)
        try:
            with member(INSTANCE, "kept", ASLEEP) as process:
                for fd in group.tasks:  # v1: as sandbox-init joins
                    os.write(fd, str(process.pid).encode())
                assert os.sched_getaffinity(process.pid) == left
                group.pin(kept)
                assert os.sched_getaffinity(process.pid) == {kept}
        finally:
            group.remove()
    finally:
        cgroups.close()
    assert roots(INSTANCE) == []
