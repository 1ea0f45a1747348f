"""Processes to put into control groups: each waits until it is in, then runs its program."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxd.drivers.exec.cgroups.mounts import Mounts
from tests.native.footprint import roots

BUSY = "while True: pass"
ASLEEP = "import signal; signal.pause()"


def directories(instance: str, name: str) -> list[Path]:
    """The group's directories in every hierarchy."""
    return sorted(root / name for root in roots(instance) if (root / name).is_dir())


def has_cpusets(mounts: Mounts) -> bool:
    """Whether cores can be kept on this host."""
    if "cpuset" in mounts.v1:
        return True
    listed = mounts.v2 / "cgroup.controllers" if mounts.v2 is not None else None
    return listed is not None and "cpuset" in listed.read_text().split()


@contextmanager
def member(
    instance: str, name: str, code: str, *, prints: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the group, running Python `code`; ended with the block. With `prints`, the block
    begins once the code has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-ISc", f"input()\n{code}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for directory in directories(instance, name):
            (directory / "cgroup.procs").write_text(str(process.pid))
        process.stdin.write(b"\n")
        process.stdin.flush()
        if prints:
            assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
