"""Asks `inside/look.py`, in a sandbox of its own, what a job finds."""

import contextlib
import ctypes
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandboxd.drivers.exec.native import MASKS
from tests.native.box import MIB, Workshop, run
from tests.policies.seccomp_policy import NUMBERS

Report = dict[str, Any]
DISK, INODES = 16 * MIB, 1024
ENVIRONMENT = {"LANG": "C.UTF-8", "SECRET_OF_THE_REQUEST": "x=y z"}

BAD = 1
"""An address that no process has: EFAULT says that a filter let the call through."""
PROBES: dict[str, tuple[tuple[int, ...], str, str]] = {
    # call: arguments, answer under the policy, answer of the kernel itself
    "mount": ((BAD, BAD, BAD, 0, 0), "EPERM", "EFAULT"),
    "add_key": ((BAD, BAD, BAD, 1, 0), "EPERM", "EFAULT"),
    "perf_event_open": ((BAD, 0, -1, -1, 0), "EPERM", "EFAULT"),
    "process_vm_readv": ((1, BAD, 1, BAD, 1, 0), "EPERM", "EFAULT"),
    "name_to_handle_at": ((-1, BAD, BAD, BAD, 0), "EPERM", "EFAULT"),
    "open_tree": ((-1, BAD, 0), "EPERM", "EFAULT"),
    "clone3": ((BAD, 64), "ENOSYS", "EFAULT"),
    "unshare": ((1,), "EPERM", "EINVAL"),
    "setns": ((-1, 0), "EPERM", "EBADF"),
}
IPC_CREAT, IPC_RMID = 0o1000, 0
libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def host_shared_memory() -> Iterator[int]:
    """Key of a System V segment on the host that everybody may read."""
    key = 0x5A00_0000 | os.getpid() & 0xFF_FFFF
    segment = libc.shmget(key, 4096, IPC_CREAT | 0o666)
    assert segment >= 0, os.strerror(ctypes.get_errno())
    try:
        yield key
    finally:
        libc.shmctl(segment, IPC_RMID, None)


def look(workshop: Workshop, canary: Path, **changes: Any) -> Report:
    script = (Path(__file__).parent / "inside" / "look.py").read_bytes()
    with host_shared_memory() as key, workshop.sandbox(disk=DISK, inodes=INODES, **changes) as box:
        question = {
            "masks": [f"proc/{name}" for name in MASKS],
            "canary": str(canary),
            "calls": {name: [NUMBERS[name], *args] for name, (args, _, _) in PROBES.items()},
            "shm_key": key,
        }
        ran = run(
            box,
            ["/usr/bin/python3", "-IS", "look.py"],
            ENVIRONMENT,
            [("look.py", 0o644, script)],
            json.dumps(question).encode(),
        )
    report: Report = json.loads(ran.out())
    return report
