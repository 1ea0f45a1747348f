"""The seccomp policy by number: what a call may do at all. Its arguments are in the file beside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.policies.seccomp_policy import (
    AARCH64,
    ALLOW,
    ARM,
    BY_ARGUMENTS,
    I386,
    KILL,
    NATIVE,
    NUMBERS,
    POLICY,
    PROGRAM,
    X32,
    X86_64,
    call,
    golden,
    verdict,
)

ONES = (0xFFFF_FFFF_FFFF_FFFF,) * 6
RULES = json.loads(POLICY.read_text())["syscalls"]

NEEDED_BY_THE_RUNNER = [
    "recvmsg", "sendmsg", "prlimit64", "setrlimit", "dup3", "close_range", "fchdir", "chdir",
    "openat", "openat2", "execve", "execveat", "write", "mkdirat", "fstat", "fcntl", "getdents64",
    "exit_group", "umask", "mmap",
]  # fmt: skip

NEVER = [
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "setns", "unshare", "ptrace", "process_vm_readv",
    "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise", "bpf", "perf_event_open",
    "userfaultfd", "keyctl", "add_key", "request_key", "kexec_load", "kexec_file_load",
    "init_module", "finit_module", "delete_module", "swapon", "swapoff", "reboot", "settimeofday",
    "clock_settime", "clock_adjtime", "adjtimex", "quotactl", "quotactl_fd", "open_by_handle_at",
    "acct", "syslog", "name_to_handle_at", "fanotify_init", "fanotify_mark", "lookup_dcookie",
    "vhangup", "memfd_secret", "sethostname", "setdomainname",
]  # fmt: skip

UNKNOWN = [
    "clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "io_submit",
    "mbind", "set_mempolicy", "move_pages", "migrate_pages", "statmount", "listmount",
    "lsm_set_self_attr", "cachestat", "remap_file_pages", "futex_waitv", "futex_requeue",
]  # fmt: skip


def test_every_number_answers_as_the_golden_file_says() -> None:
    promised = {line.number: line for line in golden()}
    wrong = []
    for number in range(1024):
        line = promised.get(number)
        expected = line.verdict if line else "ENOSYS"
        if expected == BY_ARGUMENTS:
            continue
        found = {verdict(number), verdict(number, *ONES)}
        if found != {expected}:
            wrong.append(f"{number} {line.name if line else '?'}: {expected} became {found}")
    assert wrong == []


def test_the_golden_file_knows_which_calls_depend_on_arguments() -> None:
    filtered = {name for rule in RULES if rule.get("args") for name in rule["names"]}
    marked = {line.name for line in golden() if line.verdict == BY_ARGUMENTS}
    assert marked == filtered & NUMBERS.keys()


def test_a_filtered_call_has_a_verdict_for_the_rest() -> None:
    """Otherwise what no rule matches would answer ENOSYS, which programs take for an old kernel."""
    filtered = {name for rule in RULES if rule.get("args") for name in rule["names"]}
    total = {"index": 0, "op": "SCMP_CMP_GE", "value": 0}
    closed = {name for rule in RULES if rule.get("args") == [total] for name in rule["names"]}
    assert filtered == closed


def test_no_name_stands_in_two_groups() -> None:
    """libseccomp would silently let one of them win."""
    plain = [name for rule in RULES if not rule.get("args") for name in rule["names"]]
    filtered = {name for rule in RULES if rule.get("args") for name in rule["names"]}
    assert len(plain) == len(set(plain))
    assert not filtered & set(plain)


def test_every_rule_says_why() -> None:
    assert [rule["names"] for rule in RULES if not rule.get("comment")] == []


def test_only_bits_that_the_kernel_reads_are_compared() -> None:
    """Equality of 64 bits would be passed by a caller who sets a bit the kernel ignores."""
    conditions = [condition for rule in RULES for condition in rule.get("args", [])]
    masked = [c for c in conditions if c["op"] == "SCMP_CMP_MASKED_EQ"]
    rest = [c for c in conditions if c["op"] != "SCMP_CMP_MASKED_EQ"]
    # A pointer has 64 of them, an int 32.
    assert all(c["value"] <= 0xFFFF_FFFF or c["value"] == (1 << 64) - 1 for c in masked)
    assert all(c["valueTwo"] & ~c["value"] == 0 for c in masked)
    assert all((c["op"], c["value"]) == ("SCMP_CMP_GE", 0) for c in rest)


@pytest.mark.parametrize("name", NEEDED_BY_THE_RUNNER)
def test_the_runner_can_start_a_job_behind_the_filter(name: str) -> None:
    assert call(name) == ALLOW


@pytest.mark.parametrize("name", NEVER)
def test_known_bad_calls_are_refused(name: str) -> None:
    if name in NUMBERS:
        assert {call(name), call(name, *ONES)} == {"EPERM"}


@pytest.mark.parametrize("name", UNKNOWN)
def test_calls_with_a_fallback_look_like_an_older_kernel(name: str) -> None:
    if name in NUMBERS:
        assert {call(name), call(name, *ONES)} == {"ENOSYS"}


def test_foreign_architectures_end_the_process() -> None:
    for arch in {X86_64, AARCH64, I386, ARM} - {NATIVE}:
        assert {verdict(number, arch=arch) for number in range(512)} == {KILL}


@pytest.mark.skipif(NATIVE != X86_64, reason="x32 is an ABI of x86")
def test_x32_ends_the_process() -> None:
    assert {verdict(X32 | number) for number in range(1024)} == {KILL}


def test_the_program_fits_the_kernels_limit() -> None:
    assert len(PROGRAM) <= 4096 * 8


INSIDE = """
import ctypes, errno, os, socket, subprocess, sys, threading

program = open(sys.argv[1], "rb").read()
code = ctypes.create_string_buffer(program)

class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

libc = ctypes.CDLL(None, use_errno=True)
loaded = Filter(len(program) // 8, ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(loaded), 0, 0) == 0

thread = threading.Thread(target=lambda: print("thread"))
thread.start()
thread.join()
print(subprocess.run(["/bin/echo", "child"], capture_output=True, text=True).stdout.strip())
try:
    socket.socket(38, socket.SOCK_SEQPACKET)
except OSError as error:
    print(errno.errorcode[error.errno])
print(libc.unshare(0), errno.errorcode[ctypes.get_errno()])
sys.stdout.flush()
if os.uname().machine == "x86_64":
    libc.syscall(0x40000000 + 39)
else:
    os.kill(os.getpid(), 31)
"""


def test_the_kernel_obeys_the_program_and_python_lives_with_it(tmp_path: Path) -> None:
    """`unshare(0)` does nothing at all, so its error can only be the filter's."""
    (tmp_path / "program").write_bytes(PROGRAM)
    (tmp_path / "inside.py").write_text(INSIDE)
    run = subprocess.run(
        [sys.executable, tmp_path / "inside.py", tmp_path / "program"],
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
    )
    assert run.stdout.splitlines() == ["thread", "child", "EAFNOSUPPORT", "-1 EPERM"], run.stderr
    assert run.returncode == -31  # SIGSYS
