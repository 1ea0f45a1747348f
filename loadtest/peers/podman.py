"""Podman with a state of its own, on a root file system instead of an image: `run --rm`."""

import os
import tempfile
from contextlib import ExitStack

from loadtest.peers import hybrid, root
from loadtest.peers.command import CommandPeer, first_line, installed
from loadtest.peers.peer import NotHereError
from loadtest.workload import PYTHON, SLEEP, Programs

RUN = [
    "run", "--rm", "--network=none", "--read-only", "--user=65534:65534", "--cap-drop=all",
    "--security-opt=no-new-privileges", f"--memory={root.LIMITS['memory']}b",
    f"--pids-limit={root.LIMITS['pids']}", "--volume=/usr:/usr:ro",
]  # fmt: skip
"""Docker understands the same words."""


def peers(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    """Raises NotHereError."""
    podman = installed("podman")
    if os.geteuid() != 0:
        raise NotHereError("podman: needs root")
    version = first_line("podman", podman, "--version")
    # Podman wants its run directory's path below 50 characters.
    state = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp"))
    ours = [
        podman, "--root", f"{state}/root", "--runroot", f"{state}/run", "--tmpdir", f"{state}/tmp",
        "--storage-driver=vfs", "--events-backend=none", "--cgroup-manager=cgroupfs",
    ]  # fmt: skip
    run = [
        *ours,
        *RUN,
        "--log-driver=none",
        "--ulimit=nofile=1024:1024",
        "--ulimit=nproc=4096:4096",
        "--rootfs",
        str(root.make(programs, "podman")),
    ]
    commands = {
        "compiled": [*run, "/hello"],
        "python": [*run, *PYTHON, "print(1)"],
        "asleep": [*run, *PYTHON, SLEEP],
    }
    about = f"{version}: `podman {' '.join(RUN)} --rootfs`; its own seccomp policy"
    return [CommandPeer("podman", about, programs.spawn, commands, hybrid.driver())]
