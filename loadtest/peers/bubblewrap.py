"""bubblewrap: every namespace, read-only /usr, tmpfs, own /proc and /dev; no seccomp, no limits."""

from contextlib import ExitStack

from loadtest.peers.command import CommandPeer, first_line, installed
from loadtest.workload import DEBIAN_PYTHON, Programs

_SANDBOX = [
    "--unshare-all", "--die-with-parent", "--new-session", "--clearenv",
    "--ro-bind", "/usr", "/usr",
    "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
    "--symlink", "usr/bin", "/bin",
    "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
]  # fmt: skip


def peers(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    """Raises NotHereError."""
    bwrap = installed("bwrap")
    version = first_line("bubblewrap", bwrap, "--version")
    sandbox = [bwrap, *_SANDBOX]
    hello = [*sandbox, "--ro-bind", str(programs.hello), "/hello", "--", "/hello"]
    python = [*sandbox, "--", DEBIAN_PYTHON, "-I", "-S", "-c", "print(1)"]
    about = f"{version}: `bwrap {' '.join(_SANDBOX)}`; no seccomp, no limits"
    return [CommandPeer("bubblewrap", about, programs.spawn, {"compiled": hello, "python": python})]
