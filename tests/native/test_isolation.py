"""What a job finds, looked at from inside under the shipped policy."""

import errno
import re
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.native import Quiet, receive, send_quiesce
from tests.native import landlock
from tests.native.box import INIT_UID, JOB_UID, MIB, Workshop, run, without
from tests.native.looking import DISK, ENVIRONMENT, INODES, Report, look

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def start(workshop: Workshop, compiled: Callable[[str], bytes]) -> list[str]:
    """Lines of `inside/start.c`: what holds at the first instruction."""
    with workshop.sandbox() as native:
        ran = run(native, ["./start"], {}, [("start", 0o755, compiled("start"))])
    return ran.out().decode().splitlines()


# identity and rights


def test_job_is_nobody_on_the_host_and_alone_with_init_in_its_map(seen: Report) -> None:
    # The kernel shows the outside as our parent namespace sees it: the host's own numbers.
    expected = [str(number) for number in (1000, JOB_UID, 1, 999, INIT_UID, 1)]
    assert seen["maps"] == [expected, expected]
    assert seen["ids"] == [[1000] * 3, [1000] * 3, []]


def test_all_five_capability_sets_are_empty(seen: Report) -> None:
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(seen["status"][name], 16) == 0, name


def test_securebits_are_set_and_locked(start: list[str]) -> None:
    # NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE with their locks, KEEP_CAPS' lock alone.
    assert "securebits 239" in start


def test_no_new_privs_and_filter_are_on(seen: Report) -> None:
    assert seen["status"]["NoNewPrivs"] == "1"
    assert seen["status"]["Seccomp"] == "2"
    assert seen["status"]["Seccomp_filters"] == "2"  # the policy and the floor


