"""OCI runtimes: one bundle for all, a new container for each job, `run` from start to removal.

Every namespace but the user's, read-only root, no capability, limits by control groups; no seccomp.
"""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtest.peers import hybrid, root
from loadtest.peers.command import CommandPeer, first_line, installed
from loadtest.peers.peer import NotHereError
from loadtest.workload import PYTHON, SLEEP, Programs

_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
_NOBODY = 65534


def runc(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    return [_peer(programs, "runc")]


def crun(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    return [_peer(programs, "crun", driver=hybrid.driver())]


def runsc(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    """gVisor. Its sandbox process has a group of its own, so that the bundle's limits hold for it."""
    return [_peer(programs, "runsc", "--network=none")]


def _peer(programs: Programs, name: str, *flags: str, driver: Sequence[str] = ()) -> CommandPeer:
    """Raises NotHereError."""
    runtime = installed(name)
    if os.geteuid() != 0:
        raise NotHereError(f"{name}: needs root")
    version = first_line(name, runtime, "--version")
    directory = programs.hello.parent / name
    rootfs = root.make(programs, name)
    commands = {}
    programs_of = {
        "compiled": ["/hello"], "python": [*PYTHON, "print(1)"], "asleep": [*PYTHON, SLEEP],
    }  # fmt: skip
    for workload, argv in programs_of.items():
        bundle = directory / workload
        bundle.mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(_config(rootfs, argv)))
        commands[workload] = [
            runtime, "--root", str(directory / "state"), *flags,
            "run", "--bundle", str(bundle), f"loadtest-{os.getpid()}-{name}-{{client}}",
        ]  # fmt: skip
    about = (
        f"{version}: `{' '.join([name, *flags])} run`, read-only root, no capability, memory and "
        "processes limited by control groups; no seccomp"
    )
    return CommandPeer(name, about, programs.spawn, commands, driver)


def _config(rootfs: Path, argv: Sequence[str]) -> dict[str, Any]:
    """A bundle's config.json, OCI runtime specification 1.0."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": _NOBODY, "gid": _NOBODY},
            "args": list(argv), "env": ["PATH=/usr/bin:/bin"], "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted")},
        },
        "root": {"path": str(rootfs), "readonly": True},
        "hostname": "sandbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "nodev", "mode=1777"]},
            {"destination": "/usr", "type": "bind", "source": "/usr",
             "options": ["bind", "ro", "nosuid", "nodev"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "resources": {name: {"limit": limit} for name, limit in root.LIMITS.items()},
        },
    }  # fmt: skip
