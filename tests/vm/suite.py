"""What `make vm-test` runs: the lane's own promises here, then one boot with the tests chosen below.

Chosen is what the development kernel cannot show: AppArmor, and everything that rests on cgroup v2.
The guest is ten to twenty times slower, so compilers under test and other short limits stay outside.
"""

import subprocess
import sys

from tests.vm.machine import PROJECT

LANE = ("tests/vm/test_machine.py",)
INSIDE = ("tests/vm/inside", "tests/matrix/test_matrix.py")
# Of the matrix, the cases whose answer comes from the cgroup, AppArmor or the kernel's age.
MATRIX = (
    *("memory-", "pids-", "fork-bomb", "cpu-", "disk-", "daemon", "kill-everybody"),
    *("refused-", "foreign-", "proc-of", "host-secrets", "system-writes", "no-privilege"),
    *("network-", "hello-python", "hello-bash", "hello-c]"),
)
KEYWORDS = f"not test_program_ends_as_promised or (({' or '.join(MATRIX)}) and not compile)"
# A quiet machine needs half of it or less; a busy one must not fail for that.
PATIENCE = "--vm-timeout=900"


def run() -> int:
    """Both sessions; the first exit code that is not 0, else 0."""
    lane = _pytest(*LANE)
    inside = _pytest("-p", "tests.vm.plugin", "--vm", PATIENCE, *INSIDE, "-k", KEYWORDS)
    return lane or inside


def _pytest(*arguments: str) -> int:
    argv = [sys.executable, "-m", "pytest", "-q", "--durations=10", *arguments]
    return subprocess.run(argv, cwd=PROJECT, check=False).returncode
