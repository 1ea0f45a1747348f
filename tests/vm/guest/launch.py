"""Run the one command of this machine: output to the host as it comes, then the exit code.

The command gets ordinary pipes, because a virtio port can be opened only once and programs may
open /dev/stdout again. The code is sent when the command ends, though a grandchild may still hold
the pipes; what it had written until then is sent first.
"""

import fcntl
import json
import os
import resource
import select
import subprocess
import threading
import time
from pathlib import Path

PORTS = Path("/dev/virtio-ports")
NOT_EXECUTABLE, NOT_FOUND = 126, 127
LOOK_EVERY = 0.5
"""Seconds, in which an emulated guest opens some thousands of files at most."""
OPEN_FILES = (1024, 524288)
"""Soft and hard limit, as systemd gives them to a service."""


def main() -> None:
    command = json.loads(Path("/.vm/command.json").read_text())
    resource.setrlimit(resource.RLIMIT_NOFILE, OPEN_FILES)
    out, err, code = (os.open(PORTS / name, os.O_WRONLY) for name in ("out", "err", "code"))
    try:
        process = subprocess.Popen(
            command["argv"],
            cwd=command["cwd"],
            env=command["env"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        send(err, f"{command['argv'][0]}: {error.strerror}\n".encode())
        missing = isinstance(error, FileNotFoundError)
        send(code, b"%d" % (NOT_FOUND if missing else NOT_EXECUTABLE))
        return
    assert process.stdout is not None and process.stderr is not None
    Forgetter(command["remember"]).start()
    forward(process, {process.stdout.fileno(): out, process.stderr.fileno(): err})
    status = process.wait()
    send(code, b"%d" % (status if status >= 0 else 128 - status))


class Forgetter(threading.Thread):
    """Has the kernel forget shared files when it remembers too many.

    The host's file server holds a descriptor for each, and the host may allow it few. The kernel
    forgets by itself only when memory is short, and tells nobody how many it remembers.
    """

    def __init__(self, most: int) -> None:
        super().__init__(daemon=True)
        self._most = most

    def run(self) -> None:
        while True:
            if remembered() > self._most:
                Path("/proc/sys/vm/drop_caches").write_text("2")
            time.sleep(LOOK_EVERY)


def remembered() -> int:
    """Inodes of the shared file system in the kernel's memory."""
    for line in Path("/proc/slabinfo").read_text().splitlines():
        if line.startswith("fuse_inode "):
            return int(line.split()[1])
    raise RuntimeError("the kernel does not count its fuse inodes")


def forward(process: "subprocess.Popen[bytes]", routes: dict[int, int]) -> None:
    """Copy until the command is gone, then what its pipes still hold."""
    ended = os.pidfd_open(process.pid)
    poller = select.poll()
    for source in (*routes, ended):
        os.set_blocking(source, False)
        poller.register(source, select.POLLIN)
    while True:
        ready = {source for source, _ in poller.poll()}
        if ended in ready:
            break
        for source in ready:
            block = read(source)
            if block:
                send(routes[source], block)
            elif block is not None:
                poller.unregister(source)
    for source, port in routes.items():
        # A pipe's capacity and no more: a grandchild may go on writing for ever.
        left = fcntl.fcntl(source, fcntl.F_GETPIPE_SZ)
        while left > 0 and (block := read(source)):
            send(port, block)
            left -= len(block)


def read(source: int) -> bytes | None:
    """Bytes, empty at the end, None when there are none yet."""
    try:
        return os.read(source, 65536)
    except BlockingIOError:
        return None


def send(port: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(port, view) :]


if __name__ == "__main__":
    main()
