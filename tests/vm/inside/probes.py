"""Things a job could try, and what became of each as {name: errno} on standard output.

Run once without a label and once under the shipped AppArmor profile; nothing else is in the way, so
a difference is AppArmor's alone. Everything tried is harmless and undone.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

PTRACE_SEIZE = 0x4206

_libc = ctypes.CDLL(None, use_errno=True)


def _open_socket(family: int, kind: int, protocol: int = 0) -> Callable[[], None]:
    return lambda: socket.socket(family, kind, protocol).close()


def _open_file(path: str, flags: int) -> Callable[[], None]:
    return lambda: os.close(os.open(path, flags, 0o600))


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "system call")


def _mount() -> None:
    _checked(_libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None))
    _checked(_libc.umount2(b"/mnt", 0))


def _trace_a_child() -> None:
    with subprocess.Popen(["/usr/bin/sleep", "1000"]) as child:
        try:
            _checked(_libc.ptrace(PTRACE_SEIZE, child.pid, None, None))
        finally:
            child.send_signal(signal.SIGKILL)


def _run_from_memory() -> None:
    descriptor = os.memfd_create("program", 0)
    with open(descriptor, "wb") as program:
        program.write(Path("/usr/bin/true").read_bytes())
        program.flush()
        copy = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    try:
        subprocess.run([f"/proc/self/fd/{copy}"], pass_fds=[copy], check=True)
    finally:
        os.close(copy)


def _run_from_scratch() -> None:
    shutil.copy("/usr/bin/true", "/tmp/vm-probe-program")
    subprocess.run(["/tmp/vm-probe-program"], check=True)
    Path("/tmp/vm-probe-program").unlink()


def _run_from_image() -> None:
    subprocess.run(["/usr/bin/true"], check=True)


DENIED: dict[str, Callable[[], object]] = {
    "socket-alg": _open_socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "socket-packet": _open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "socket-raw": _open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "socket-vsock": _open_socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "mount": _mount,
    "set-hostname": lambda: socket.sethostname(socket.gethostname()),
    "write-etc": _open_file("/etc/vm-probe", os.O_WRONLY | os.O_CREAT),
    "write-sysctl": _open_file("/proc/sys/kernel/core_pattern", os.O_WRONLY),
    "write-own-memory": _open_file("/proc/self/mem", os.O_RDWR),
    "read-kallsyms": _open_file("/proc/kallsyms", os.O_RDONLY),
    "read-sys": _open_file("/sys/kernel/mm/transparent_hugepage/enabled", os.O_RDONLY),
    "read-kernel-log": _open_file("/dev/kmsg", os.O_RDONLY),
    "signal-the-starter": lambda: os.kill(os.getppid(), 0),
    "trace-a-child": _trace_a_child,
    "run-from-memory": _run_from_memory,
}

ALLOWED: dict[str, Callable[[], object]] = {
    "socket-unix": _open_socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "socket-tcp": _open_socket(socket.AF_INET, socket.SOCK_STREAM),
    "read-own-status": _open_file("/proc/self/status", os.O_RDONLY),
    "read-image": _open_file("/usr/bin/true", os.O_RDONLY),
    "write-scratch": _open_file("/tmp/vm-probe", os.O_WRONLY | os.O_CREAT),
    "run-from-image": _run_from_image,
    "run-from-scratch": _run_from_scratch,
}


def attempt(action: Callable[[], object]) -> int:
    """0, or the errno of the refusal."""
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def main() -> None:
    outcome = {name: attempt(action) for name, action in (DENIED | ALLOWED).items()}
    for path in ("/etc/vm-probe", "/tmp/vm-probe"):
        with contextlib.suppress(OSError):
            Path(path).unlink()
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
