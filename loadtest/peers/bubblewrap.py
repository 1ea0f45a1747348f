"""bubblewrap: every namespace, read-only /usr, tmpfs, own /proc and /dev; no seccomp, no limits."""

import shutil
import subprocess

from loadtest.peers.command import CommandPeer
from loadtest.workload import DEBIAN_PYTHON, Programs

_SANDBOX = [
    "--unshare-all", "--die-with-parent", "--new-session", "--clearenv",
    "--ro-bind", "/usr", "/usr",
    "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
    "--symlink", "usr/bin", "/bin",
    "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
]  # fmt: skip


def peers(programs: Programs) -> list[CommandPeer]:
    """Empty where bubblewrap is not installed."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return []
    version = subprocess.run(
        [bwrap, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    sandbox = [bwrap, *_SANDBOX]
    hello = [*sandbox, "--ro-bind", str(programs.hello), "/hello", "--", "/hello"]
    python = [*sandbox, "--", DEBIAN_PYTHON, "-I", "-S", "-c", "print(1)"]
    about = f"{version}: `bwrap {' '.join(_SANDBOX)}`; no seccomp, no limits"
    return [CommandPeer("bubblewrap", about, programs.spawn, {"compiled": hello, "python": python})]
