"""What a program can see of its interpreter being taken down: a copy of a zygote leaves that out where
nobody can."""

import io
import zipfile

from tests.warm.script import ADDRESS, Script, s


def _archive(source: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("__main__.py", source)
    return data.getvalue()


SCRIPTS: list[Script] = [
    s(
        "end-del",
        """
class A:
    def __del__(self): print('del')
a = A()
""",
    ),
    s(
        "end-del-cycle",
        """
class A:
    def __del__(self): print('del')
a = A(); a.a = a; del a
""",
    ),
    s(
        "end-del-slots",
        """
class A:
    __slots__ = ()
    def __del__(self): print('del')
a = A()
""",
    ),
    s(
        "end-del-late",
        """
class A: pass
a = A()
A.__del__ = lambda self: print('del')
""",
    ),
    s(
        "end-del-imports",
        """
class A:
    def __del__(self):
        import json; print(json)
a = A()
""",
        normal=(ADDRESS,),
        why="an address",
    ),
    s(
        "end-del-raises",
        """
class A:
    def __del__(self): 1 / 0
a = A()
""",
        normal=(ADDRESS,),
        why="an address",
    ),
    s(
        "end-del-in-function",
        """
def f():
    class A:
        def __del__(self): print('del')
    return A()
x = [f()]
""",
    ),
    s(
        "end-del-in-list",
        """
class A:
    def __del__(self): print('del')
x = [{'k': (A(),)}]
""",
    ),
    s(
        "end-del-exit-code",
        """
import sys
class A:
    def __del__(self): print('del')
a = A()
sys.exit(3)
""",
        status="nonzero_exit",
    ),
    s(
        "end-generator",
        """
def g():
    try:
        yield 1
    finally:
        print('closed')
x = g(); next(x)
""",
    ),
    s(
        "end-coroutine",
        """
async def f(): pass
x = f()
""",
    ),
    s(
        "end-asyncgen",
        """
async def f():
    yield 1
x = f()
print(type(x).__name__)
""",
    ),
    s(
        "end-file-unflushed",
        """
import atexit
f = open('x', 'w'); f.write('kept')
atexit.register(lambda: print(open('x').read()))
""",
    ),
    s(
        "end-file-read-by-child",
        """
import os
r, w = os.pipe()
if os.fork() == 0:
    os.close(r); f = os.fdopen(w, 'w'); f.write('late')
else:
    os.close(w); print(os.fdopen(r).read()); os.wait()
""",
    ),
    s(
        "end-weakref",
        """
import weakref
class A: pass
a = A(); r = weakref.ref(a, lambda _: print('gone'))
""",
    ),
    s(
        "end-weakref-finalize",
        """
import weakref
class A: pass
a = A(); weakref.finalize(a, print, 'finalized')
""",
    ),
    s(
        "end-weak-dictionary",
        """
import weakref
class A: pass
a = A(); d = weakref.WeakValueDictionary(a=a); print(len(d))
""",
    ),
    s(
        "end-atexit-raises",
        """
import atexit
atexit.register(lambda: 1 / 0)
atexit.register(print, 'first')
""",
        normal=(ADDRESS,),
        why="an address",
    ),
    s(
        "end-atexit-exits",
        """
import atexit, sys
atexit.register(sys.exit, 7)
""",
    ),
    s(
        "end-atexit-module-gone",
        """
import atexit, sys
atexit.register(print, 'called')
del sys.modules['atexit']
""",
    ),
    s(
        "end-atexit-clear",
        """
import atexit
atexit.register(print, 'never')
atexit._clear()
""",
    ),
    s(
        "end-stdout-kept-aside",
        """
import sys
class W:
    def __init__(self, f): self.f = f
    def write(self, t): self.f.write(t.upper())
    def flush(self): pass
sys.stdout = W(sys.stdout)
print('loud')
""",
    ),
    s(
        "end-stdout-buffer",
        """
import sys
sys.stdout.buffer.write(b'bytes')
""",
    ),
    s(
        "end-stdout-detached",
        """
import io, sys
sys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-16')
print('wide', end='')
""",
    ),
    s(
        "end-stdout-closed",
        """
import sys
print('before'); sys.stdout.close()
""",
    ),
    s(
        "end-stdout-none",
        """
import sys
print('x'); sys.stdout = None; sys.stderr = None
""",
    ),
    s(
        "end-stdout-deleted",
        """
import sys
print('x'); del sys.stdout
""",
    ),
    s(
        "end-stdout-string",
        """
import io, sys
sys.stdout = io.StringIO(); print('lost')
""",
    ),
    s(
        "end-stdout-copied",
        """
import os, sys
f = os.fdopen(os.dup(1), 'w'); f.write('second\\n'); print('first')
""",
    ),
    s(
        "end-stdout-full",
        """
import os, sys
f = os.open('/dev/full', os.O_WRONLY); os.dup2(f, 1); print('x')
""",
        status="nonzero_exit",
    ),
    s(
        "end-stderr-full",
        """
import os, sys
f = os.open('/dev/full', os.O_WRONLY); sys.stderr.write('x'); os.dup2(f, 2)
""",
        status="nonzero_exit",
    ),
    s(
        "end-stdout-flush-raises",
        """
import sys
class W:
    def write(self, t): pass
    def flush(self): raise ValueError('no')
sys.stdout = W()
""",
        status="*",
        normal=(ADDRESS,),
        why="an address",
    ),
    s(
        "end-stdout-unencodable",
        """
import sys
sys.stdout.reconfigure(errors='strict'); print('\\udc80', end='')
""",
        status="nonzero_exit",
    ),
    s(
        "end-c-stdio",
        """
import ctypes
ctypes.CDLL(None).puts(b'from C'); print('from Python')
""",
    ),
    s(
        "end-c-atexit",
        """
import ctypes
libc = ctypes.CDLL(None)
F = ctypes.CFUNCTYPE(None)
f = F(lambda: None)
ctypes.pythonapi.Py_AtExit(f)
print('registered')
""",
        status="*",
    ),
    s(
        "end-gc-callback",
        """
import gc
gc.callbacks.append(lambda phase, info: print(phase))
""",
    ),
    s(
        "end-gc-debug",
        """
import gc
gc.set_debug(gc.DEBUG_UNCOLLECTABLE | gc.DEBUG_COLLECTABLE)
class A: pass
a = A(); a.a = a; del a
""",
        normal=(ADDRESS, ("gc: .*\\n", "")),
        why="what start left to collect",
    ),
    s(
        "end-gc-counts",
        """
import gc
print(gc.get_freeze_count(), gc.isenabled(), gc.get_threshold(), gc.get_debug())
""",
    ),
    s(
        "end-thread",
        """
import threading, time
threading.Thread(target=lambda: (time.sleep(0.1), print('after'))).start()
print('main')
""",
    ),
    s(
        "end-thread-daemon",
        """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print('main')
""",
    ),
    s(
        "end-thread-raw",
        """
import _thread, time
_thread.start_new_thread(time.sleep, (60,)); time.sleep(0.05); print('main')
""",
    ),
    s(
        "end-thread-atexit",
        """
import atexit, threading
atexit.register(lambda: print(threading.active_count()))
""",
    ),
    s(
        "end-executor",
        """
from concurrent.futures import ThreadPoolExecutor as T
p = T(2); print(p.submit(pow, 2, 5).result())
""",
    ),
    s(
        "end-logging",
        """
import logging, logging.handlers
h = logging.handlers.MemoryHandler(9, target=logging.StreamHandler())
logging.getLogger().addHandler(h); logging.warning('kept until the end')
""",
    ),
    s(
        "end-temporary",
        """
import tempfile, os, atexit
d = tempfile.TemporaryDirectory()
atexit.register(lambda: print(os.path.exists(d.name)))
""",
    ),
    s(
        "end-archive",
        """
import zipfile
z = zipfile.ZipFile('x.zip', 'w'); z.writestr('a', 'b'); print(z.namelist())
""",
    ),
    s(
        "end-pool",
        """
import multiprocessing as m
if __name__ == '__main__':
    with m.Pool(2) as p: print(p.map(abs, [-1, -2]))
""",
    ),
    s(
        "end-fork-child",
        """
import os
pid = os.fork()
print('child' if pid == 0 else os.waitpid(pid, 0)[1])
""",
    ),
    s(
        "end-fork-child-exits",
        """
import os, sys
pid = os.fork()
if pid == 0: sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    ),
    s(
        "end-hook-exits",
        """
import sys
sys.excepthook = lambda *a: sys.exit(9)
1 / 0
""",
        status="nonzero_exit",
    ),
    s(
        "end-hook-raises",
        """
import sys
def hook(*a): raise ValueError('hook')
sys.excepthook = hook
1 / 0
""",
        status="nonzero_exit",
    ),
    s(
        "end-exit-object",
        """
import sys
class A:
    def __str__(self): return 'text of it'
sys.exit(A())
""",
        status="nonzero_exit",
    ),
    s(
        "end-exit-str-raises",
        """
import sys
class A:
    def __str__(self): raise ValueError
sys.exit(A())
""",
        status="nonzero_exit",
    ),
    s(
        "end-exit-tuple",
        """
import sys
sys.exit((1, 2))
""",
        status="nonzero_exit",
    ),
    s(
        "end-exit-bool",
        """
import sys
sys.exit(True)
""",
        status="nonzero_exit",
    ),
    s(
        "end-exit-huge",
        """
import sys
sys.exit(1 << 40)
""",
        status="*",
    ),
    s(
        "end-exit-code-property",
        """
class E(SystemExit):
    @property
    def code(self): return 4
raise E
""",
        status="nonzero_exit",
    ),
    s(
        "end-exit-no-code",
        """
class E(SystemExit):
    def __getattribute__(self, n):
        if n == 'code': raise AttributeError
        return super().__getattribute__(n)
raise E('x')
""",
        status="*",
    ),
    s(
        "end-exit-without-stderr",
        """
import sys
sys.stderr = None
sys.exit('to C')
""",
        status="nonzero_exit",
    ),
    s("end-interrupt", "raise KeyboardInterrupt", status="*"),
    s(
        "end-interrupt-subclass",
        """
class K(KeyboardInterrupt): pass
raise K
""",
        status="*",
    ),
    s(
        "end-interrupt-with-exit-function",
        """
import atexit
atexit.register(print, 'ended')
raise KeyboardInterrupt
""",
        status="*",
    ),
    s(
        "end-name-file",
        """
import atexit
atexit.register(lambda: print('__file__' in globals(), globals().get('__cached__', 0)))
""",
    ),
    s(
        "end-name-file-raised",
        """
import atexit
atexit.register(lambda: print('__file__' in globals()))
1 / 0
""",
        status="nonzero_exit",
    ),
    s(
        "end-name-file-exits",
        """
import atexit, sys
atexit.register(lambda: print('__file__' in globals()))
sys.exit()
""",
    ),
    s(
        "end-modules-cleared",
        """
import sys
sys.modules.clear()
""",
    ),
    s(
        "end-recursion",
        """
def f(n):
    try: return f(n + 1)
    except RecursionError: return n
print(f(0))
""",
    ),
    s(
        "end-frames",
        """
import sys
print(sys._getframe().f_back, sys._getframe().f_code.co_filename, __loader__.__class__, __spec__)
""",
    ),
    s(
        "end-hooks",
        """
import sys
print(len(sys.path_hooks), [k for k in sys.path_importer_cache if 'main' in k], sys.path[0])
""",
    ),
    s(
        "end-missing",
        """
import os
os.remove('main.py'); print(os.listdir())
""",
    ),
    s(
        "end-package",
        None,
        files={"main.py": _archive("import sys; print(sys.path[0], __name__, __file__)")},
    ),
    s(
        "end-package-exits",
        None,
        files={"main.py": _archive("raise SystemExit(6)")},
        status="nonzero_exit",
    ),
    s(
        "end-audit",
        """
import sys
sys.addaudithook(lambda e, a: e.startswith(('cpython', 'sys.')) and print(e))
""",
    ),
    s(
        "end-profile",
        """
import sys
sys.setprofile(lambda f, e, a: e == 'call' and print(f.f_code.co_name))
def g(): pass
g()
""",
    ),
    s(
        "end-trace",
        """
import sys
sys.settrace(lambda f, e, a: print(e))
def g(): pass
g()
""",
    ),
    s(
        "end-unraisable",
        """
import sys
sys.unraisablehook = lambda u: print('unraisable', u.exc_type)
class A:
    def __del__(self): 1 / 0
a = A()
""",
    ),
    s(
        "end-contextmanager",
        """
import contextlib
@contextlib.contextmanager
def c():
    try: yield
    finally: print('left')
x = c(); x.__enter__()
""",
    ),
    s(
        "end-socket",
        """
import socket
a, b = socket.socketpair(); print(a.family)
""",
    ),
    s(
        "end-resource-warning",
        """
import warnings
warnings.simplefilter('always')
f = open('/dev/null')
""",
    ),
    s(
        "end-sqlite",
        """
import sqlite3
c = sqlite3.connect('x.db'); c.execute('create table t(a)')
c.execute('insert into t values(1)'); print('open')
""",
    ),
    s(
        "end-subprocess",
        """
import subprocess
p = subprocess.Popen(['sleep', '0.05']); print(p.returncode)
""",
    ),
    s(
        "end-big-heap",
        """
x = [{i: str(i)} for i in range(200000)]
print(len(x))
""",
    ),
]
