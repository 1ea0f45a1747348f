"""isolate, as a judge that wants a fresh box for each run uses it: init, run, cleanup."""

import os
import stat
from contextlib import ExitStack
from pathlib import Path

from loadtest.peers.command import CommandPeer, first_line, installed
from loadtest.peers.peer import NotHereError
from loadtest.workload import PYTHON, SLEEP, Programs

_LIFE = """
box=--box-id=$1; shift
isolate "$box" --init >/dev/null && isolate "$box" --silent --run "$@"
status=$?
isolate "$box" --cleanup
exit $status
"""


def peers(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    """Raises NotHereError."""
    isolate = installed("isolate")
    if os.geteuid() != 0 and not Path(isolate).stat().st_mode & stat.S_ISUID:
        raise NotHereError("isolate: needs root")
    version = first_line("isolate", isolate, "--version")
    life = ["/bin/sh", "-c", _LIFE.replace("isolate ", f"{isolate} "), "isolate", "{client}"]
    hello = [*life, f"--dir=/hello={programs.hello.parent}", "--", f"/hello/{programs.hello.name}"]
    python = [*life, "--", *PYTHON]
    about = f"{version}: a shell with `isolate --init`, `--run`, `--cleanup`; no control groups"
    commands = {"compiled": hello, "python": [*python, "print(1)"], "asleep": [*python, SLEEP]}
    return [CommandPeer("isolate", about, programs.spawn, commands)]
