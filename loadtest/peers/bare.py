"""No sandbox at all: fork and exec, a pipe for stdout, wait."""

import platform
import subprocess

from loadtest.peers.command import CommandPeer
from loadtest.workload import DEBIAN_PYTHON, Programs


def peers(programs: Programs) -> list[CommandPeer]:
    """`bare` starts Python as fast as it starts; `bare file` as people start it."""
    version = subprocess.run(
        [DEBIAN_PYTHON, "-V"], capture_output=True, text=True, check=True
    ).stdout.strip()
    hello = [str(programs.hello)]
    bare = CommandPeer(
        "bare",
        f"posix_spawn, pipe, wait; no isolation. `./hello`; `python3 -I -S -c 'print(1)'` "
        f"({version}, {platform.machine()})",
        programs.spawn,
        {"compiled": hello, "python": [DEBIAN_PYTHON, "-I", "-S", "-c", "print(1)"]},
    )
    file = CommandPeer(
        "bare file",
        "the same with `python3 hello.py`",
        programs.spawn,
        {"python": [DEBIAN_PYTHON, str(programs.hello_py)]},
    )
    return [bare, file]
