"""Who a program is: its arguments, its module, the interpreter around it."""

from tests.warm.script import ADDRESS, s

SCRIPTS = [
    s("argv", "import sys; print(sys.argv, type(sys.argv))"),
    s("argv-words", "import sys; print(sys.argv)", args=("a", "", "b c", "--x=1", "-", "*")),
    s("argv-options", "import sys; print(sys.argv)", args=("-c", "-m", "-V", "--help", "-")),
    s("argv-unicode", "import sys; print(ascii(sys.argv))", args=("é", "\U0001f600", "\u202e")),
    s("argv-many", "import sys; print(len(sys.argv), sys.argv[-1])", args=("x" * 900,) * 200),
    s(
        "argparse",
        """
import argparse
p = argparse.ArgumentParser()
p.add_argument("--n", type=int)
p.parse_args()
""",
        args=("--n", "x"),
        status="nonzero_exit",
    ),
    s("orig-argv", "import sys; print(sys.orig_argv)", args=("one", "two")),
    s("name", "print(__name__, __file__, __spec__, __package__, __doc__)"),
    s("doc", '"""The text."""\nprint(__doc__)'),
    s("loader", "print(__loader__.__class__, __loader__.name, __loader__.path)"),
    s("cached", "print('__cached__' in globals(), __builtins__.__name__)"),
    s("globals", "print(sorted(globals()))"),
    s("annotations", "x: int = 1\nprint(__annotations__)"),
    s(
        "main-module",
        "import sys, __main__; print(sys.modules['__main__'] is __main__, dir(__main__))",
    ),
    s("path", "import sys; print(sys.path)"),
    s("path-type", "import sys; print(type(sys.path), len(set(sys.path)) == len(sys.path))"),
    s("flags", "import sys; print(sys.flags)"),
    s("xoptions", "import sys; print(sys._xoptions, sys.warnoptions)"),
    s("modules", "import sys; print(list(sys.modules))"),
    s(
        "modules-files",
        "import sys; print([getattr(m, '__file__', 0) for m in sys.modules.values()])",
    ),
    s(
        "modules-specs",
        "import sys; print([repr(m.__spec__) for m in sys.modules.values()])",
        normal=(ADDRESS,),
        why="repr of a loader holds its address",
    ),
    s("sys-names", "import sys; print(dir(sys))"),
    s(
        "sys-values",
        """
import sys
skip = {"modules", "stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__", "meta_path",
        "stdlib_module_names"}
for name in dir(sys):
    value = getattr(sys, name)
    if name not in skip and not callable(value):
        print(name, value)
""",
        normal=(ADDRESS,),
        why="importers are shown with their addresses",
    ),
    s("builtins", "import builtins; print(dir(builtins))"),
    s("os-names", "import os; print(dir(os), os.name)"),
    s("io-names", "import io, _io; print(dir(_io), io.open is open, _io.open is open)"),
    s(
        "importer-cache",
        "import sys; print([(k, type(v)) for k, v in sys.path_importer_cache.items()])",
    ),
    s(
        "finder-caches",
        """
import sys
for path, finder in sys.path_importer_cache.items():
    print(path, sorted(getattr(finder, "_path_cache", ())), getattr(finder, "_path_mtime", 0) == -1)
""",
    ),
    s(
        "meta-path",
        "import sys; print(sys.meta_path)",
        normal=(ADDRESS,),
        why="one importer of Debian's setuptools hook is shown with its address",
    ),
    s(
        "path-hooks",
        "import sys; print(sys.path_hooks)",
        normal=(ADDRESS,),
        why="functions' addresses",
    ),
    s(
        "executable",
        "import sys; print(sys.executable, sys._base_executable, sys.prefix, sys.version)",
    ),
    s(
        "sitecustomize",
        "import sys; sys.modules.pop('sitecustomize', 0); import sitecustomize; "
        "print(sitecustomize)",
        status="*",
    ),
    s(
        "sitecustomize-own",
        "import sitecustomize; print(sitecustomize.__file__)",
        status="*",
        files={"sitecustomize.py": "print('mine')"},
    ),
    s("usercustomize-own", "import usercustomize", files={"usercustomize.py": "print('mine')"}),
    s(
        "site",
        """
import site
print(site.ENABLE_USER_SITE, site.USER_BASE, site.USER_SITE, site.PREFIXES, site.getsitepackages())
""",
    ),
    s("site-main", "import site, sys; site.main(); print(sys.path)"),
    s(
        "user-site",
        "import sys; print(sys.path); import there",
        warm=False,
        files={
            ".local/lib/python3.11/site-packages/there.py": "print(__file__)",
        },
    ),
    s(
        "user-site-pth",
        "print('main')",
        warm=False,
        files={
            ".local/lib/python3.11/site-packages/x.pth": "import sys; print('pth', sys.argv)\n",
        },
    ),
    s(
        "user-site-usercustomize",
        "print('main')",
        warm=False,
        files={
            ".local/lib/python3.11/site-packages/usercustomize.py": "print('usercustomize')\n",
        },
    ),
    s("pyvenv", "import sys; print(sys.prefix)", files={"pyvenv.cfg": "home = /usr/bin\n"}),
    s(
        "frame",
        """
import sys
f, names = sys._getframe(), []
while f:
    names.append((f.f_code.co_name, f.f_code.co_filename)); f = f.f_back
print(names)
""",
    ),
    s("stack", "import traceback; traceback.print_stack()"),
    s(
        "code",
        "import sys; c = sys._getframe().f_code; print(c.co_filename, c.co_firstlineno, c.co_flags)",
    ),
    s(
        "intern",
        "import sys; print(sys.intern('main') is sys.intern('main'), sys.getrefcount(None) > 100)",
    ),
    s(
        "audit",
        """
import sys
sys.addaudithook(lambda name, args: print(name) if name in ("import", "open", "exec") else None)
import colorsys
""",
    ),
    s("trace", "import sys; print(sys.gettrace(), sys.getprofile(), sys.getswitchinterval())"),
    s(
        "hooks",
        "import sys; print(sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook)",
    ),
    s("recursion-limit", "import sys; print(sys.getrecursionlimit(), sys.getdlopenflags())"),
    s(
        "thread-info",
        "import sys; print(sys.thread_info, sys.hash_info, sys.int_info, sys.float_info)",
    ),
    s("sysconfig", "import sysconfig; print(sorted(sysconfig.get_paths().items()))"),
    s("last", "import sys; print(hasattr(sys, 'last_type'), sys.exc_info(), sys.exception())"),
]
