"""What a program can see of its having been started warm: each a row of `docs/warm.md`.

A difference that is gone is as much a failure as a new one: the documents must say what is so.
"""

from tests.warm.script import Script, s

DIFFERENT: list[Script] = [
    s("proc-environ", "print(open('/proc/self/environ').read())"),
    s("proc-cmdline", "print(open('/proc/self/cmdline').read())", args=("one", "two")),
    s("proc-maps", "print('_zygote' in open('/proc/self/maps').read())"),
    s(
        "proc-exe",
        """
try:
    open("/proc/self/exe").close()
except PermissionError:
    print("refused")
else:
    print("opened")
""",
    ),
]
"""Pairs whose outputs differ."""

PRESTARTED: list[Script] = [
    *(script for script in DIFFERENT if script.id in ("proc-environ", "proc-cmdline")),
    s("opt-sandboxd", "import os; print(os.path.exists('/opt/sandboxd/python'))"),
    s("mountinfo", "print([l.split()[4] for l in open('/proc/self/mountinfo')])"),
]
"""The same for an interpreter that was started in its sandbox."""

START = s(
    "start-time",
    """
ticks = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
began = float(open("/proc/uptime").read().split()[0]) - ticks / 100
print("moments ago" if began < 1 else "long ago")
""",
)
"""Differs if the warm interpreter has waited for longer than a cold one takes to start."""
