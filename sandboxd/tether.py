"""Run as a script: `tether.py FD UID COMMAND…` becomes COMMAND, and dies with whoever started it.

FD is the read end of a pipe whose other end only the starter holds. Its closing makes the kernel
send SIGKILL to the owner of the descriptor. Unlike PR_SET_PDEATHSIG this outlives a change of user
(the gateway gives root away later), is not bound to the starter's thread, and has no gap: a starter
that died before the line was armed shows as a hang-up. UID `-` keeps the user.
"""

import fcntl
import os
import select
import signal
import sys


def main() -> None:
    line, uid, *command = sys.argv[1:]
    descriptor = int(line)
    if uid != "-":
        os.setgroups([])
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    watch = select.poll()
    watch.register(descriptor, select.POLLIN)
    if watch.poll(0):
        sys.exit(1)
    default_signals()
    os.execvp(command[0], command)  # noqa: S606  argv, and no shell is the point


def default_signals() -> None:
    """Ignored signals survive an exec: those that Python ignores, and those that our starter did."""
    with open("/proc/self/status", "rb") as status:
        ignored = next(int(line.split()[1], 16) for line in status if line.startswith(b"SigIgn"))
    hidden = []
    for number in range(1, 65):
        if ignored >> (number - 1) & 1:
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                hidden.append(number)
    if hidden:
        _default_by_system_call(hidden)


def _default_by_system_call(numbers: list[int]) -> None:
    """For the signals that the C library keeps for itself and lets nobody set."""
    import ctypes  # rarely needed, and slow to load

    rt_sigaction = 13 if os.uname().machine == "x86_64" else 134
    default = bytes(32)  # zeros are SIG_DFL in the kernel's structure on every architecture
    for number in numbers:
        ctypes.CDLL(None).syscall(rt_sigaction, number, default, None, 8)


if __name__ == "__main__":
    main()
