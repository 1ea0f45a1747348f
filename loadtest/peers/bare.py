"""No sandbox at all: fork and exec, a pipe for stdout, wait."""

import platform
from contextlib import ExitStack

from loadtest.peers.command import CommandPeer, first_line
from loadtest.workload import DEBIAN_PYTHON, PYTHON, SLEEP, Programs


def peers(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    """`bare` starts Python as fast as it starts; `bare file` as people start it."""
    version = first_line("bare", DEBIAN_PYTHON, "-V")
    hello = [str(programs.hello)]
    bare = CommandPeer(
        "bare",
        f"posix_spawn, pipe, wait; no isolation. `./hello`; `python3 -I -S -c 'print(1)'` "
        f"({version}, {platform.machine()})",
        programs.spawn,
        {"compiled": hello, "python": [*PYTHON, "print(1)"], "asleep": [*PYTHON, SLEEP]},
    )
    file = CommandPeer(
        "bare file",
        "the same with `python3 hello.py`",
        programs.spawn,
        {"python": [DEBIAN_PYTHON, str(programs.hello_py)]},
    )
    return [bare, file]
