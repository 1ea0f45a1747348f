"""The root file system of peers that want one: empty but for the program and links into /usr."""

import shutil
from pathlib import Path

from loadtest.workload import Programs

LIMITS = {"memory": 256 << 20, "pids": 64}
"""Bytes and processes, for peers that limit by control groups."""


def make(programs: Programs, name: str) -> Path:
    """A new directory beside the programs. /usr is an empty directory, to be mounted on."""
    root = programs.hello.parent / f"{name}-root"
    for place in ("usr", "proc", "dev", "sys", "tmp", "etc", "run"):
        (root / place).mkdir(parents=True)
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    shutil.copy2(programs.hello, root / "hello")
    return root
