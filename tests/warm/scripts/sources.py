"""The text of main.py in every form, and the files that come with it."""

from tests.warm.script import s

FAILED = "nonzero_exit"


def _file(id: str, content: bytes, **more: object):  # type: ignore[no-untyped-def]
    return s(f"source-{id}", files={"main.py": content}, **more)


SCRIPTS = [
    _file("empty", b""),
    _file("newline", b"\n"),
    _file("blanks", b"   \n\t\n# only a comment"),
    _file("no-end", b"print('no newline')"),
    _file("crlf", b"print('a')\r\nx = '''1\r\n2'''\r\nprint(repr(x))\r\n1/0\r\n", status=FAILED),
    _file("cr", b"print('a')\rprint('b')\r"),
    _file("bom", b"\xef\xbb\xbfprint('with a mark', __file__)\n"),
    _file("bom-error", b"\xef\xbb\xbfx = \xc3\xa9\n", status=FAILED),
    _file("latin-1", b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n"),
    _file("latin-1-error", b"# coding: latin-1\nraise ValueError('\xe9')\n", status=FAILED),
    _file(
        "cp1251",
        b"#!/usr/bin/python3\n# vim: set fileencoding=cp1251 :\nprint(ascii('\xcf\xf0'))\n",
    ),
    _file("utf-16", "print(1)\n".encode("utf-16"), status=FAILED),
    _file("invalid", b"print('\xff')\n", status=FAILED),
    _file("invalid-comment", b"# \xff\nprint(1)\n", status=FAILED),
    _file("unknown-coding", b"# coding: no-such-coding\n", status=FAILED),
    _file("bom-conflict", b"\xef\xbb\xbf# coding: latin-1\n", status=FAILED),
    _file("nul", b"print(1)\n\0print(2)\n", status="*"),
    _file("nul-in-string", b"x = 'a\0b'\n", status="*"),
    _file("form-feed", b"\x0cprint('ff')\n\x0c\n"),
    _file("shebang", b"#!/bin/false\nprint('python')\n"),
    _file("backslash-end", b"x = 1 + \\", status=FAILED),
    _file("ctrl-z", b"print(1)\n\x1a\n", status=FAILED),
    _file("binary", bytes(range(256)), status=FAILED),
    _file("pyc-magic", b"\xa7\r\r\n" + bytes(12), status="*"),
    _file("zip", b"PK\x03\x04" + bytes(26), status="*"),
    s(
        "source-large",
        "x = [\n" + "    'some text in a list of strings',\n" * 28_000 + "]\nprint(len(x))\n",
    ),
    s("source-large-error", "#\n" * 520_000 + "1/0\n", status=FAILED),
    s("source-long-line", "x = '" + "y" * 200_000 + "'\nprint(len(x)); 1/0\n", status=FAILED),
    s("source-near-inline", "#" * 130_700 + "\nprint(open(__file__).read().count('#'))\n"),
    s("source-past-inline", "#" * 131_072 + "\nprint(open(__file__).read().count('#'))\n"),
    s("source-deep", "x = " + "(" * 150 + "1" + ")" * 150 + "\nprint(x)\n"),
    s("source-too-deep", "x = " + "(" * 5000 + ")" * 5000 + "\n", status=FAILED),
    s("source-many-statements", "x = 0\n" + "x += 1\n" * 20_000 + "print(x)\n"),
    s("source-future", "from __future__ import annotations, generator_stop\nprint(annotations)\n"),
    s("source-unicode-names", "ﬁ = 1; print(fi, \U0001d518\U0001d52b := 2, Un)\n"),
    s("source-main-guard", "def main(): print('guarded')\nif __name__ == '__main__': main()\n"),
    s("source-self-read", "print(open(__file__, 'rb').read())\n# é\n"),
    s("source-self-remove", "import os; os.remove('main.py'); print(os.listdir())\n"),
    s("source-async-top", "await x\n", status=FAILED),
    s(
        "source-input-loop",
        "while True:\n    try: print(int(input()) ** 2)\n    except EOFError: break\n",
        stdin="1\n2\n-3",
    ),
    s(
        "files-500",
        """
import os, sys
print(len(os.listdir("d")), sum(__import__(f"d.m{n}", fromlist=["v"]).v for n in range(0, 499, 50)))
""",
        files={f"d/m{n}.py": f"v = {n}\n" for n in range(500)},
    ),
    s(
        "files-large",
        "import os; print([os.path.getsize(f'f{n}') for n in range(4)], "
        "open('f3', 'rb').read()[-3:])",
        files={f"f{n}": bytes([n]) * (900_000 + n) for n in range(4)},
    ),
    s("files-binary", "print(open('b', 'rb').read())", files={"b": bytes(range(256))}),
    s("files-empty", "import os; print(os.stat('e').st_size)", files={"e": b""}),
    s(
        "files-names",
        "import os; print(ascii(sorted(os.listdir())))",
        files={
            "é": "",
            " ": "",
            "a\nb": "",
            "-x": "",
            "\U0001f600.txt": "",
            "...": "",
            ".hidden": "",
        },
    ),
    s(
        "files-long-name",
        "import os; print(len(max(os.listdir(), key=len)))",
        files={"n" * 255: "x"},
    ),
    s("files-deep", "import os; print(len(list(os.walk('.'))))", files={"/".join("d" * 200): "x"}),
    s("files-too-long-name", "print('not run')", files={"n" * 256: "x"}, status="*"),
    s("files-directory-is-file", "print('not run')", files={"a": "x", "a/b": "y"}, status="*"),
    s("files-file-is-directory", "print('not run')", files={"a/b": "y", "a": "x"}, status="*"),
    s("files-main-twice", "print('not run')", files={"main.py": "print('file')"}, status="*"),
    s(
        "files-main-directory",
        files={"main.py/__main__.py": "print(__name__, __file__, __spec__)"},
        status="*",
    ),
    s("files-proc-name", "print(open('proc/self').read())", files={"proc/self": "mine"}),
]
