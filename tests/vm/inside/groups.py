"""Reading cgroup v2 files and starting programs in a cgroup."""

import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

WAIT_MS = 120_000


def start(cgroup: Path, argv: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a command that is a member of the cgroup before its exec, and so when this returns."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: (cgroup / "cgroup.procs").write_text("0"),
    )


def python(source: str) -> list[str]:
    """argv of the system's interpreter with as little start-up as it has."""
    return ["/usr/bin/python3", "-I", "-S", "-c", source]


def counters(file: Path) -> dict[str, int]:
    """A flat-keyed cgroup file such as memory.events."""
    return {name: int(value) for name, value in map(str.split, file.read_text().splitlines())}


def wait_for(cgroup: Path, event: str) -> None:
    """Return when cgroup.events has the line; the kernel signals every change of it."""
    with (cgroup / "cgroup.events").open() as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while event not in events.read().splitlines():
            assert poller.poll(WAIT_MS), f"{cgroup.name} never came to {event!r}"
            events.seek(0)
