"""Sandboxes by descriptor: build, order, listen, end. A thin typed wrapper of `host.h`."""

import errno
import os
import stat
import struct
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from sandboxd.errors import NativeFault
from sandboxd.native import _native  # type: ignore[attr-defined]
from sandboxd.native.plan import ExecOrder, Plan

ffi, lib = _native.ffi, _native.lib

ABI = 5
if lib.sbx_abi() != ABI:
    raise ImportError(f"the native core speaks version {lib.sbx_abi()}, this package {ABI}")

_DIRECTORY = Path(_native.__file__).parent
INSIDE = _DIRECTORY / "inside"
"""Programs of ours for sandboxes with a root: sudo and su."""
_HEAD = struct.Struct("<BBH")
_FAIL = struct.Struct("<BBHiii")
_EXIT = struct.Struct("<BBHiIIQQQ")
_SPAWN = struct.Struct("<BBHII")
_SPAWNED = struct.Struct("<BBHIii")
_SIGNAL = struct.Struct("<BBHIi")
_OPEN = struct.Struct("<BBHI")
_OPENED = struct.Struct("<BBHiI")
_READY_SIZE = 8
_FAILED, _ARMED, _EXITED, _QUIESCE, _QUIET, _OPENING, _ANSWER = 1, 5, 7, 8, 9, 10, 11
_SPAWNING, _BORN, _SIGNALLING, _TERMINAL_MADE = 12, 13, 14, 15
_GO = 20
_STDIN_NULL, _WARM, _TERMINAL, _HOLD = 1, 4, 8, 16
_BUILD_TIMEOUT_MS = 10_000
_TRACES_MAX = 65_536


def _names(function: Callable[[int], Any]) -> list[str]:
    names: list[str] = []
    while (name := function(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


STAGES: list[str] = _names(lib.sbx_stage_name)
LAYERS: list[str] = _names(lib.sbx_layer_name)


class Native(Struct, frozen=True):
    """A built sandbox. Every field but `layers` and `pid` is a descriptor that the owner closes."""

    pid: int
    pidfd: int
    """Readable once init, and with it every process of the sandbox, is gone."""
    control: int
    exec: int
    scratch: int
    layers: frozenset[str]


class Exited(Struct, frozen=True):
    """The job's main process has ended, or another that was spawned."""

    status: int
    """As wait(2) gives it."""
    alone: bool
    """No other process of the job was left."""
    at: float
    """Seconds of CLOCK_MONOTONIC."""
    max_rss: int
    """Bytes, of the largest process among it and those that it waited for."""
    id: int = 0
    """As it was spawned; 0 is the first."""
    cpu_time: float = 0.0
    """Seconds, with those that it waited for."""


class Spawned(Struct, frozen=True):
    """Answer to `send_spawn`: the process exists (`pid`, inside), or `errno` says why not."""

    id: int
    pid: int
    errno: int


class Terminal(Struct, frozen=True):
    """The terminal that an order asked for: `fd` is its master, owned by the receiver."""

    fd: int


class Quiet(Struct, frozen=True):
    """No process of the job is left."""


class Opened(Struct, frozen=True):
    """A file was opened for the host (`fd`, owned by the receiver), or `errno` says why not."""

    name: str
    errno: int
    fd: int
    more: bool


class Failed(Struct, frozen=True):
    """The runner could not carry out its order."""

    stage: str
    errno: int
    index: int


class Armed(Struct, frozen=True):
    """A warm interpreter waits for its order."""


class EndOfStream(Struct, frozen=True):
    """The other side is gone."""


Message = Exited | Quiet | Opened | Failed | Armed | Spawned | Terminal | EndOfStream


ZYGOTE_MODULE = _DIRECTORY / f"_zygote{sysconfig.get_config_var('EXT_SUFFIX')}"
"""The part of a zygote that its interpreter imports."""
AWAIT_MODULE = _DIRECTORY / "await.so"
"""What an interpreter of a sandbox loads to wait for its order."""


def seal_init(*, testing: bool = False) -> int:
    """Descriptor of a sealed memfd that holds sandbox-init, for `build`."""
    path = _DIRECTORY / ("sandbox-init-test" if testing else "sandbox-init")
    fd: int = lib.sbx_seal(os.fsencode(path))
    if fd < 0:
        raise NativeFault("seal", int(ffi.errno))
    return fd


def build(
    init_fd: int,
    plan: Plan,
    *,
    tasks: Sequence[int] = (),
    cgroup: int = -1,
    mounts: Sequence[int] = (),
    idmap: int = -1,
    netns: int = -1,
    zygote: int = -1,
) -> Native:
    """Start and lock down a sandbox; blocks some milliseconds, 10 s at most.

    `tasks` are descriptors of v1 `tasks` files to join, `cgroup` a v2 directory to be born into,
    `mounts` detached mounts for `plan.mounts`, `idmap` the namespace for `plan.idmap`, `netns` a network
    namespace to be in instead of a new one, `zygote` the `exec` of a running one of whose interpreter
    the job shall be a copy (its exec socket then takes the order at once). They stay open. Raises
    NativeFault, naming the stage; then nothing is left behind.
    """
    encoded = plan.encode(ABI, len(tasks))
    origin = ffi.new("struct sbx_origin *", (init_fd, zygote, cgroup, netns))
    fds = [*tasks, *mounts, *([idmap] if plan.idmap else ())]
    sandbox = ffi.new("struct sbx_sandbox *")
    error = ffi.new("struct sbx_error *")
    if (
        lib.sbx_build(
            origin, encoded, len(encoded), fds, len(fds), _BUILD_TIMEOUT_MS, sandbox, error,
        )
        != 0
    ):  # fmt: skip
        raise NativeFault(STAGES[error.stage], error.err, error.index)
    return Native(
        sandbox.pid,
        sandbox.pidfd,
        sandbox.control,
        sandbox.exec,
        sandbox.scratch,
        frozenset(name for bit, name in enumerate(LAYERS) if sandbox.layers >> bit & 1),
    )


def send_exec(
    exec_fd: int,
    order: ExecOrder,
    stdin: int | None,
    stdout: int,
    stderr: int,
    *,
    hold: bool = False,
) -> None:
    """Give the order to the runner. stdin None is /dev/null; with a terminal the three are not used.
    With `hold` it does all but execute it, and that after `send_go`; a sandbox's own runner can, a warm
    interpreter cannot. Raises OSError if the runner is gone."""
    head = ffi.new("struct sbx_exec *")
    head.flags = (_STDIN_NULL if stdin is None else 0) | (_WARM if order.warm else 0)
    head.flags |= _HOLD if hold else 0
    if order.terminal is not None:
        head.flags |= _TERMINAL
        head.rows, head.columns = order.terminal
    head.argc, head.envc, head.filec = len(order.argv), len(order.env), len(order.files)
    head.open_files, head.stack, head.file_size = order.open_files, order.stack, order.file_size
    body = order.body()
    fds = [stdout, stderr] if stdin is None else [stdin, stdout, stderr]
    if order.terminal is not None:
        fds = []
    if lib.sbx_exec_send(exec_fd, head, body, len(body), fds, len(fds)) != 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))


