"""Modules beside main.py, and what looks a program's source up again."""

from tests.warm.script import ADDRESS, s

SCRIPTS = [
    s(
        "import-beside",
        "import a; print(a.x, a.__file__, a.__spec__, a.__cached__)",
        files={"a.py": "x = 1\n"},
        normal=(ADDRESS,),
        why="repr of a loader holds its address",
    ),
    s(
        "import-package",
        "import p.q.r; print(p.__path__, p.q.r.__package__, p.q.r.v)",
        files={
            "p/__init__.py": "",
            "p/q/__init__.py": "",
            "p/q/r.py": "from .. import q\nv = q.__name__\n",
        },
    ),
    s("import-namespace", "import n.m; print(n.__path__, n.__file__)", files={"n/m.py": ""}),
    s("import-shadow", "import random; print(random.mine)", files={"random.py": "mine = 1\n"}),
    s(
        "import-shadow-site",
        "import os, io; print(os.__file__, io.__file__)",
        files={
            "os.py": "1/0",
            "io.py": "1/0",
            "site.py": "1/0",
            "encodings.py": "1/0",
            "abc.py": "1/0",
        },
    ),
    s(
        "import-shadow-socket",
        "import _socket, socket; print(hasattr(_socket, 'mine'))",
        files={"_socket.py": "mine = 1\n"},
        status="*",
    ),
    s("import-main", "import main; print(main.__name__, __name__)"),
    s("import-self-name", "import sys; print('main' in sys.modules)"),
    s(
        "import-reload",
        "import importlib, a\nopen('a.py', 'w').write('x = 22')\nimportlib.reload(a); print(a.x)",
        files={"a.py": "x = 1\n"},
    ),
    s("import-written", "open('late.py', 'w').write('x = 5')\nimport late; print(late.x)"),
    s(
        "import-written-later",
        """
import importlib
try: import late
except ImportError: open("late.py", "w").write("x = 5"); importlib.invalidate_caches()
import late; print(late.x)
""",
    ),
    s(
        "import-bytecode",
        "import os, a; print(os.path.exists('__pycache__'), a.__cached__)",
        files={"a.py": ""},
    ),
    s(
        "import-zip",
        """
import sys, zipfile
with zipfile.ZipFile("z.zip", "w") as z: z.writestr("inner.py", "def f(): 1/0")
sys.path.insert(0, "z.zip")
import inner; print(inner.__file__, type(inner.__loader__)); inner.f()
""",
        status="nonzero_exit",
    ),
    s("import-path-env", "import a", files={"lib/a.py": ""}, status="nonzero_exit"),
    s("import-site-packages", "import pip; print(pip.__file__)", status="*"),
    s(
        "import-dist-packages",
        "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))",
    ),
    s(
        "import-resources",
        "import importlib.resources as r, p; print((r.files(p) / 't.txt').read_text())",
        files={"p/__init__.py": "", "p/t.txt": "text"},
    ),
    s(
        "import-util",
        "import importlib.util as u; print(u.find_spec('a'), u.find_spec('none'))",
        files={"a.py": ""},
        normal=(ADDRESS,),
        why="repr of a loader holds its address",
    ),
    s(
        "import-pkgutil",
        "import pkgutil; print([m.name for m in pkgutil.iter_modules(['/work'])])",
        files={"a.py": "", "p/__init__.py": ""},
    ),
    s(
        "import-runpy",
        "import runpy; print(sorted(runpy.run_path('main.py', run_name='x')))"
        " if __name__ != 'x' else print(__name__, __file__)",
    ),
    s(
        "import-runpy-module",
        "import runpy; runpy.run_module('a', run_name='__main__', alter_sys=True)",
        files={"a.py": "import sys; print(__name__, sys.argv, __spec__.name)\n"},
    ),
    s(
        "import-all",
        """
import sys
for name in "asyncio json decimal ssl sqlite3 unittest xml.dom ctypes lzma curses".split():
    __import__(name)
print(sorted(sys.modules))
""",
    ),
    s("import-frozen", "import __hello__; __hello__.main()"),
    s(
        "import-order",
        "import sys; before = set(sys.modules); import socket; print(sorted(set(sys.modules) - before))",
    ),
    s("import-lock", "import _imp; print(_imp.lock_held(), _imp.extension_suffixes())"),
    s(
        "import-main-package",
        "print(1)",
        files={"__main__.py": "print('no')", "__init__.py": "print('no')"},
    ),
    s(
        "pickle-main",
        """
import pickle
class A:
    def __init__(self): self.x = 1
data = pickle.dumps(A()); print(data, pickle.loads(data).x)
""",
    ),
    s(
        "pickle-main-function",
        "import pickle\ndef f(): pass\nprint(pickle.dumps(f), pickle.loads(pickle.dumps(f)) is f)",
    ),
    s(
        "inspect-source",
        "import inspect\ndef f():\n    return 1  # comment\nprint(inspect.getsource(f), "
        "inspect.getfile(f), inspect.getmodule(f))",
    ),
    s(
        "inspect-class",
        "import inspect\nclass A:\n    x = 1\nprint(inspect.getsource(A), inspect.getsourcelines(A))",
    ),
    s("inspect-main", "import inspect, __main__; print(inspect.getsource(__main__))"),
    s(
        "inspect-stack",
        "import inspect; print([(f.filename, f.lineno, f.function) for f in inspect.stack()])",
    ),
    s(
        "linecache",
        "import linecache; print(linecache.getlines('main.py'), linecache.cache.keys())",
    ),
    s("doctest", "'''\n>>> 1 + 1\n3\n'''\nimport doctest; print(doctest.testmod())", args=("-v",)),
    s(
        "unittest",
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 2)\n"
        "unittest.main()",
        status="nonzero_exit",
        normal=((r"in \d+\.\d+s", "in TIME"),),
        why="the time it took is printed",
    ),
    s(
        "unittest-named",
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): pass\nunittest.main()",
        args=("T.test_a", "-v"),
        normal=((r"in \d+\.\d+s", "in TIME"),),
        why="the time it took is printed",
    ),
    s(
        "dataclass",
        "from dataclasses import *\n@dataclass(order=True, slots=True)\nclass A:\n    x: int\n"
        "    y: str = 'é'\nprint(A(1), A(1) < A(2), fields(A), A.__module__)",
        normal=(ADDRESS,),
        why="a marker object is shown with its address",
    ),
    s(
        "typing",
        "from __future__ import annotations\nimport typing\ndef f(x: A): ...\nclass A: pass\n"
        "print(typing.get_type_hints(f))",
    ),
    s("enum", "import enum\nclass E(enum.Enum):\n    A = 1\nprint(E.A, repr(E), E.__module__)"),
    s(
        "namedtuple",
        "from collections import namedtuple\nP = namedtuple('P', 'x'); print(P.__module__, P(1))",
    ),
    s("ast", "import ast; print(ast.dump(ast.parse(open(__file__).read())))"),
    s("help", "def f():\n    'Text of f.'\nhelp(f)"),
    s(
        "asyncio",
        """
import asyncio
async def main():
    print(await asyncio.gather(*(asyncio.sleep(0.01, n) for n in range(3))))
    p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    print(await p.communicate(b"through cat"))
    loop = asyncio.get_running_loop()
    print(type(loop).__name__, await loop.run_in_executor(None, lambda: 7), loop.get_debug())
asyncio.run(main())
""",
    ),
    s(
        "asyncio-raises",
        "import asyncio\nasync def f(): 1/0\nasyncio.run(f())",
        status="nonzero_exit",
    ),
    s(
        "asyncio-interrupt",
        """
import asyncio, os, signal
async def main():
    asyncio.get_running_loop().call_later(0.02, os.kill, os.getpid(), signal.SIGINT)
    await asyncio.sleep(20)
asyncio.run(main())
""",
        status="*",
    ),
    s(
        "asyncio-never-retrieved",
        "import asyncio\nasync def f(): 1/0\nasync def m():\n"
        "    t = asyncio.create_task(f()); await asyncio.sleep(0)\nasyncio.run(m()); print('on')",
        normal=(ADDRESS,),
        why="futures are shown with their addresses",
    ),
    s(
        "sqlite",
        "import sqlite3; c = sqlite3.connect('d.db'); print(c.execute('select 1').fetchall())",
    ),
    s("numpy-if-any", "import numpy; print(numpy.arange(3).sum())", status="*"),
]
