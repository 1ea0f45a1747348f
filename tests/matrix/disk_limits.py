"""The scratch file system: its size, its inodes, and what being full means for the verdict."""

import signal
from typing import Any

from tests.matrix.case import Case, Expect, c, python
from tests.matrix.exits import RAISE
from tests.matrix.expectation import MiB, exits, ok

DISK = 8 * MiB
LIMITS: dict[str, Any] = {"disk": DISK, "memory": 128 * MiB}
INODES: dict[str, Any] = {"disk": DISK, "memory": 512 * MiB, "cpu_time": 20, "wall_time": 60}

FILL = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static char page[4096];
static long fill(const char *name) {
    int file = open(name, O_CREAT | O_WRONLY, 0600);
    long written = 0;
    for (ssize_t n; (n = write(file, page, sizeof page)) > 0;) written += n;
    return errno == ENOSPC ? written : -1;
}
"""

FILL_END = (
    FILL
    + r"""
int main(int n, char **a) {
    printf("%ld\n", fill(a[1]));
    if (!strcmp(a[2], "unlink")) unlink(a[1]);
    return atoi(a[3]);
}
"""
)

FILL_ONE_FEEL_OTHER = (
    FILL
    + r"""
int main(int n, char **a) {
    fill(a[1]);
    printf("%d\n", fill(a[2]) <= 0);
}
"""
)

FILL_ABORT = FILL + 'int main(void) { fill("block"); abort(); }\n'

FILL_PYTHON = r"""
import sys
with open("/tmp/block", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(65536))
    except OSError as error:
        print(error.strerror)
        sys.exit(int(sys.argv[1]))
"""

INODES_C = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int n, char **a) {
    char name[32];
    for (int i = 0; i < 4000000; i++) {
        sprintf(name, "/tmp/%d", i);
        int file = open(name, O_CREAT | O_WRONLY, 0600);
        if (file < 0) {
            puts(errno == ENOSPC ? "ENOSPC" : "other");
            return atoi(a[1]);
        }
        close(file);
    }
}
"""

FILE_SIZE = r"""
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>
int main(void) {
    struct rlimit small = {4096, 4096};
    static char block[8192];
    setrlimit(RLIMIT_FSIZE, &small);
    int file = open("block", O_CREAT | O_WRONLY, 0600);
    write(file, block, sizeof block);
    write(file, block, sizeof block);
    return 0;
}
"""

SPARSE = r"""
#include <fcntl.h>
#include <unistd.h>
int main(void) {
    int file = open("block", O_CREAT | O_WRONLY, 0600);
    return ftruncate(file, 1L << 40) != 0;
}
"""

FILL_EMPTY_WORK = "head -c 32M /dev/zero > file 2>/dev/null; echo $?"

BYTES_FIT = (DISK * 0.75, DISK)
"""What a program can write: directories and its own files take their share of the limit."""


def full(exit_code: int | None, signal_name: str | None = None, **more: Any) -> Expect:
    return Expect(status="disk_exceeded", exit_code=exit_code, signal=signal_name, **more)


CASES = (
    Case(
        "disk-full-seen-c",
        "a program that meets ENOSPC and copes is ok, full disk or not",
        c(FILL_END, args=["block", "keep", "0"], limits=LIMITS),
        ok(stdout_number=BYTES_FIT),
    ),
    Case(
        "disk-full-fails-c",
        "a program that fails with its disk full has exceeded it",
        c(FILL_END, args=["block", "keep", "1"], limits=LIMITS),
        full(1, stdout_number=BYTES_FIT),
    ),
    Case(
        "disk-full-tmp-c",
        "/tmp is bounded by the same limit",
        c(FILL_END, args=["/tmp/block", "keep", "9"], limits=LIMITS),
        full(9, stdout_number=BYTES_FIT),
    ),
    Case(
        "disk-full-shm-c",
        "/dev/shm is bounded by the same limit",
        c(FILL_END, args=["/dev/shm/block", "keep", "9"], limits=LIMITS),
        full(9, stdout_number=BYTES_FIT),
    ),
    Case(
        "disk-freed-fails-c",
        "a program that made room again and fails has failed by itself",
        c(FILL_END, args=["block", "unlink", "1"], limits=LIMITS),
        exits(1, stdout_number=BYTES_FIT),
    ),
    Case(
        "disk-shared-budget-shm",
        "what /tmp holds, /dev/shm cannot",
        c(FILL_ONE_FEEL_OTHER, args=["/tmp/a", "/dev/shm/b"], limits=LIMITS),
        ok(stdout=b"1\n"),
    ),
    Case(
        "disk-shared-budget-tmp",
        "what /work holds, /tmp cannot",
        c(FILL_ONE_FEEL_OTHER, args=["a", "/tmp/b"], limits=LIMITS),
        ok(stdout=b"1\n"),
    ),
    Case(
        "disk-full-aborts-c",
        "a program that crashes with its disk full has exceeded it",
        c(FILL_ABORT, limits=LIMITS),
        full(None, "SIGABRT"),
    ),
    Case(
        "disk-full-seen-python",
        "a Python program that meets ENOSPC and copes is ok",
        python(FILL_PYTHON, args=["0"], limits=LIMITS),
        ok(stdout=b"No space left on device\n"),
    ),
    Case(
        "disk-full-fails-python",
        "a Python program that fails with its disk full has exceeded it",
        python(FILL_PYTHON, args=["4"], limits=LIMITS),
        full(4, stdout=b"No space left on device\n"),
    ),
    Case(
        "disk-inodes-seen",
        "the number of files is bounded too",
        c(INODES_C, args=["0"], limits=INODES),
        ok(stdout=b"ENOSPC\n"),
    ),
    Case(
        "disk-inodes-fail",
        "a program that fails with no inode left has exceeded its disk",
        c(INODES_C, args=["1"], limits=INODES),
        full(1, stdout=b"ENOSPC\n"),
    ),
    Case(
        "disk-file-size-limit",
        "SIGXFSZ, the end of a file that grew too large, is disk_exceeded",
        c(FILE_SIZE),
        full(None, "SIGXFSZ"),
    ),
    Case(
        "disk-sparse",
        "a sparse file longer than the disk ends as a full disk does",
        c(SPARSE, limits=LIMITS),
        full(None, "SIGXFSZ"),
    ),
    Case(
        "disk-full-empty-work",
        "ENOSPC comes before SIGXFSZ even if one file has the whole disk",
        {
            "template": "default",
            "command": ["sh", "-c", FILL_EMPTY_WORK],
            "limits": LIMITS,
        },
        ok(stdout=b"1\n"),
    ),
    Case(
        "raise-sigxfsz",
        "SIGXFSZ by its own hand is disk_exceeded as well",
        c(RAISE, args=[str(int(signal.SIGXFSZ))]),
        full(None, "SIGXFSZ"),
    ),
)
