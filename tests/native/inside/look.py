"""Looks around in a sandbox and tries what a job might; writes what it found as JSON.

The question comes as JSON on stdin: `masks`, `canary`, `calls` ({name: [number, args…]}), `shm_key`.
An attempt is reported as 0 or its errno.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
question = json.load(sys.stdin)


def attempt(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "system call")


def read(path: str) -> str:
    return Path(path).read_text()


def mask(path: str) -> str:
    """How much a masked path still tells: `absent`, `covered`, or `open`."""
    try:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            return f"open: {os.listdir(path)}"
        return f"open: {len(Path(path).read_bytes())} bytes"
    except FileNotFoundError:
        return "absent"
    except PermissionError:
        return "covered"


def devices() -> dict[str, list[object]]:
    return {
        name: [
            stat.filemode(status.st_mode),
            [os.major(status.st_rdev), os.minor(status.st_rdev)],
            os.readlink(f"/dev/{name}") if stat.S_ISLNK(status.st_mode) else "",
        ]
        for name in sorted(os.listdir("/dev"))
        for status in [os.lstat(f"/dev/{name}")]
    }


def create(directory: str) -> int:
    def action() -> None:
        path = f"{directory}/probe-{os.getpid()}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.unlink(path)

    return attempt(action)


def writable(path: str) -> int:
    return attempt(lambda: os.close(os.open(path, os.O_WRONLY)))


def room(path: str) -> list[int]:
    status = os.statvfs(path)
    return [status.f_blocks * status.f_frsize, status.f_files]


def walk_for(name: str) -> list[str]:
    """Every path that ends in `name`, the shared /usr and the process tree left out."""
    found = []
    for directory, directories, files in os.walk("/"):
        if name in (*directories, *files):
            found.append(f"{directory}/{name}")
        if directory == "/":
            directories[:] = {*directories} - {"usr", "proc"}
    return found


def canary(path: str) -> dict[str, int]:
    ways = [
        path,
        f"/proc/1/root{path}",
        f"/proc/self/root{path}",
        f"/proc/self/cwd/../../../../..{path}",
        f"/work/../../../..{path}",
        f"/usr/../../..{path}",
        *(f"/proc/self/fd/{fd}/../../../..{path}" for fd in range(10)),
    ]
    return {way: attempt(lambda way=way: os.close(os.open(way, os.O_RDONLY))) for way in ways}  # type: ignore[misc]


def oom() -> dict[str, object]:
    def lower(value: int) -> int:
        return attempt(lambda: Path("/proc/self/oom_score_adj").write_text(str(value)))

    first = read("/proc/self/oom_score_adj").strip()
    answers = {str(value): lower(value) for value in (-1000, -1, 0)}
    last = read("/proc/self/oom_score_adj").strip()
    return {"first": int(first), "answers": answers, "last": int(last)}


def network() -> dict[str, object]:
    interfaces = {}
    for _, name in socket.if_nameindex():
        fields = read("/proc/net/dev")
        interfaces[name] = name in fields
    with socket.create_server(("127.0.0.1", 0)) as server:
        loopback = attempt(lambda: socket.create_connection(server.getsockname()).close())
    outside = {
        address: attempt(lambda address=address: socket.create_connection((address, 80), 2).close())  # type: ignore[misc]
        for address in ("192.0.2.1", "169.254.169.254", "10.0.0.1")
    }
    return {
        "interfaces": interfaces,
        "loopback": loopback,
        "outside": outside,
        "routes": read("/proc/net/route").splitlines()[1:],
        "unix": read("/proc/net/unix").splitlines()[1:],
    }


PTRACE_ATTACH, PRIO_PROCESS = 16, 0
INIT: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(1, signal.SIGKILL),
    "kill_0": lambda: os.kill(1, 0),
    "stop": lambda: os.kill(1, signal.SIGSTOP),
    "segv": lambda: os.kill(1, signal.SIGSEGV),
    "child": lambda: os.kill(1, signal.SIGCHLD),
    "realtime": lambda: os.kill(1, 40),
    "prlimit": lambda: __import__("resource").prlimit(1, 7, (0, 0)),
    "ptrace": lambda: checked(libc.ptrace(PTRACE_ATTACH, 1, None, None)),
    "idle": lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)),
    "fifo": lambda: os.sched_setscheduler(1, os.SCHED_FIFO, os.sched_param(1)),
    "nice": lambda: os.setpriority(PRIO_PROCESS, 1, 19),
    "affinity": lambda: os.sched_setaffinity(1, {min(os.sched_getaffinity(0))}),
    "memory": lambda: os.open("/proc/1/mem", os.O_RDONLY),
    "environ": lambda: os.open("/proc/1/environ", os.O_RDONLY),
    "exe": lambda: os.readlink("/proc/1/exe"),
}

calls = {}
for name, (number, *args) in question["calls"].items():
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in args))
    calls[name] = errno.errorcode[ctypes.get_errno()] if result == -1 else "done"

report = {
    "status": {
        name: value.strip()
        for line in read("/proc/self/status").splitlines()
        for name, _, value in [line.partition(":")]
    },
    "maps": [read("/proc/self/uid_map").split(), read("/proc/self/gid_map").split()],
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "hostname": socket.gethostname(),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "own": os.getpid(),
    "proc_1": attempt(lambda: os.stat("/proc/1")),
    "masks": {path: mask("/" + path) for path in question["masks"]},
    "sys": sorted(os.listdir("/sys")) if os.path.exists("/sys") else None,
    "root": sorted(os.listdir("/")),
    "dev": devices(),
    "mountinfo": read("/proc/self/mountinfo"),
    "cgroup": read("/proc/self/cgroup"),
    "create": {
        path: create(path)
        for path in (
            "/", "/etc", "/usr", "/usr/lib", "/opt", "/opt/open", "/var/tmp", "/dev", "/proc",
            "/proc/self", "/work", "/tmp", "/dev/shm",
        )
    },
    "writable": {
        path: writable(path)
        for path in (
            "/etc/passwd", "/usr/bin/env", "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
            "/proc/sys/net/ipv4/ip_forward", "/dev/null", "/dev/zero", "/dev/full",
        )
    },
    "room": {path: room(path) for path in ("/work", "/tmp", "/dev/shm", "/dev")},
    "init": {name: attempt(action) for name, action in INIT.items()},
    "calls": calls,
    "exe": os.readlink("/proc/self/exe"),
    "maps_of": sorted({line.split()[-1] for line in read("/proc/self/maps").splitlines() if "/" in line}),
    "canary": canary(question["canary"]),
    "found": walk_for(os.path.basename(question["canary"])),
    "limits": read("/proc/self/limits"),
    "network": network(),
    "shm": attempt(lambda: checked(libc.shmget(question["shm_key"], 0, 0))),
    "oom": oom(),
}  # fmt: skip
json.dump(report, sys.stdout)
