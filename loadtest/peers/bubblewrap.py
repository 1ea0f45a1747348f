"""bubblewrap: every namespace, read-only /usr, tmpfs, own /proc and /dev; no seccomp, no limits."""

from contextlib import ExitStack

from loadtest.peers.command import CommandPeer, first_line, installed
from loadtest.workload import PYTHON, SLEEP, Programs

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
    python = [*sandbox, "--", *PYTHON]
    about = f"{version}: `bwrap {' '.join(_SANDBOX)}`; no seccomp, no limits"
    commands = {"compiled": hello, "python": [*python, "print(1)"], "asleep": [*python, SLEEP]}
    return [CommandPeer("bubblewrap", about, programs.spawn, commands)]
