"""Uncaught exceptions and warnings, and every byte of what is told of them."""

from tests.warm.script import ADDRESS, s

FAILED = "nonzero_exit"

SCRIPTS = [
    s("trace-zero", "1/0", status=FAILED),
    s("trace-deep", "def f(n):\n    if n: f(n - 1)\n    else: [][0]\nf(3)", status=FAILED),
    s("trace-repeated", "def f(n):\n    if n: f(n - 1)\n    else: [][0]\nf(30)", status=FAILED),
    s("trace-carets", "x = {'a': {'b': None}}\nprint(x['a']['b']['c']['d'])", status=FAILED),
    s("trace-multiline", "print(\n    1,\n    (lambda: 1 /\n     0)(),\n)", status=FAILED),
    s("trace-unicode", "é = 'ü' + 1  # \U0001f600", status=FAILED),
    s("trace-message-unicode", "raise ValueError('é \\udcff \\ud800')", status=FAILED),
    s(
        "trace-chained",
        """
try:
    {}["key"]
except KeyError as error:
    raise ValueError("while handling") from error
""",
        status=FAILED,
    ),
    s("trace-context", "try: 1/0\nexcept Exception: undefined", status=FAILED),
    s(
        "trace-from-none",
        "try: 1/0\nexcept Exception: raise OSError(2, 'x') from None",
        status=FAILED,
    ),
    s(
        "trace-group",
        """
def bad(n):
    try: raise ValueError(n)
    except ValueError as error: return error
raise ExceptionGroup("several", [bad(1), TypeError("t"), ExceptionGroup("inner", [bad(2)])])
""",
        status=FAILED,
    ),
    s(
        "trace-except-star",
        """
try:
    raise ExceptionGroup("g", [ValueError(1), TypeError(2)])
except* ValueError as group:
    print(group.exceptions)
""",
        status=FAILED,
    ),
    s("trace-notes", "e = ValueError('x'); e.add_note('note 1\\nline'); raise e", status=FAILED),
    s("trace-recursion", "def f(): f()\nf()", status=FAILED),
    s("trace-recursion-mutual", "def f(): g()\ndef g(): f()\nf()", status=FAILED),
    s("trace-recursion-repr", "x = []\nfor _ in range(5000): x = [x]\nrepr(x)", status=FAILED),
    s(
        "recursion-depth",
        """
import sys
depth = 0
def f():
    global depth
    depth += 1
    f()
try: f()
except RecursionError: print(depth)
""",
    ),
    s(
        "recursion-raised-limit",
        "import sys\nsys.setrecursionlimit(20000)\ndef f(n): return n and f(n-1)\nprint(f(15000))",
    ),
    s(
        "recursion-c-stack",
        """
import sys
sys.setrecursionlimit(10**6)
class A:
    def __getattr__(self, name): return getattr(self, name + "x")
A().x
""",
        status="*",
        limits={"cpu_time": 5},
    ),
    s("trace-syntax", "print('not reached')\nx = = 1\n", status=FAILED),
    s("trace-syntax-indent", "if True:\nprint(1)\n", status=FAILED),
    s("trace-syntax-tab", "if True:\n\tx = 1\n        y = 2\n", status=FAILED),
    s("trace-syntax-eof", "print((1,\n", status=FAILED),
    s("trace-syntax-string", "x = '''never closed\n", status=FAILED),
    s("trace-syntax-unicode", "x = “quoted”\n", status=FAILED),
    s("trace-syntax-return", "return 1", status=FAILED),
    s("trace-syntax-await", "def f(): await x", status=FAILED),
    s("trace-syntax-nonlocal", "def f():\n    nonlocal x", status=FAILED),
    s("trace-syntax-future", "from __future__ import braces", status=FAILED),
    s("trace-syntax-eval", "eval('1 +')", status=FAILED),
    s("trace-syntax-compile", "compile('x = (', 'other.py', 'exec')", status=FAILED),
    s("trace-syntax-import", "import bad", status=FAILED, files={"bad.py": "\n\nx = = 2\n"}),
    s(
        "trace-import-chain",
        "import a",
        status=FAILED,
        files={"a.py": "import b\n", "b.py": "def f():\n    raise ValueError('in b')\nf()\n"},
    ),
    s("trace-import-missing", "import no_such_module_at_all", status=FAILED),
    s("trace-from-missing", "from os import no_such_name", status=FAILED),
    s(
        "trace-circular",
        "import a",
        status=FAILED,
        files={"a.py": "from b import x\n", "b.py": "from a import y\n"},
    ),
    s("trace-suggestion", "import sys\nsys.versoin", status=FAILED),
    s("trace-name-suggestion", "value = 1\nprint(valeu)", status=FAILED),
    s("trace-name-module", "sys.exit()", status=FAILED),
    s("trace-assert", "assert 1 == 2, ('a', 1)", status=FAILED),
    s("trace-exec", "exec('def f():\\n  1/0\\nf()')", status=FAILED),
    s(
        "trace-class",
        "class E(Exception):\n    class Inner(Exception): pass\nraise E.Inner('x')",
        status=FAILED,
    ),
    s("trace-str-fails", "class E(Exception):\n    def __str__(self): 1/0\nraise E", status=FAILED),
    s("trace-decode", "b'\\xff'.decode()", status=FAILED),
    s("trace-os", "open('/no/such/file')", status=FAILED),
    s("trace-key", "{}['é\\n']", status=FAILED),
    s("trace-int-digits", "int('9' * 5000)", status=FAILED),
    s("trace-limit", "import sys\nsys.tracebacklimit = 1\ndef f(): 1/0\nf()", status=FAILED),
    s("trace-removed-file", "import os\nos.remove(__file__)\n1/0", status=FAILED),
    s("trace-changed-file", "open(__file__, 'w').write('# changed\\n' * 9)\n1/0", status=FAILED),
    s("trace-chdir", "import os\nos.chdir('/')\n1/0", status=FAILED),
    s(
        "excepthook",
        "import sys\nsys.excepthook = lambda *a: print('hook', a[:2])\n1/0",
        status=FAILED,
    ),
    s(
        "excepthook-fails",
        "import sys\ndef h(*a): raise TypeError('hook')\nsys.excepthook = h\n1/0",
        status=FAILED,
    ),
    s("excepthook-none", "import sys\ndel sys.excepthook\n1/0", status=FAILED),
    s("excepthook-exit", "import sys\nsys.excepthook = lambda *a: sys.exit(9)\n1/0", status="*"),
    s(
        "unraisablehook",
        """
import sys
sys.unraisablehook = lambda u: print("hook", u.exc_type, u.err_msg)
class F:
    def __del__(self): 1/0
f = F(); del f
""",
    ),
    s(
        "traceback-module",
        """
import traceback
try: 1/0
except ZeroDivisionError:
    traceback.print_exc()
    print(traceback.format_exc(), traceback.extract_stack())
""",
    ),
    s(
        "traceback-locals",
        """
import traceback
try: 1/0
except Exception as e: print("".join(traceback.TracebackException.from_exception(
    e, capture_locals=False).format()))
""",
    ),
    s("warn", "import warnings\nwarnings.warn('text')\nwarnings.warn('again')"),
    s("warn-deprecated", "import warnings\nwarnings.warn('old', DeprecationWarning)"),
    s(
        "warn-module-deprecated",
        "import a\na.f()",
        files={"a.py": "import warnings\ndef f(): warnings.warn('old', DeprecationWarning)\n"},
    ),
    s("warn-escape", "print('\\d')"),
    s("warn-literal-is", "print(1 is 1)"),
    s("warn-filters", "import warnings; print(warnings.filters)"),
    s(
        "warn-error",
        "import warnings\nwarnings.simplefilter('error')\nwarnings.warn('x')",
        status=FAILED,
    ),
    s("warn-resource", "open('/dev/null')\nprint('quiet')"),
    s("warn-coroutine", "async def f(): pass\nf()\nprint('on')"),
    s("warn-registry", "import warnings\nwarnings.warn('x')\nprint(list(__warningregistry__))"),
    s("log-exception", "import logging\ntry: 1/0\nexcept Exception: logging.exception('failed')"),
    s(
        "faulthandler",
        "import faulthandler; print(faulthandler.is_enabled()); faulthandler.dump_traceback()",
        normal=((r"0x[0-9a-f]+", "0xTHREAD"),),
        why="the thread's identifier is an address",
    ),
    s(
        "faulthandler-segfault",
        "import faulthandler as f; f.enable(); f._sigsegv()",
        status="*",
        normal=((r"0x[0-9a-f]+", "0xTHREAD"),),
        why="the thread's identifier is an address",
    ),
    s("repr-function", "def f(): pass\nprint(f, f.__code__)", normal=(ADDRESS,), why="addresses"),
]
