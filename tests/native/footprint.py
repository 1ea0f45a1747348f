"""What this process has on the host at one moment: compare two to see that nothing was left."""

import os
from pathlib import Path

from msgspec import Struct


class Footprint(Struct, frozen=True):
    fds: frozenset[tuple[int, str]]
    children: frozenset[int]
    groups: frozenset[str]
    mounts: frozenset[str]
    staged: frozenset[str]


def roots(instance: str) -> list[Path]:
    """The instance's control group in every hierarchy: beside one another, or the one of v2."""
    base = Path("/sys/fs/cgroup")
    return [*base.glob(f"*/sandboxd-{instance}"), *base.glob(f"sandboxd-{instance}")]


def footprint(instance: str, stage: Path) -> Footprint:
    """Open descriptors, child processes, control groups of the instance, mounts on the stage."""
    return Footprint(
        frozenset(_descriptors()),
        frozenset(_children()),
        frozenset(
            str(directory)
            for root in roots(instance)
            for directory in root.iterdir()
            if directory.is_dir()
        ),
        frozenset(
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(stage) in line
        ),
        frozenset(os.listdir(stage)),
    )


def _descriptors() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:  # the listing's own
            continue
    return found


def _children() -> list[int]:
    """Every process whose parent is ours, zombies included."""
    own, found = os.getpid(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.rpartition(")")[2].split()[1]) == own:
            found.append(int(entry.name))
    return found
