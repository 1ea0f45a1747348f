"""What runs commands as root in a sandbox that has one: see `native/sudo.h`."""

import os
import select
import socket
import time

from sandboxd.errors import DriverFault
from sandboxd.native import (
    INSIDE,
    Armed,
    Bind,
    EndOfStream,
    ExecOrder,
    Native,
    Spawned,
    receive,
    send_exec,
    send_spawn,
)

BIN = "/opt/sandboxd/bin"
"""Where the programs are that ask it."""
BINDS = (Bind(str(INSIDE), BIN),)
NUMBER = (1 << 32) - 1
"""Init knows it by: far above those of a session's processes."""
_WITHIN = 10.0
_ORDER = ExecOrder(
    argv=[f"{BIN}/sudo", "--serve"],
    env={"PATH": "/usr/bin:/bin"},
    cwd="/",
    open_files=1024,
    stack=64 << 20,
    file_size=(1 << 64) - 1,
)


def start(native: Native) -> None:
    """Start it; blocks until it runs, which takes as long as any process. Raises DriverFault."""
    deadline = time.monotonic() + _WITHIN
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send_spawn(native.control, NUMBER, theirs.fileno(), root=True)
        theirs.close()
        born = _next(native.control, deadline)
        if not isinstance(born, Spawned) or born.errno:
            raise DriverFault("exec", "start root's server", f"it answered {born}")
        for wanted in (Armed, EndOfStream):
            message = _next(ours.fileno(), deadline)
            if not isinstance(message, wanted):
                raise DriverFault("exec", "start root's server", f"it answered {message}")
            if wanted is Armed:
                _send_order(ours.fileno())


def _send_order(line: int) -> None:
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    try:
        send_exec(line, _ORDER, None, null, null)
    finally:
        os.close(null)


def _next(fd: int, deadline: float) -> object:
    waiter = select.poll()
    waiter.register(fd, select.POLLIN)
    waiter.poll(max(0.0, deadline - time.monotonic()) * 1000)
    return receive(fd)
