"""Limits, and how a program that reaches one ends."""

from tests.warm.script import s

MIB = 1 << 20
FAILED = "nonzero_exit"

SCRIPTS = [
    s("limit-memory", "x = []\nwhile True: x.append(bytearray(1 << 20))", status="memory_exceeded"),
    s(
        "limit-memory-small",
        "x = bytearray(60 << 20)",
        limits={"memory": 32 * MIB},
        status="memory_exceeded",
    ),
    s(
        "limit-memory-enough",
        "x = bytearray(b'x') * (20 << 20); print(len(x))",
        limits={"memory": 64 * MIB},
    ),
    s("limit-memory-below-python", "print('not run')", limits={"memory": 1 * MIB}, status="*"),
    s("limit-memory-least", "print('not run')", limits={"memory": 4096}, status="*"),
    s("limit-memory-caught", "try: bytearray(1 << 45)\nexcept MemoryError: print('caught')"),
    s("limit-cpu", "while True: pass", limits={"cpu_time": 0.3}, status="cpu_time_exceeded"),
    s(
        "limit-cpu-child",
        "import os\nos.fork()\nwhile True: pass",
        limits={"cpu_time": 0.3},
        status="cpu_time_exceeded",
    ),
    s(
        "limit-wall",
        "print('begins', flush=True)\nimport time; time.sleep(60)",
        limits={"wall_time": 0.5},
        status="wall_time_exceeded",
    ),
    s(
        "limit-wall-stdin",
        "import threading; threading.Event().wait()",
        limits={"wall_time": 0.4},
        status="wall_time_exceeded",
    ),
    s(
        "limit-output",
        "while True: print('x' * 99)",
        limits={"output": 10_000},
        status="output_exceeded",
    ),
    s("limit-output-exact", "print('x' * 9_999)", limits={"output": 10_000}),
    s(
        "limit-output-one-more",
        "print('x' * 10_000)",
        limits={"output": 10_000},
        status="output_exceeded",
    ),
    s(
        "limit-output-err",
        "import sys\nwhile True: sys.stderr.write('x' * 99)",
        limits={"output": 10_000},
        status="output_exceeded",
    ),
    s("limit-output-none", "pass", limits={"output": 0}),
    s("limit-pids-one", "print('alone')", limits={"pids": 1}),
    s(
        "limit-pids-thread",
        "import threading\nthreading.Thread(target=print).start()",
        limits={"pids": 1},
        status=FAILED,
    ),
    s("limit-pids-fork", "import os\nos.fork()", limits={"pids": 1}, status=FAILED),
    s(
        "limit-pids-count",
        """
import os, time
n = 0
try:
    while n < 50:
        if os.fork() == 0: time.sleep(60)
        n += 1
except OSError as e: print(n, e)
""",
        limits={"pids": 8},
    ),
    s(
        "limit-disk",
        "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
        status="*",
        limits={"memory": 512 * MIB},
    ),
    s(
        "limit-disk-small",
        "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 16))",
        status="*",
        limits={"disk": 2 * MIB},
        warm=False,
    ),
    s(
        "limit-disk-files",
        "print('not run')",
        files={"x": bytes(3 * MIB)},
        limits={"disk": 1 * MIB},
        status="*",
    ),
    s(
        "limit-open-files",
        "import os, resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))",
        limits={"open_files": 100},
        warm=False,
    ),
    s("limit-open-files-reached", "x = [open('/dev/null') for _ in range(400)]", status=FAILED),
    s("limit-open-files-few", "print('runs?')", limits={"open_files": 8}, status="*", warm=False),
    s(
        "limit-stack",
        "import resource; print(resource.getrlimit(resource.RLIMIT_STACK))",
        limits={"stack": 16 * MIB},
        warm=False,
    ),
    s("limit-core", "import os; os.abort()", status="*"),
    s("limit-file-size", "import os; os.truncate('main.py', 1 << 40)", status="*"),
    s(
        "limit-nothing-left",
        "import os\nfor n in (0, 1, 2): os.close(n)\nwhile True: pass",
        limits={"cpu_time": 0.2},
        status="cpu_time_exceeded",
    ),
    s(
        "limit-file-bomb",
        "n = 0\nwhile True:\n    open(f'f{n}', 'w'); n += 1",
        status="*",
        normal=((r"'f40[78]\d'", "'FILE'"),),
        why="the place that shows the hook takes three inodes",
    ),
    s(
        "limit-late-memory",
        "import atexit\natexit.register(lambda: bytearray(b'x') * (900 << 20))\nprint('end')",
        status="memory_exceeded",
    ),
]
