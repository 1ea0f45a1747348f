"""What a program may not do: it is refused, or ended, and always told apart from other ends."""

from tests.matrix.case import Case, c, python
from tests.matrix.expectation import ok, violation

FOREIGN_ABI = r"""
#include <stdio.h>
int main(void) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
    printf("answered %d\n", result);
}
"""

X32 = r"""
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("answered %ld\n", syscall(0x40000000 + 39)); }
"""

FOREIGN_ABI_CHILD = r"""
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    int status;
    if (!fork()) {
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
        _exit(0);
    }
    wait(&status);
    printf("%d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}
"""

REFUSED_CALLS = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#define BAD ((void *)-1L)
static void probe(const char *name, long result) {
    if (result >= 0 || (errno != EPERM && errno != ENOSYS)) printf("%s %d\n", name, errno);
}
int main(void) {
    probe("mount", syscall(SYS_mount, BAD, BAD, BAD, 0, BAD));
    probe("umount2", syscall(SYS_umount2, BAD, 0));
    probe("pivot_root", syscall(SYS_pivot_root, BAD, BAD));
    probe("fsopen", syscall(SYS_fsopen, BAD, 0));
    probe("open_tree", syscall(SYS_open_tree, -100, BAD, 0));
    probe("unshare", syscall(SYS_unshare, 0x10000000));
    probe("setns", syscall(SYS_setns, -1, 0));
    probe("clone3", syscall(SYS_clone3, BAD, 88));
    probe("bpf", syscall(SYS_bpf, 0, BAD, 64));
    probe("perf_event_open", syscall(SYS_perf_event_open, BAD, 0, -1, -1, 0));
    probe("io_uring_setup", syscall(SYS_io_uring_setup, 1, BAD));
    probe("userfaultfd", syscall(SYS_userfaultfd, -1));
    probe("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    probe("add_key", syscall(SYS_add_key, BAD, BAD, BAD, 0, 0));
    probe("init_module", syscall(SYS_init_module, BAD, 0, BAD));
    probe("kexec_load", syscall(SYS_kexec_load, 0, 0, BAD, 0));
    probe("reboot", syscall(SYS_reboot, 0, 0, 0, BAD));
    probe("swapon", syscall(SYS_swapon, BAD, 0));
    probe("sethostname", syscall(SYS_sethostname, BAD, 1));
    probe("ptrace", syscall(SYS_ptrace, 0, 0, 0, 0));
    probe("ptrace_seize", syscall(SYS_ptrace, 0x4206, 1, 0, 0));
    probe("process_vm_readv", syscall(SYS_process_vm_readv, 1, BAD, 1, BAD, 1, 0));
    probe("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, BAD, 0));
    probe("clone_newuser", syscall(SYS_clone, 0x10000000 | 17, 0, 0, 0, 0));
    puts("done");
}
"""

REFUSED_SOCKETS = r"""
import socket
for name, family, kind in (
    ("vsock", 40, socket.SOCK_STREAM),
    ("alg", 38, socket.SOCK_SEQPACKET),
    ("packet", 17, socket.SOCK_RAW),
    ("raw", socket.AF_INET, socket.SOCK_RAW),
    ("netfilter", 16, 12),
    ("bluetooth", 31, socket.SOCK_RAW),
):
    try:
        socket.socket(family, kind, 12 if name == "netfilter" else 0)
        print(name, "allowed")
    except OSError:
        pass
print("done")
"""

PROC_ONE = r"""
import os
for name in ("environ", "mem", "maps", "root/etc", "cwd", "exe", "fd"):
    path = f"/proc/1/{name}"
    try:
        seen = os.listdir(path) if name in ("root/etc", "cwd", "fd") else (
            os.readlink(path) if name == "exe" else open(path, "rb").read(1))
        print(name, seen)
    except OSError:
        pass
print("done")
"""

WRITES = r"""
import os
for path in (
    "/etc/passwd", "/usr/bin/env", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
    "/proc/self/oom_score_adj_", "/sys/kernel/uevent_helper", "/dev/mem", "/dev/kmsg",
):
    try:
        os.close(os.open(path, os.O_WRONLY))
        print(path)
    except OSError:
        pass
print("done")
"""

SECRETS = r"""
import os
for path in ("/etc/shadow", "/root", "/home", "/var/lib", "/run", "/sys/fs/cgroup", "/proc/kcore"):
    try:
        found = os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
        if found:
            print(path, found)
    except OSError:
        pass
print("done")
"""

NETWORK = r"""
import errno, socket
for address in ("192.0.2.1", "169.254.169.254", "10.0.0.1"):
    try:
        socket.create_connection((address, 80), 5)
        print(address, "reached")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""

LOOPBACK = r"""
import socket
for port in (22, 80, 6379, 7070):
    try:
        socket.create_connection(("127.0.0.1", port), 5)
        print(port, "reached")
    except OSError:
        pass
print("done")
"""

SETUID = r"""
import os
for call in (os.setuid, os.setgid):
    try:
        call(0)
        print(call.__name__)
    except OSError:
        pass
print(open("/proc/self/status").read().split("CapEff:\t")[1][:16], end=" ")
print(open("/proc/self/status").read().split("NoNewPrivs:\t")[1][:1])
"""

DONE = b"done\n"

CASES = (
    Case("foreign-abi", "a 32-bit call ends the program", c(FOREIGN_ABI), violation(stdout=b"")),
    Case("foreign-x32", "an x32 call ends the program", c(X32), violation(stdout=b"")),
    Case(
        "foreign-abi-child",
        "a child that is ended for it is its parent's affair",
        c(FOREIGN_ABI_CHILD),
        ok(stdout=b"31\n"),
    ),
    Case("refused-calls", "known-bad calls are refused", c(REFUSED_CALLS), ok(stdout=DONE)),
    Case("refused-sockets", "odd sockets are refused", python(REFUSED_SOCKETS), ok(stdout=DONE)),
    Case("proc-of-init", "pid 1 shows nothing of itself", python(PROC_ONE), ok(stdout=DONE)),
    Case("system-writes", "nothing of the system can be written", python(WRITES), ok(stdout=DONE)),
    Case("host-secrets", "nothing of the host can be read", python(SECRETS), ok(stdout=DONE)),
    Case(
        "network-none",
        "there is no way out of the sandbox",
        python(NETWORK),
        ok(stdout=b"ENETUNREACH\n" * 3),
    ),
    Case("network-loopback", "the host's loopback is not here", python(LOOPBACK), ok(stdout=DONE)),
    Case(
        "no-privilege",
        "no capability, no way to root, no new privilege",
        python(SETUID),
        ok(stdout=b"0000000000000000 1\n"),
    ),
)
