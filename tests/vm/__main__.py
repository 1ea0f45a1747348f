"""Run one command in the virtual machine: `python -m tests.vm [options] -- COMMAND [ARGUMENT...]`.

The exit code is the command's; 124 when its time was up, 125 when the lane itself failed. Without a
command the whole suite runs: see suite.py.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from tests.vm import suite
from tests.vm.fault import LaneFault, LaneTimeout
from tests.vm.machine import PROJECT, Command, Machine, run

TIMED_OUT, LANE_FAILED = 124, 125


def main() -> int:
    options = _parse()
    if not options.command:
        return suite.run(last_failed=options.last_failed)
    machine = Machine(memory=options.memory, cpus=options.cpus, timeout=options.timeout)
    env = dict(text.split("=", 1) for text in options.env)
    command = Command(options.command, options.cwd, env)
    try:
        return run(command, {"out": partial(_write, 1), "err": partial(_write, 2)}, machine)
    except LaneTimeout as error:
        print(f"vm: {error}", file=sys.stderr)
        return TIMED_OUT
    except LaneFault as error:
        print(f"vm: {error}", file=sys.stderr)
        return LANE_FAILED


def _write(fd: int, block: bytes) -> None:
    with open(fd, "wb", closefd=False) as stream:
        stream.write(block)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("--timeout", type=float, default=540.0, help="seconds for the whole boot")
    parser.add_argument("--memory", type=int, default=2048, help="MiB")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--cwd", type=Path, default=PROJECT)
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--last-failed", action="store_true", help="the suite: what failed before")
    parser.add_argument("command", nargs="*")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
