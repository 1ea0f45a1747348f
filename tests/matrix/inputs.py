"""What a program is given: stdin, arguments, environment, files; and argv instead of a language."""

import base64
import hashlib
import json
from typing import Any

from tests.matrix.case import Case, bash, c, python
from tests.matrix.expectation import exits, ok

ECHO = r"""
#include <unistd.h>
int main(void) {
    static char block[65536];
    for (ssize_t n; (n = read(0, block, sizeof block)) > 0;)
        for (ssize_t done = 0; done < n;) done += write(1, block + done, n - done);
}
"""

DIGEST = r"""
import hashlib, sys
data = sys.stdin.buffer.read()
print(len(data), hashlib.sha256(data).hexdigest())
"""

FIRST_LINE = "print(input())\n"
ARGUMENTS = "import json, sys\nprint(json.dumps(sys.argv[1:]))\n"
ENVIRONMENT = r"""
import json, os, sys
print(json.dumps({name: os.environ.get(name) for name in sys.argv[1:]}))
"""
SECRETS = r"""
import os
words = ("SANDBOXD", "REDIS", "KEY", "TOKEN", "SECRET", "PASSWORD")
print([name for name in os.environ if any(word in name.upper() for word in words)])
"""
TREE = r"""
import hashlib, pathlib, sys
for name in sys.argv[1:]:
    print(name, hashlib.sha256(pathlib.Path(name).read_bytes()).hexdigest())
"""
OWN_PLACE = r"""
import os, stat
print(os.getcwd(), sorted(os.listdir("/tmp")), os.access(".", os.W_OK))
print(os.getuid() != 0, os.getgid() != 0, os.umask(0) in (0o22, 0o77))
"""

WORDS = ["", "two words", "'quoted' \"twice\"", "--flag", "$HOME `id` ; | &", "é😀", "a\nb", "*"]
GIVEN = {"GREETING": "é", "EMPTY": ""}
BINARY = bytes(range(256)) * 64
LARGE = "0123456789abcdef" * 65_536


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _base64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


FILES: dict[str, bytes] = {
    "data.txt": b"text\n",
    "deep/er/and/deeper.bin": BINARY,
    "données/ü😀.txt": "naïve\n".encode(),
    "empty": b"",
    "with space/-dash": b"x",
}


def _files() -> dict[str, Any]:
    return {
        name: {"text": data.decode()} if data != BINARY else _base64(data)
        for name, data in FILES.items()
    }


def _command(*argv: str, **request: Any) -> dict[str, Any]:
    return {"template": "default", "command": list(argv), **request}


CASES = (
    Case("stdin-empty-c", "no stdin is an empty stdin", c(ECHO), ok(stdout=b"")),
    Case(
        "stdin-no-newline-c",
        "stdin arrives as it was sent",
        c(ECHO, stdin="no newline"),
        ok(stdout=b"no newline"),
    ),
    Case(
        "stdin-mebibyte-c",
        "a mebibyte goes in and comes out",
        c(ECHO, stdin=LARGE),
        ok(stdout=LARGE.encode()),
    ),
    Case(
        "stdin-mebibyte-python",
        "a mebibyte of stdin arrives whole",
        python(DIGEST, stdin=LARGE),
        ok(stdout=f"{len(LARGE)} {_sha(LARGE.encode())}\n".encode()),
    ),
    Case(
        "stdin-binary-c",
        "binary stdin goes in and comes out",
        c(ECHO, stdin=_base64(BINARY)),
        ok(stdout=BINARY, encoding="base64"),
    ),
    Case(
        "stdin-unread",
        "a mebibyte that nobody reads is no offence",
        bash("echo indifferent\n", stdin=LARGE),
        ok(stdout=b"indifferent\n"),
    ),
    Case(
        "stdin-line-python",
        "input() reads a line",
        python(FIRST_LINE, stdin="hi\nrest\n"),
        ok(stdout=b"hi\n"),
    ),
    Case(
        "stdin-eof-python",
        "input() at the end is EOFError",
        python(FIRST_LINE),
        exits(1, stderr_has=(b"EOFError",)),
    ),
    Case(
        "arguments",
        "arguments arrive one by one, no shell between",
        python(ARGUMENTS, args=WORDS),
        ok(stdout=(json.dumps(WORDS) + "\n").encode()),
    ),
    Case(
        "environment",
        "variables that were given arrive, others do not",
        python(
            ENVIRONMENT, args=["GREETING", "EMPTY", "ABSENT"], env={"GREETING": "é", "EMPTY": ""}
        ),
        ok(stdout=(json.dumps({"GREETING": "é", "EMPTY": "", "ABSENT": None}) + "\n").encode()),
    ),
    Case("environment-has-no-secret", "none of ours is in it", python(SECRETS), ok(stdout=b"[]\n")),
    Case(
        "files-in",
        "files arrive byte for byte, in their directories",
        python(TREE, args=list(FILES), files=_files()),
        ok(stdout="".join(f"{name} {_sha(data)}\n" for name, data in FILES.items()).encode()),
    ),
    Case(
        "files-header-c",
        "a compiler sees the files",
        c(
            '#include "lib/answer.h"\nint main(void) { return ANSWER; }\n',
            files={"lib/answer.h": {"text": "#define ANSWER 42\n"}},
        ),
        exits(42),
    ),
    Case(
        "place",
        "a program starts in a writable /work, with an empty /tmp, and not as root",
        python(OWN_PLACE),
        ok(stdout=b"/work [] True\nTrue True True\n"),
    ),
    Case(
        "template-command",
        "argv runs as it is",
        _command("sh", "-c", 'echo "$1" $((6 * 7))', "sh", args=["a b"]),
        ok(stdout=b"a b 42\n"),
    ),
    Case(
        "template-command-files",
        "argv sees the files",
        _command("cat", "data.txt", files={"data.txt": {"text": "content"}}),
        ok(stdout=b"content"),
    ),
    Case(
        "template-command-missing",
        "argv that names no program is exit code 127",
        _command("no-such-program"),
        exits(127),
    ),
    Case(
        "template-command-not-executable",
        "argv that names something that is no program is exit code 126",
        _command("/etc/passwd"),
        exits(126),
    ),
)
