"""nsjail: every namespace, read-only /usr, tmpfs, own /proc, its own default rlimits; no seccomp."""

from contextlib import ExitStack

from loadtest.peers.command import CommandPeer, installed
from loadtest.workload import PYTHON, SLEEP, Programs

_SANDBOX = [
    "--mode", "o", "--really_quiet", "--user", "65534", "--group", "65534",
    "--bindmount_ro", "/usr", "--symlink", "usr/lib:/lib", "--symlink", "usr/lib64:/lib64",
    "--tmpfsmount", "/tmp",
]  # fmt: skip


def peers(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    """Raises NotHereError. nsjail has no way to say its version."""
    sandbox = [installed("nsjail"), *_SANDBOX]
    hello = [*sandbox, "--bindmount_ro", f"{programs.hello}:/hello", "--", "/hello"]
    python = [*sandbox, "--", *PYTHON]
    about = f"`nsjail {' '.join(_SANDBOX)}`; no seccomp"
    commands = {"compiled": hello, "python": [*python, "print(1)"], "asleep": [*python, SLEEP]}
    return [CommandPeer("nsjail", about, programs.spawn, commands)]
