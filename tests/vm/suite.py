"""What `make vm-test` runs: one boot with the tests chosen below. The lane's own promises, a boot for
each, are in tests/vm/test_machine, which `make test` runs.

Chosen is what the development kernel cannot show: AppArmor, and everything that rests on cgroup v2: its
own tests, the native core's, the drivers', the run matrix, and the attacks that such limits stop.
The guest is ten to twenty times slower, so compilers under test and other short limits stay outside.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.attack import arsenal
from tests.vm.machine import PROJECT

NATIVE_DRIVERS = tuple(
    f"tests/drivers/{name}.py"
    for name in (
        "test_cgroups",
        "test_cgroups_v2",
        "test_inside",
        "test_mounts",
        "test_native_driver",
        "test_uids",
    )
)
ZYGOTES = (
    "a_copy_reaches_nothing_of_its_zygote",
    "a_copy_that_fails_leaves_nothing_and_ends_its_zygote",
)
SESSIONS = ("limits_are_changed_while_it_lives", "paused_processes_stand_still_and_go_on")
INSIDE = (
    *("tests/vm/inside", "tests/matrix/test_matrix.py", "tests/attack/test_attack.py"),
    *("tests/native", *NATIVE_DRIVERS),
    *(f"tests/drivers/test_zygotes.py::test_{name}" for name in ZYGOTES),
    *(f"tests/node/sessions/test_life.py::test_{name}" for name in SESSIONS),
)
ATTACKS = (
    *("flood-forks", "flood-fork-bomb", "flood-threads", "flood-anonymous", "flood-memory-file"),
    *("flood-segments", "flood-pipes]", "flood-page-cache", "view-cgroup", "view-others"),
    *("list-cgroups", "mount-cgroup", "list-sys", "read-kallsyms"),
)
# Of the matrix, the cases whose answer comes from the cgroup, AppArmor or the kernel's age.
MATRIX = (
    *("memory-", "pids-", "fork-bomb", "cpu-", "disk-", "daemon", "kill-everybody"),
    *("refused-", "foreign-", "proc-of", "host-secrets", "system-writes", "no-privilege"),
    *("network-", "hello-python", "hello-bash", "hello-c]"),
)
# Parsers of bytes and those who wait for them do not ask the kernel; what holds without a layer is shown
# where all layers are.
OUTSIDE = (
    *("plan_bytes", "test_await", "mutated", "arrive_byte_for_byte"),
    *("test_without_", "floor_holds"),
)
KEYWORDS = (
    f"(not test_program_ends_as_promised or (({' or '.join(MATRIX)}) and not compile))"
    f" and (not test_attack_fails or {' or '.join(ATTACKS)})"
    f" and not ({' or '.join(OUTSIDE)})"
)
# A quiet machine needs a quarter of it or less; one that has other lanes must not fail for that.
PATIENCE = "--vm-timeout=1800"
# Of its own: another lane that runs meanwhile writes down what has failed there, too.
CACHE = "cache_dir=.pytest_cache/vm"


def run(*, last_failed: bool = False) -> int:
    """The exit code; with `last_failed`, of what failed the last time alone."""
    with tempfile.TemporaryDirectory() as directory:
        arsenal.build_probe(Path(directory))  # here, where it takes a second
    options = ["-q", "--durations=30", "-p", "tests.vm.plugin", "--vm", PATIENCE, "-o", CACHE]
    if last_failed:
        options += ["--last-failed", "--last-failed-no-failures", "none"]
    argv = [sys.executable, "-m", "pytest", *options, *INSIDE, "-k", KEYWORDS]
    return subprocess.run(argv, cwd=PROJECT, check=False).returncode