def test_environment_is_exactly_what_was_sent(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        ran = run(native, ["/bin/cat", "/proc/self/environ"], ENVIRONMENT)
    assert ran.out() == b"LANG=C.UTF-8\0SECRET_OF_THE_REQUEST=x=y z\0"


def test_rlimits_are_as_sent(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        ran = run(
            native, ["/bin/cat", "/proc/self/limits"], {},
            open_files=77, stack=3 * MIB, file_size=5 * MIB,
        )  # fmt: skip
    rows = dict(re.findall(r"^Max (.+?)\s{2,}(\S+\s+\S+)", ran.out().decode(), re.MULTILINE))
    limits = {name: set(values.split()) for name, values in rows.items()}
    assert limits["open files"] == {"77"}
    assert limits["stack size"] == {str(3 * MIB)}
    assert limits["file size"] == {str(5 * MIB)}
    assert limits["core file size"] == {"0"}
    assert limits["locked memory"] == {"65536"}
    assert limits["msgqueue size"] == {"819200"}
    assert limits["pending signals"] == {"1024"}
    assert limits["nice priority"] == limits["realtime priority"] == {"0"}


# the first instruction


def test_every_signal_is_default_and_none_is_blocked(start: list[str]) -> None:
    """Also SIGPIPE and SIGXFSZ, which the node's Python ignores, and those that libc hides."""
    assert [line for line in start if line.startswith("signal")] == []
    assert "mask 0" in start


def test_only_the_three_streams_are_open(start: list[str]) -> None:
    assert [line for line in start if line.startswith("fd")] == ["fd 0 0", "fd 1 0", "fd 2 0"]


def test_job_leads_its_own_session_without_a_terminal(start: list[str]) -> None:
    assert "session 1" in start
    (tty,) = [line for line in start if line.startswith("tty")]
    assert tty == f"tty {errno.ENOENT}"


def test_job_starts_in_work_below_init(start: list[str]) -> None:
    assert "cwd /work" in start and "subreaper_of 1" in start


# what it sees


def test_hostname_is_the_sandboxs(seen: Report) -> None:
    assert seen["hostname"] == "sandbox"


def test_job_sees_only_itself_in_proc(seen: Report) -> None:
    assert seen["processes"] == [seen["own"]]
    assert seen["proc_1"] == errno.ENOENT


def test_masked_paths_tell_nothing(seen: Report) -> None:
    told = {path: how for path, how in seen["masks"].items() if how not in ("absent", "covered")}
    assert told == {}
    assert "covered" in seen["masks"].values()


def test_sys_is_absent(seen: Report) -> None:
    assert seen["sys"] is None


def test_root_holds_the_image_and_nothing_of_the_host(seen: Report) -> None:
    assert set(seen["root"]) <= {
        "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "tmp",
        "usr", "var", "work",
    }  # fmt: skip


def test_dev_is_exactly_ours(seen: Report) -> None:
    node = "crw-rw-rw-"
    assert seen["dev"] == {
        "fd": ["lrwxrwxrwx", [0, 0], "/proc/self/fd"],
        "full": [node, [1, 7], ""],
        "null": [node, [1, 3], ""],
        "random": [node, [1, 8], ""],
        "shm": ["drwxrwxrwt", [0, 0], ""],
        "stderr": ["lrwxrwxrwx", [0, 0], "/proc/self/fd/2"],
        "stdin": ["lrwxrwxrwx", [0, 0], "/proc/self/fd/0"],
        "stdout": ["lrwxrwxrwx", [0, 0], "/proc/self/fd/1"],
        "urandom": [node, [1, 9], ""],
        "zero": [node, [1, 5], ""],
    }


def mounts(seen: Report) -> dict[str, set[str]]:
    """Flags by mount point."""
    rows = [line.split() for line in seen["mountinfo"].splitlines()]
    return {row[4]: set(row[5].split(",")) for row in rows}


def test_every_mount_is_nosuid_and_but_for_our_nodes_nodev(seen: Report) -> None:
    for point, flags in mounts(seen).items():
        assert "nosuid" in flags, point
        assert "nodev" in flags or point == "/dev", point


def test_shared_and_masking_mounts_are_read_only(seen: Report) -> None:
    table = mounts(seen)
    covers = {"/" + path for path, how in seen["masks"].items() if how == "covered"}
    readonly = {"/usr", "/dev", "/proc/sys", *covers}
    assert {point for point, flags in table.items() if "ro" in flags} == readonly
    assert set(table) == {"/", "/dev/shm", "/proc", *readonly}


def test_no_mount_propagates_to_or_from_the_host(seen: Report) -> None:
    assert not re.search(r"\b(shared|master|propagate_from):", seen["mountinfo"])


def test_scratch_is_one_file_system_of_the_size_and_inodes_given(seen: Report) -> None:
    assert seen["room"]["/work"] == seen["room"]["/tmp"] == seen["room"]["/dev/shm"]
    assert seen["room"]["/work"] == [DISK, INODES]


def test_control_groups_of_the_host_are_not_named(seen: Report) -> None:
    assert {line.split(":", 2)[2] for line in seen["cgroup"].splitlines() if line} - {"/"} <= {
        # Hierarchies in which the node has no group of its own show the node's place.
        line.split(":", 2)[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
    }
    assert "sandboxd" not in seen["cgroup"]


def test_only_scratch_directories_take_new_files(seen: Report) -> None:
    open_to_it = {path for path, number in seen["create"].items() if number == 0}
    assert open_to_it == {"/work", "/tmp", "/dev/shm"}
    refused = set(seen["create"].values()) - {0}
    assert refused <= {errno.EACCES, errno.EROFS, errno.ENOENT}


def test_nothing_of_image_or_kernel_opens_for_writing(seen: Report) -> None:
    assert {path for path, number in seen["writable"].items() if number == 0} == {
        "/dev/null", "/dev/zero", "/dev/full",
    }  # fmt: skip


def test_host_file_is_unreachable_by_any_path(seen: Report, canary: Path) -> None:
    assert canary.read_text() == "host"
    assert 0 not in seen["canary"].values()
    assert seen["found"] == []


def test_own_executable_and_memory_lead_to_the_image_only(seen: Report) -> None:
    """CVE-2019-5736: a job that finds the runtime's own executable can try to overwrite it."""
    assert re.fullmatch(r"/usr/bin/python3[.\d]*", seen["exe"])
    assert all(path.startswith("/usr/") for path in seen["maps_of"]), seen["maps_of"]


# other processes, other namespaces


def test_init_cannot_be_touched(seen: Report) -> None:
    """Signals do not leave the job's Landlock domain, where the kernel keeps them; where not, process 1
    does not get them. The rest is refused by uid and filter."""
    init = seen["init"]
    kept = errno.EPERM if landlock.abi() >= landlock.SIGNALS else 0
    for name in ("kill", "kill_0", "stop", "segv", "child", "realtime"):
        assert init[name] == kept, name
    for name in ("prlimit", "ptrace", "fifo"):
        assert init[name] == errno.EPERM, name
    for name in ("memory", "environ", "exe"):
        assert init[name] == errno.ENOENT, name


def test_without_landlock_init_still_survives_every_signal(
    workshop: Workshop, canary: Path
) -> None:
    """Init has the job's real uid, so that it may kill it: then pid 1's own protection holds.
    The report comes back through init, so it is alive."""
    init = look(workshop, canary, skip_layers=without("landlock"))["init"]
    assert init["kill"] == init["stop"] == init["segv"] == init["kill_0"] == 0


def test_init_serves_though_the_job_lowered_its_scheduling(workshop: Workshop) -> None:
    """The scheduler asks for the real uid, which is the job's, so this much the kernel permits. It
    reaches no further than the sandbox's own share of the processor: init still ends the job."""
    script = b"""
import os
os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))
os.setpriority(os.PRIO_PROCESS, 1, 19)
for _ in range(3):
    if os.fork() == 0:
        while True:
            pass
"""
    with workshop.sandbox(pids=12) as native:
        ran = run(
            native, ["/usr/bin/python3", "-IS", "j.py"], {}, [("j.py", 0o644, script)], follow=False
        )
        assert (ran.status, ran.stderr) == (0, b"")
        send_quiesce(native.control)
        assert select.select([native.control], [], [], 20)[0]
        assert receive(native.control) == Quiet()


def test_only_loopback_is_there_and_it_is_up(seen: Report) -> None:
    network = seen["network"]
    assert list(network["interfaces"]) == ["lo"]
    assert network["loopback"] == 0
    assert set(network["outside"].values()) == {errno.ENETUNREACH}
    assert network["routes"] == network["unix"] == []


def test_system_v_objects_of_the_host_are_not_there(seen: Report) -> None:
    assert seen["shm"] == errno.ENOENT


def test_oom_killer_prefers_the_job(seen: Report) -> None:
    """The kernel lets a process go back to what its parent had (0, as init has), never below: a job
    that does so is still the larger one, and an OOM kill of init ends the job too."""
    oom = seen["oom"]
    assert oom["first"] == 1000
    assert oom["answers"]["-1000"] == oom["answers"]["-1"] == errno.EACCES
    assert oom["last"] >= 0
