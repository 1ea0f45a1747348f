"""What the unpacking child gives up before it reads the first byte of an archive.

Its own mount, network, IPC and UTS namespaces, and in them a root that is the new layer's directory;
then a user namespace whose ids are a range that nobody else uses; of capabilities only those that
write other owners' files within that range; no new privileges; and a seccomp allow-list of the few
calls that writing a tree needs. Every step is fatal.
"""

import ctypes
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWNET = (
    0x0002_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x4000_0000,
)  # fmt: skip
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = (
    2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = (
    1, 4, 22, 24, 38,
)  # fmt: skip
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
_CHOWN, _DAC_OVERRIDE, _FOWNER = 0, 1, 3
_KEPT = 1 << _CHOWN | 1 << _DAC_OVERRIDE | 1 << _FOWNER
_CAPABILITY_V3 = 0x2008_0522
_MEMORY = 1 << 30
_OPEN_FILES = 1024

ALLOWED = (
    "read", "write", "pread64", "lseek", "openat", "close", "close_range", "mkdirat", "symlinkat",
    "linkat", "unlinkat", "mknodat", "fchown", "fchownat", "fchmod", "utimensat", "fsetxattr",
    "fstat", "newfstatat", "fcntl", "ioctl", "brk", "mmap", "munmap", "mremap", "madvise",
    "mprotect", "futex", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "getrandom",
    "sendto", "exit", "exit_group", "restart_syscall",
)  # fmt: skip
"""`ioctl` and `fcntl` are what opening a Python file object asks; the rest is the writer's work."""


def enter_directory(directory: int) -> None:
    """Make `directory` the root of new namespaces that belong to the host's user namespace."""
    real = bytes(Path(f"/proc/self/fd/{directory}").readlink())
    _check(_libc.unshare(_NEWNS | _NEWUTS | _NEWIPC | _NEWNET), "unshare")
    _mount(None, b"/", _MS_REC | _MS_PRIVATE)
    _mount(real, real, _MS_BIND)
    _mount(None, real, _MS_BIND | _MS_REMOUNT | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    os.chdir(real)
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def enter_userns(mapped: Callable[[], None]) -> None:
    """Become root of a new user namespace; `mapped` returns once its maps are written."""
    _check(_libc.unshare(_NEWUSER), "unshare")
    mapped()
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def limit(file_size: int) -> None:
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(what, (value, value))


def lock(parent: int, program: bytes) -> None:
    """Die with the parent, keep three capabilities, and load the seccomp `program`."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)
    for capability in range(64):
        if not _KEPT >> capability & 1 and _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # the first number that this kernel does not have
    header = struct.pack("<Ii", _CAPABILITY_V3, 0)
    _check(_libc.capset(header, struct.pack("<6I", _KEPT, _KEPT, 0, 0, 0, 0)), "capset")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    filters = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count of 8-byte instructions, and where they are.
    given = struct.pack("@HP", len(program) // 8, ctypes.addressof(filters))
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, given, 0, 0), "seccomp")


def receive(control: socket.socket, size: int) -> bytes:
    """One message of the parent, which is not empty."""
    data = control.recv(size)
    if not data:
        os._exit(1)
    return data


def _mount(source: bytes | None, target: bytes, flags: int) -> None:
    _check(_libc.mount(source, target, None, ctypes.c_ulong(flags), None), "mount")


def _check(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")
