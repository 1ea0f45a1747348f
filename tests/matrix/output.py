"""stdout and stderr: the cap to the byte, and bytes that are not text."""

from tests.matrix.case import Case, bash, c, python
from tests.matrix.expectation import MiB, exits, ok, over_output

CAP = 4096

WRITE = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **a) {
    int fd = atoi(a[1]);
    long left = atol(a[2]);
    static char block[65536];
    memset(block, 'x', sizeof block);
    while (left > 0) {
        ssize_t done = write(fd, block, left < (long)sizeof block ? left : (long)sizeof block);
        if (done < 0) return 1;
        left -= done;
    }
    return 0;
}
"""

WRITE_PYTHON = r"""
import os, sys
fd, left = int(sys.argv[1]), int(sys.argv[2])
while left:
    left -= os.write(fd, b"x" * min(left, 65536))
"""

ENDLESS = r"""
#include <stdlib.h>
#include <unistd.h>
int main(int n, char **a) {
    static char block[4096];
    for (;;) write(atoi(a[1]), block, sizeof block);
}
"""

DRIP = r"""
#include <unistd.h>
int main(void) { for (;;) write(1, "x", 1); }
"""

NAMES = {1: "stdout", 2: "stderr"}


def _capped(fd: int, size: int, language: str) -> Case:
    name = NAMES[fd]
    args = [str(fd), str(size)]
    write = c(WRITE, args=args) if language == "c" else python(WRITE_PYTHON, args=args)
    request = write | {"limits": {"output": CAP}}
    if size <= CAP:
        return Case(
            f"output-{name}-{size}-{language}",
            f"{size} of {CAP} bytes on {name} are kept whole",
            request,
            ok(**{name: b"x" * size}),
        )
    return Case(
        f"output-{name}-{size}-{language}",
        f"one byte above the cap of {name} is one too many; the cap is kept",
        request,
        over_output(**{name: b"x" * CAP, f"{name}_truncated": True}),
    )


CASES = (
    *[
        _capped(fd, size, language)
        for language in ("c", "python")
        for fd in (1, 2)
        for size in (CAP - 1, CAP, CAP + 1)
    ],
    Case(
        "output-both-at-the-cap",
        "each of stdout and stderr has the whole cap",
        bash("printf '%4096s' ''\nprintf '%4096s' '' >&2\n", limits={"output": CAP}),
        ok(stdout=b" " * CAP, stderr=b" " * CAP),
    ),
    Case(
        "output-endless-stdout",
        "endless output ends at the cap",
        c(ENDLESS, args=["1"], limits={"output": CAP}),
        over_output(exit_code=None, stdout=bytes(CAP), stdout_truncated=True),
    ),
    Case(
        "output-endless-stderr",
        "endless output on stderr ends at the cap",
        c(ENDLESS, args=["2"], limits={"output": CAP}),
        over_output(exit_code=None, stderr=bytes(CAP), stderr_truncated=True),
    ),
    Case(
        "output-endless-drip",
        "endless output byte by byte ends at the cap",
        c(DRIP, limits={"output": CAP}),
        over_output(exit_code=None, stdout=b"x" * CAP, stdout_truncated=True),
    ),
    Case(
        "output-surplus-then-sleep",
        "the surplus byte ends the run, not the time limit",
        python(
            f"import sys, time\nsys.stdout.write('y' * {CAP + 1})\nsys.stdout.flush()\n"
            "time.sleep(60)\n",
            limits={"output": CAP, "wall_time": 30},
        ),
        over_output(
            exit_code=None,
            signal="SIGKILL",
            stdout=b"y" * CAP,
            stdout_truncated=True,
            wall_time=(0, 25),
        ),
    ),
    Case(
        "output-mebibyte",
        "the default cap holds one mebibyte to the byte",
        c(WRITE, args=["1", str(MiB)]),
        ok(stdout=b"x" * MiB),
    ),
    Case(
        "output-zero-silent",
        "a cap of zero allows silence",
        bash("exit 0\n", limits={"output": 0}),
        ok(stdout=b""),
    ),
    Case(
        "output-zero-loud",
        "a cap of zero allows no byte",
        c(WRITE, args=["1", "1"], limits={"output": 0}),
        over_output(stdout=b"", stdout_truncated=True),
    ),
    Case(
        "output-not-utf8",
        "bytes that are not UTF-8 come as base64",
        python("import os\nos.write(1, bytes(range(256)))\n"),
        ok(stdout=bytes(range(256)), encoding="base64"),
    ),
    Case(
        "output-not-utf8-stderr",
        "stderr that is not UTF-8 turns both streams into base64",
        bash("printf 'fine'\nprintf '\\377' >&2\nexit 5\n"),
        exits(5, stdout=b"fine", stderr=b"\xff", encoding="base64"),
    ),
    Case(
        "output-utf8",
        "UTF-8 with NUL and four-byte characters comes as text",
        python("import sys\nsys.stdout.buffer.write('\\0é😀'.encode())\n"),
        ok(stdout="\0é😀".encode(), encoding="utf-8"),
    ),
    Case(
        "output-utf8-split-at-the-cap",
        "a character that the cap cuts in two is left out, and the rest stays text",
        python("import os\nos.write(1, 'ééé'.encode())\n", limits={"output": 5}),
        over_output(stdout="éé".encode(), stdout_truncated=True, encoding="utf-8"),
    ),
    Case(
        "output-no-newline",
        "nothing is added to what was written",
        bash("printf 'no newline'\n"),
        ok(stdout=b"no newline", stderr=b""),
    ),
)
