"""Stands for a gateway or courier that was taken over: gets a task on stdin, prints errnos by attempt."""

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from sandboxd.gateway import confinement, privileges
from sandboxd.gateway.auth import Keys
from sandboxd.gateway.courier import main as courier
from sandboxd.settings import load

task = json.load(sys.stdin)
place, redis = Path(task["place"]), task["redis"]
USER = 64_999
settings = load(
    None, {},
    (f"redis.url={redis}", f"gateway.keys_file={place}/keys/keys", f"gateway.uid={USER}"),
)  # fmt: skip
programs = {name: bytes.fromhex(program) for name, program in task["filters"].items()}
libc = ctypes.CDLL(None, use_errno=True)
PTRACE, MOUNT, BPF, UNSHARE = {
    "x86_64": (101, 165, 321, 272),
    "aarch64": (117, 40, 280, 97),
}[platform.machine()]
IO_URING_SETUP = 425
BAD = 1
"""No address: a kernel that looks at it says so."""


def checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def call(number: int, *arguments: object) -> None:
    checked(libc.syscall(ctypes.c_long(number), *arguments))


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def executed() -> None:
    """Of what is not there, since success would be the end of this program."""
    checked(libc.execve(b"/nowhere/at/all", None, None))


def thread() -> None:
    done: list[int] = []
    runner = threading.Thread(target=done.append, args=(1,))
    runner.start()
    runner.join()
    assert done == [1]


def become_code() -> None:
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE) as page:
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        where = ctypes.c_void_p(address)
        checked(libc.mprotect(where, 4096, mmap.PROT_READ | mmap.PROT_EXEC))


def reread_keys() -> None:
    assert keys.tenant("Bearer nobody") is None
    keys.reload_if_changed(force=True)
    if keys._complaint:
        raise OSError(errno.EACCES, keys._complaint)


def reach(port: int) -> None:
    with socket.socket(socket.AF_INET) as line:
        line.settimeout(5)
        line.connect(("127.0.0.1", port))


def datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"", ("127.0.0.1", 9))


def call_node() -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(f"{place}/node/agent.sock")


def accepted() -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(f"{place}/own.sock")
        listener.accept()[0].close()


def second_listener() -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.listen()


def bound() -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(f"{place}/tmp/bound.sock")


def lazy_import() -> None:
    import wave  # noqa: F401  pure, and nobody else wants it


ATTEMPTS: dict[str, Callable[[], object]] = {
    "execve": executed,
    "fork": fork,
    "vfork and exec": lambda: subprocess.run(["/bin/true"], check=True),
    "ptrace": lambda: call(PTRACE, 9_999, task["victim"], 0, 0),
    "unshare": lambda: call(UNSHARE, 0),
    "mount": lambda: call(MOUNT, 0, BAD, 0, 0, 0),
    "bpf": lambda: call(BPF, 0, 0, 0x7FFF_FFFF),
    "io_uring": lambda: call(IO_URING_SETUP, 1, BAD),
    "memfd": lambda: os.close(os.memfd_create("x")),
    "kill": lambda: os.kill(task["victim"], 0),
    "rlimit": lambda: checked(libc.setrlimit(resource.RLIMIT_CORE, bytes(16))),
    "bind": bound,
    "executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "data becomes code": become_code,
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "read passwd": lambda: Path("/etc/passwd").read_text(),
    "read store": lambda: (place / "store" / "secret").read_text(),
    "read state": lambda: (place / "state" / "secret").read_text(),
    "list stage": lambda: os.listdir(place / "stage"),
    "write tmp": lambda: (place / "tmp" / "new").write_text(""),
    "make directory": lambda: os.mkdir(place / "tmp" / f"d{task['who']}"),
    "rename": lambda: os.rename(place / "tmp" / "r1", place / "tmp" / "r2"),
    "remove": lambda: os.unlink(place / "tmp" / "r2"),
    "read proc": lambda: Path("/proc/sys/kernel/hostname").read_text(),
    "thread": thread,
    "import": lazy_import,
    "keys": reread_keys,
    "unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "accept": accepted,
    "wake-up": lambda: [end.close() for end in socket.socketpair()],
    "name of localhost": lambda: socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM),
    "random": lambda: os.urandom(16),
    "read keys": lambda: (place / "keys" / "keys").read_text(),
    "call node": call_node,
    "call redis": lambda: reach(redis_port),
    "call elsewhere": lambda: reach(other_port),
    "datagram": datagram,
    "listen": second_listener,
}


def attempt(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


keys = Keys(settings.gateway.keys_file)
(place / "own.sock").unlink(missing_ok=True)
(place / "tmp" / "bound.sock").unlink(missing_ok=True)
(place / "tmp" / "r1").touch()
listener = socket.socket(socket.AF_UNIX)
listener.bind(f"{place}/own.sock")
listener.listen()
(place / "own.sock").chmod(0o777)
other = place / "elsewhere"
other_port = int(other.read_text()) if other.exists() else 1
redis_port = int(redis.rpartition(":")[2]) if redis.startswith("redis:") else 1
(place / "node" / "agent.sock").unlink(missing_ok=True)
agent = socket.socket(socket.AF_UNIX)
agent.bind(f"{place}/node/agent.sock")
agent.listen()
# As the node leaves them, see node/agent.
os.chown(place / "node" / "agent.sock", USER, USER)
(place / "node" / "agent.sock").chmod(0o600)
if task["who"] == "courier":
    courier.confine(settings, courier.Filters(**programs))
else:
    privileges.drop(USER)
if task["who"] == "gateway":
    filters = confinement.Filters(**programs)
    confinement.confine(settings, filters)
    confinement.end_listening(filters)
json.dump({name: attempt(action) for name, action in ATTEMPTS.items()}, sys.stdout)