def send_go(exec_fd: int) -> None:
    """The order that was sent to be held stands. Raises OSError if the runner is gone."""
    _send(exec_fd, _HEAD.pack(_GO, ABI, 0))


def receive(socket: int) -> Message | None:
    """The next message of init (control socket) or runner (exec socket); None if there is none yet.

    Raises NativeFault for anything that is not a message of ours.
    """
    buffer = ffi.new("uint8_t[512]")
    fd = ffi.new("int *")
    size = lib.sbx_message(socket, buffer, 512, fd)
    if size == 0:
        return EndOfStream()
    if size < 0:
        if ffi.errno == errno.EAGAIN:
            return None
        if ffi.errno == errno.ECONNRESET:  # it went with unread messages of ours
            return EndOfStream()
        raise NativeFault("receive", int(ffi.errno))
    data = bytes(ffi.buffer(buffer, size))
    message = _decode(data, fd[0])
    if fd[0] >= 0 and not (isinstance(message, Opened | Terminal) and message.fd == fd[0]):
        os.close(fd[0])
    if message is None:
        raise NativeFault("receive", errno.EPROTO)
    return message


def _decode(data: bytes, fd: int) -> Message | None:
    kind = data[0]
    if len(data) < _HEAD.size or data[1] != ABI:
        return None
    if kind == _EXITED and len(data) == _EXIT.size:
        _, _, _, status, alone, number, at, max_rss, cpu = _EXIT.unpack(data)
        return Exited(status, bool(alone), at / 1e9, max_rss, number, cpu / 1e9)
    if kind == _BORN and len(data) == _SPAWNED.size:
        _, _, _, number, pid, error = _SPAWNED.unpack(data)
        return Spawned(number, pid, error) if (pid > 0) != (error > 0) else None
    if kind == _TERMINAL_MADE and len(data) == _HEAD.size and _is_master(fd):
        return Terminal(fd)
    if kind == _ARMED and len(data) == _READY_SIZE:
        return Armed()
    if kind == _QUIET and len(data) == _HEAD.size:
        return Quiet()
    if kind == _ANSWER and len(data) >= _OPENED.size:
        _, _, _, error, more = _OPENED.unpack_from(data)
        return _opened(data[_OPENED.size :], error, fd, bool(more))
    if kind == _FAILED and len(data) == _FAIL.size:
        _, _, _, stage, error, index = _FAIL.unpack(data)
        if 0 <= stage < len(STAGES):
            return Failed(STAGES[stage], error, index)
    return None


