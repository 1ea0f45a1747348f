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
    # Ignored signals survive an exec, and Python ignores these.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606  argv, and no shell is the point


if __name__ == "__main__":
    main()
