"""stdin in every way in which a program may read it."""

from tests.warm.script import ADDRESS, s

LINES = "one\ntwo\r\nthree\rfour\n\nlast without an end"
BINARY = bytes(range(256)) * 3

SCRIPTS = [
    s("stdin-empty", "import sys; print(repr(sys.stdin.read()))"),
    s("stdin-read", "import sys; print(repr(sys.stdin.read()))", stdin=LINES),
    s("stdin-input", "print(repr(input()), repr(input('prompt> ')))", stdin=LINES),
    s("stdin-input-eof", "input(); input()", stdin="only\n", status="nonzero_exit"),
    s("stdin-lines", "import sys; print(list(sys.stdin))", stdin=LINES),
    s("stdin-readlines", "import sys; print(sys.stdin.readlines())", stdin=LINES),
    s("stdin-readline", "import sys; print([sys.stdin.readline() for _ in range(9)])", stdin=LINES),
    s(
        "stdin-partial",
        """
import sys
print(repr(sys.stdin.read(3)), repr(sys.stdin.readline(2)), repr(sys.stdin.read()))
""",
        stdin=LINES,
    ),
    s("stdin-bytes", "import sys; print(sys.stdin.buffer.read())", stdin=BINARY),
    s(
        "stdin-bytes-partial",
        """
import sys
b = sys.stdin.buffer
print(b.read(5), b.peek(2)[:2], b.read1(3), b.readinto(bytearray(10)), b.readline(), len(b.read()))
""",
        stdin=BINARY,
    ),
    s(
        "stdin-raw",
        "import sys; r = sys.stdin.buffer.raw; print(r.read(7), r.readall()[:5])",
        stdin=BINARY,
    ),
    s("stdin-os-read", "import os; print(os.read(0, 10), os.read(0, 10))", stdin=BINARY),
    s(
        "stdin-invalid-utf8",
        "import sys; print(ascii(sys.stdin.read()))",
        stdin=b"a\xff\xfe\xc3b\n",
    ),
    s(
        "stdin-unicode",
        "import sys; print(ascii(sys.stdin.read()))",
        stdin="é\U0001f600\u2028x\x00y",
    ),
    s("stdin-bom", "import sys; print(ascii(sys.stdin.read()))", stdin=b"\xef\xbb\xbfx"),
    s("stdin-nul", "import sys; print(repr(sys.stdin.read()))", stdin="a\0b\0"),
    s(
        "stdin-large",
        """
import sys, hashlib
t = sys.stdin.read(); print(len(t), hashlib.sha256(t.encode()).hexdigest())
""",
        stdin="0123456789abcde\n" * 40_000,
    ),
    s("stdin-unread", "print('not looked at')", stdin="x" * 300_000),
    s(
        "stdin-seek",
        "import sys; print(sys.stdin.seekable(), sys.stdin.buffer.seekable())",
        stdin=LINES,
    ),
    s("stdin-tell", "import sys; print(sys.stdin.tell())", stdin=LINES, status="*"),
    s(
        "stdin-rewind",
        "import sys; sys.stdin.read(); sys.stdin.seek(0); print(sys.stdin.read())",
        stdin=LINES,
        status="*",
    ),
    s("stdin-lseek", "import os; print(os.lseek(0, 0, 1))", stdin=LINES, status="*"),
    s("stdin-fileno", "import sys; print(sys.stdin.fileno(), sys.stdin.buffer.fileno())"),
    s(
        "stdin-isatty",
        "import sys; print(sys.stdin.isatty(), sys.stdin.closed, sys.stdin.readable())",
    ),
    s(
        "stdin-writable",
        "import sys; print(sys.stdin.writable()); sys.stdin.write('x')",
        status="nonzero_exit",
    ),
    s(
        "stdin-close",
        "import sys; sys.stdin.close(); print(sys.stdin.closed); input()",
        stdin="x",
        status="nonzero_exit",
    ),
    s("stdin-close-fd", "import sys, os; sys.stdin.close(); print(os.read(0, 3))", stdin="abc"),
    s(
        "stdin-fd-closed",
        "import os; os.close(0); print(os.open('/dev/null', 0)); input()",
        status="nonzero_exit",
    ),
    s("stdin-none", "import sys; sys.stdin = None; input()", status="nonzero_exit"),
    s(
        "stdin-detach",
        "import sys; b = sys.stdin.detach(); print(b.read()); sys.stdin.read()",
        stdin="abc",
        status="nonzero_exit",
    ),
    s(
        "stdin-reconfigure",
        """
import sys
sys.stdin.reconfigure(encoding="latin-1", newline="")
print(ascii(sys.stdin.read()))
""",
        stdin=b"\xe9\r\nx",
    ),
    s(
        "stdin-repr",
        """
import sys
i = sys.stdin
print(i, i.buffer, i.buffer.raw, i.encoding, i.errors, i.newlines, i.line_buffering)
print(i.mode, i.buffer.mode, i.name, i.buffer.name, i.write_through, sys.__stdin__ is i, vars(i))
print(vars(i.buffer.raw), i.buffer.raw.closefd, i._CHUNK_SIZE)
""",
        normal=(ADDRESS,),
        why="repr of some streams holds an address",
    ),
    s(
        "stdin-newlines",
        "import sys; sys.stdin.read(); print(repr(sys.stdin.newlines))",
        stdin=LINES,
    ),
    s("stdin-open-0", "print(open(0, 'rb').read())", stdin=BINARY[:20]),
    s("stdin-dev", "print(open('/dev/stdin', 'rb').read())", stdin="abc", status="*"),
    s("stdin-fileinput", "import fileinput; print([l for l in fileinput.input()])", stdin=LINES),
    s(
        "stdin-fileinput-args",
        "import fileinput; print([l for l in fileinput.input()])",
        args=("a.txt", "-"),
        stdin="from stdin\n",
        files={"a.txt": "from a\n"},
    ),
    s("stdin-select", "import select; print(select.select([0], [], [], 0)[0])", stdin="x"),
    s("stdin-stat", "import os, stat; print(stat.S_IFMT(os.fstat(0).st_mode))", stdin="x"),
    s(
        "stdin-flags",
        "import fcntl; print(fcntl.fcntl(0, fcntl.F_GETFL), fcntl.fcntl(0, fcntl.F_GETFD))",
        stdin="x",
    ),
    s(
        "stdin-empty-stat",
        "import os, stat; print(stat.S_IFMT(os.fstat(0).st_mode), os.fstat(0).st_size)",
    ),
    s("stdin-child", "import subprocess; print(subprocess.check_output(['cat']))", stdin=BINARY),
    s(
        "stdin-child-after",
        """
import subprocess, sys
print(repr(sys.stdin.readline()), flush=True)
print(subprocess.check_output(["cat"]))
""",
        stdin=LINES,
    ),
    s("stdin-code", "import code; code.interact(banner='')", stdin="print(6 * 7)\n1/0\n"),
    s("stdin-exec", "import sys; exec(sys.stdin.read())", stdin="print(__name__, 1)\n"),
    s("stdin-csv", "import csv, sys; print(list(csv.reader(sys.stdin)))", stdin='a,"b\nc"\n1,2\n'),
    s("stdin-json", "import json, sys; print(json.load(sys.stdin))", stdin='{"a": [1, null]}'),
]