def _is_master(fd: int) -> bool:
    """Whether it is the master of a terminal: /dev/ptmx, of whatever instance."""
    if fd < 0:
        return False
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(5, 2)


def _opened(name: bytes, error: int, fd: int, more: bool) -> Opened | None:
    """None unless it is what our init sends: a plain name with a regular file, a name with the reason
    why not, or the end of a list."""
    if b"/" in name or b"\0" in name or name in (b".", b"..") or error < 0 or (more and not name):
        return None
    if name and error == 0:
        if fd < 0 or not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
    elif fd >= 0:
        return None
    return Opened(os.fsdecode(name), error, fd, more)


def send_quiesce(control: int) -> None:
    """Ask init to kill every process of the job; it answers Quiet."""
    os.write(control, _HEAD.pack(_QUIESCE, ABI, 0))


def send_spawn(
    control: int, number: int, exec_fd: int, *, files: bool = False, root: bool = False
) -> None:
    """Ask a session's init for one more process, a runner or the file service, with this end of an
    exec socket (which stays open here). It answers Spawned, and later Exited, with `number`. `root` is
    refused (EPERM) unless the plan said that there is one.

    Raises OSError: BlockingIOError if init reads nothing, as when it is frozen.
    """
    _send(control, _SPAWN.pack(_SPAWNING, ABI, 0, number, 2 * root + files), exec_fd)


def send_signal(control: int, number: int, signal: int) -> None:
    """Signal the process group of a spawned process; nothing happens if it has been reaped."""
    _send(control, _SIGNAL.pack(_SIGNALLING, ABI, 0, number, signal))


def _send(socket: int, message: bytes, *fds: int) -> None:
    if lib.sbx_send(socket, message, len(message), list(fds), len(fds)) != 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))


def send_open(control: int, path: str, *, glob: bool) -> None:
    """Ask init to open a file below /work, or every match of a glob in one of its directories.

    The answers are Opened messages, the last with `more` false (for a glob it carries no file).
    """
    os.write(control, _OPEN.pack(_OPENING, ABI, 0, glob) + os.fsencode(path) + b"\0")


def idmap(first: int, to: int, count: int) -> int:
    """Descriptor of a user namespace that shows owners `first`… of files as `to`…, for `build`."""
    fd: int = lib.sbx_idmap(first, to, count)
    if fd < 0:
        raise NativeFault("overlay", int(ffi.errno))
    return fd


def new_netns() -> int:
    """Descriptor of a new network namespace with nothing but a loopback, for `build`; blocks ~1 ms."""
    fd: int = lib.sbx_netns_new()
    if fd < 0:
        raise NativeFault("loopback", int(ffi.errno))
    return fd


def socket_inside(netns: int, family: int) -> int:
    """Descriptor of a TCP socket in a network namespace, non-blocking. In a thread: it changes its
    namespace for the moment. Raises OSError."""
    fd: int = lib.sbx_socket_inside(netns, family)
    if fd < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return fd


def netns_traces(netns: int) -> bytes:
    """What use leaves in a network namespace: every count it keeps, as text. Blocks ~0.1 ms."""
    buffer = ffi.new("uint8_t[]", _TRACES_MAX)
    size = lib.sbx_netns_traces(netns, buffer, _TRACES_MAX)
    if size < 0:
        raise NativeFault("loopback", int(ffi.errno))
    return bytes(ffi.buffer(buffer, size))


def resize(scratch: int, disk: int, inodes: int) -> None:
    """Give the scratch file system another size (bytes) and inode count."""
    if lib.sbx_resize(scratch, disk, inodes) != 0:
        raise NativeFault("resize", int(ffi.errno))


def reap(pidfd: int, timeout: float = 5.0) -> None:
    """Kill init and wait until the whole sandbox is gone; blocks at most `timeout` seconds."""
    if lib.sbx_reap(pidfd, int(timeout * 1000)) != 0:
        raise NativeFault("reap", int(ffi.errno))


def close_all(native: Native) -> None:
    """Close every descriptor of a sandbox."""
    for fd in (native.control, native.exec, native.scratch, native.pidfd):
        os.close(fd)
