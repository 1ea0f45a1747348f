"""How a program ends, and what it still does then."""

from tests.warm.script import ADDRESS, Script, s

FAILED = "nonzero_exit"


def _exit(id: str, value: str, status: str = FAILED) -> Script:
    source = f"import sys\nprint('before')\nsys.exit({value})\n"
    return s(
        f"exit-{id}",
        source,
        status=status,
        normal=(ADDRESS,) if id == "object" else (),
        why="the object is printed with its address" if id == "object" else "",
    )


SCRIPTS = [
    _exit("nothing", "", "ok"),
    _exit("none", "None", "ok"),
    _exit("zero", "0", "ok"),
    _exit("one", "1"),
    _exit("255", "255"),
    _exit("256", "256", "ok"),
    _exit("257", "257"),
    _exit("negative", "-1"),
    _exit("huge", "2**40 + 7"),
    _exit("beyond-long", "2**70"),
    _exit("beyond-long-negative", "-2**70"),
    _exit("true", "True"),
    _exit("false", "False", "ok"),
    _exit("string", "'message é'"),
    _exit("empty-string", "''"),
    _exit("bytes", "b'raw'"),
    _exit("float", "1.5"),
    _exit("tuple", "(1, 2)"),
    _exit("object", "object()"),
    _exit("dict", "{'a': 1}"),
    s("exit-builtin", "exit(4)", status=FAILED),
    s("exit-quit-closes-stdin", "import sys\ntry: quit(0)\nfinally: print(sys.stdin.closed)"),
    s("exit-raise", "raise SystemExit(3)", status=FAILED),
    s("exit-raise-two", "raise SystemExit(3, 4)", status=FAILED),
    s("exit-raise-nested", "raise SystemExit(SystemExit(5))", status=FAILED),
    s("exit-subclass", "class E(SystemExit): pass\nraise E(6)", status=FAILED),
    s("exit-code-property", "e = SystemExit(); e.code = 9; raise e", status=FAILED),
    s(
        "exit-str-fails",
        """
class Bad:
    def __str__(self): raise ValueError("no text")
raise SystemExit(Bad())
""",
        status=FAILED,
    ),
    s("exit-finally", "import sys\ntry: sys.exit(2)\nfinally: print('finally')", status=FAILED),
    s("exit-caught", "import sys\ntry: sys.exit(2)\nexcept SystemExit as e: print(e.code)"),
    s("exit-in-function", "import sys\ndef f(): sys.exit(7)\nf()", status=FAILED),
    s("exit-os", "import os; print('lost'); os._exit(5)", status=FAILED),
    s("exit-os-flushed", "import os; print('kept', flush=True); os._exit(0)"),
    s("exit-abort", "import os; print('lost'); os.abort()", status="*"),
    s("exit-segfault", "import ctypes; ctypes.string_at(0)", status="*"),
    s("exit-c", "import ctypes; print('lost'); ctypes.CDLL(None).exit(6)", status=FAILED),
    s("exit-interrupt", "raise KeyboardInterrupt", status="*"),
    s(
        "exit-interrupt-kill",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('?')",
        status="*",
    ),
    s("exit-interrupt-subclass", "class K(KeyboardInterrupt): pass\nraise K('text')", status="*"),
    s(
        "exit-interrupt-atexit",
        """
import atexit
atexit.register(print, "atexit")
raise KeyboardInterrupt
""",
        status="*",
    ),
    s("exit-sigterm", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)", status="*"),
    s("exit-sigkill", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", status="*"),
    s(
        "exit-sigpipe",
        """
import os
r, w = os.pipe(); os.close(r); os.write(w, b"x")
""",
        status=FAILED,
    ),
    s("exit-base", "raise BaseException('base')", status=FAILED),
    s("exit-generator", "raise GeneratorExit", status=FAILED),
    s("atexit-order", "import atexit\nfor i in range(3): atexit.register(print, i)\nprint('end')"),
    s(
        "atexit-raise",
        """
import atexit
def bad(): raise ValueError("in atexit")
atexit.register(print, "runs still"); atexit.register(bad)
""",
        normal=(ADDRESS,),
        why="the function is shown with its address",
    ),
    s(
        "atexit-exit",
        "import atexit, sys\natexit.register(sys.exit, 8)\natexit.register(print, 'first')",
        status="*",
    ),
    s("atexit-os-exit", "import atexit, os\natexit.register(os._exit, 8)", status=FAILED),
    s("atexit-after-error", "import atexit\natexit.register(print, 'atexit')\n1/0", status=FAILED),
    s("atexit-unregister", "import atexit\natexit.register(print, 1); atexit.unregister(print)"),
    s(
        "atexit-nested",
        """
import atexit
atexit.register(lambda: atexit.register(print, "registered late"))
""",
    ),
    s(
        "atexit-thread",
        """
import atexit, threading
def late():
    threading.Thread(target=print, args=("thread in atexit",)).start()
atexit.register(late)
""",
        status="*",
    ),
    s("atexit-count", "import atexit; print(atexit._ncallbacks())"),
    s(
        "finaliser",
        """
import sys
class F:
    def __del__(self): print("gone", sys is None, __name__)
f = F()
""",
    ),
    s(
        "finaliser-order",
        """
class F:
    def __init__(self, n): self.n = n
    def __del__(self): print("gone", self.n)
a, b, _c = F("a"), F("b"), F("_c")
""",
    ),
    s(
        "finaliser-cycle",
        """
class F:
    def __del__(self): print("gone")
f = F(); f.me = f
""",
    ),
    s(
        "finaliser-raises",
        "class F:\n    def __del__(self): 1/0\nf = F(); del f; print('on')",
        normal=(ADDRESS,),
        why="the function is shown with its address",
    ),
    s(
        "finaliser-late-raises",
        "class F:\n    def __del__(self): 1/0\nf = F()",
        normal=(ADDRESS,),
        why="the function is shown with its address",
    ),
    s(
        "weakref-finalize",
        "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 'finalised')",
    ),
    s(
        "generator-close",
        "def g():\n    try: yield\n    finally: print('closed')\nx = g(); next(x)",
    ),
    s("module-teardown", "import sys\nsys.modules.clear()\nprint('still')", status="*"),
]
