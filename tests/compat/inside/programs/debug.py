"""Debuggers that trace from within: pdb at a breakpoint and after a crash, profilers, traces."""

import cProfile
import faulthandler
import pstats
import subprocess
import sys
import tempfile
import tracemalloc

TARGET = "def double(n):\n    m = n * 2\n    return m\n\nprint(double(20) + 1 / 1)\n"
CRASHING = "values = [1, 0]\nprint(sum(1 // v for v in values))\n"


def debugged(source: str, *commands: str) -> list[str]:
    """What pdb's `p` commands printed."""
    with open("target.py", "w") as target:
        target.write(source)
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(
        [sys.executable, "-m", "pdb", *words, "target.py"],
        input="q\nq\n",
        capture_output=True,
        text=True,
    )
    return [line for line in done.stdout.splitlines() if line.startswith("('seen'")]


print(debugged(TARGET, "b 3", "c", "p 'seen', n, m", "up", "p 'seen', __name__", "c"))
print(debugged(CRASHING, "c", "p 'seen', v, values", "q"))

profile = cProfile.Profile()
profile.runcall(sorted, range(1000), key=lambda n: -n)
print(pstats.Stats(profile).total_calls)
tracemalloc.start()
kept = [bytes(1000) for _ in range(100)]
print(tracemalloc.get_traced_memory()[0] > 100_000, len(kept))
with tempfile.TemporaryFile("w+") as trace:
    faulthandler.dump_traceback(trace)
    trace.seek(0)
    print("most recent call first" in trace.read())
seen = []
sys.settrace(lambda frame, event, _: seen.append((frame.f_code.co_name, event)))
debugged.__name__.upper()
(lambda: None)()
sys.settrace(None)
print(seen)
