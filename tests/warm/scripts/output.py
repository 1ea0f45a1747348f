"""stdout and stderr: encodings, buffers, order, and their ends."""

from tests.warm.script import ADDRESS, s

SHOW = """
import sys
for o in (sys.stdout, sys.stderr):
    print(o, o.buffer, o.encoding, o.errors, o.newlines, o.line_buffering, o.write_through, vars(o))
    print(o.mode, o.buffer.mode, o.name, o.buffer.name, o.buffer.raw, vars(o.buffer.raw), o.fileno())
    print(o.isatty(), o.closed, o.readable(), o.writable(), o.seekable(), o.buffer.raw.closefd)
print(sys.__stdout__ is sys.stdout, sys.__stderr__ is sys.stderr)
"""

SCRIPTS = [
    s("out-print", "print('hello', 1, None, sep='-', end='!')"),
    s("out-nothing", "pass"),
    s("out-streams", SHOW, normal=(ADDRESS,), why="repr of some streams holds an address"),
    s("out-unicode", "print('é \U0001f600 \\u2028 \\x00')"),
    s("out-surrogate", "print('\\udcff')", status="*"),
    s("out-lone-surrogate", "print('\\ud800')", status="*"),
    s("err-surrogate", "import sys; print('\\udcff \\ud800', file=sys.stderr)"),
    s("out-bytes", "import sys; sys.stdout.buffer.write(bytes(range(256)))"),
    s(
        "out-bytes-order",
        """
import sys
print("text"); sys.stdout.buffer.write(b"bytes\\n"); print("text again")
sys.stdout.flush(); sys.stdout.buffer.write(b"bytes again\\n")
""",
    ),
    s("out-raw-order", "import os; print('buffered'); os.write(1, b'raw first\\n'); print('last')"),
    s(
        "out-err-order",
        """
import os, sys
os.dup2(1, 2)
print("out 1"); print("err 1", file=sys.stderr); print("out 2", flush=True); sys.stderr.write("err 2")
os.write(1, b"raw"); sys.stderr.write("\\n")
""",
    ),
    s("out-err-partial-line", "import os, sys; sys.stderr.write('no end'); os.write(2, b'|raw|')"),
    s("out-writelines", "import sys; sys.stdout.writelines(['a', 'b\\n', ''])"),
    s("out-crlf", "print('a\\r\\nb\\rc')"),
    s(
        "out-buffer-size",
        """
import os, sys
for n in (8190, 1, 1, 1):
    sys.stdout.write("x" * n); os.write(2, b"%d\\n" % n)
os.write(1, b"|raw|")
""",
    ),
    s("out-large", "print('0123456789' * 60000)"),
    s("out-many-lines", "for i in range(20000): print(i)"),
    s("out-close", "import sys; print('kept'); sys.stdout.close()"),
    s("out-close-print", "import sys; sys.stdout.close(); print('lost')", status="nonzero_exit"),
    s("out-fd-closed", "import os; print('lost'); os.close(1)", status="*"),
    s("err-fd-closed", "import os; os.close(2); 1/0", status="*"),
    s("all-fds-closed", "import os; os.closerange(0, 10); os._exit(3)", status="nonzero_exit"),
    s("out-none", "import sys; sys.stdout = None; print('nowhere')"),
    s("err-none", "import sys; sys.stderr = None; 1/0", status="nonzero_exit"),
    s("out-detached", "import sys; b = sys.stdout.detach(); b.write(b'x'); print('y')", status="*"),
    s(
        "out-reconfigure",
        """
import sys
sys.stdout.reconfigure(encoding="utf-16-le", errors="replace", newline="\\r\\n")
print("aé")
""",
    ),
    s(
        "out-line-buffered",
        """
import os, sys
sys.stdout.reconfigure(line_buffering=True)
print("line"); os.write(1, b"raw\\n"); print("part", end=""); os.write(1, b"raw\\n")
""",
    ),
    s(
        "out-write-through",
        """
import os, sys
sys.stdout.reconfigure(write_through=True)
print("part", end=""); os.write(1, b"raw\\n")
""",
    ),
    s(
        "out-ascii-error",
        "import sys; sys.stdout.reconfigure(encoding='ascii'); print('é')",
        status="nonzero_exit",
    ),
    s(
        "out-redirect",
        """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as text:
    print("inside")
print(repr(text.getvalue()))
""",
    ),
    s("out-replaced", "import io, sys; sys.stdout = io.StringIO(); print('lost')"),
    s(
        "out-broken-flush",
        """
import sys
class Broken:
    def write(self, text): pass
    def flush(self): raise ValueError("no flush")
sys.stdout = Broken()
""",
        status="*",
        normal=(ADDRESS,),
        why="the message shows the object with its address",
    ),
    s(
        "out-fork-twice",
        """
import os, sys
print("before")
if os.fork() == 0:
    sys.exit(0)
os.wait(); print("after")
""",
    ),
    s("out-displayhook", "import sys; sys.displayhook('é'); sys.displayhook(None); print(_)"),
    s("out-stat", "import os, stat; print([stat.S_IFMT(os.fstat(n).st_mode) for n in (1, 2)])"),
    s("out-flags", "import fcntl; print([fcntl.fcntl(n, c) for n in (1, 2) for c in (1, 3)])"),
    s("out-blksize", "import os; print([os.fstat(n).st_blksize for n in (0, 1, 2)])"),
    s("out-seek", "import sys; print(sys.stdout.tell())", status="*"),
    s("out-logging", "import logging; logging.warning('w'); logging.error('e %s', 1)"),
    s("out-child", "import os, subprocess; print('a'); subprocess.run(['echo', 'b']); print('c')"),
    s("out-ctypes", "import ctypes; ctypes.CDLL(None).puts(b'from C'); print('from Python')"),
    s("out-open-1", "open(1, 'w', closefd=False).write('x'); print('y')"),
    s("out-del", "import sys; del sys.stdout; print('lost')", status="nonzero_exit"),
    s(
        "err-del",
        "import sys; del sys.stderr; 1/0",
        status="nonzero_exit",
        normal=(ADDRESS,),
        why="the lost exception is dumped with its address",
    ),
    s("out-print-file-none", "print('x', file=None)"),
    s("out-pprint", "import pprint; pprint.pprint({i: 'x' * i for i in range(12)})"),
]
