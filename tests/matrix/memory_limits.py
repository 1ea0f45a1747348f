"""Memory: every way to hold pages counts, address space does not."""

from typing import Any

from tests.matrix.case import UNSAID, Case, c, python
from tests.matrix.expectation import MiB, ok, over_memory

LIMIT = 64 * MiB
LIMITS: dict[str, Any] = {"memory": LIMIT, "disk": 512 * MiB, "cpu_time": 10, "wall_time": 30}

TOUCH = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void touch(long mib) {
    for (; mib; mib--) memset(malloc(1 << 20), 1, 1 << 20);
}
"""

GREEDY = TOUCH + "int main(void) { touch(256); return 0; }\n"
FITTING = TOUCH + "int main(void) { touch(32); return 0; }\n"

GREEDY_CHILD = (
    TOUCH
    + r"""
int main(void) {
    if (!fork()) { touch(256); _exit(0); }
    for (;;) pause();
}
"""
)

GREEDY_FAMILY = (
    TOUCH
    + r"""
int main(void) {
    for (int i = 0; i < 8; i++)
        if (!fork()) { touch(16); for (;;) pause(); }
    for (;;) pause();
}
"""
)

CARELESS_PARENT = (
    "#include <sys/wait.h>\n"
    + TOUCH
    + r"""
int main(void) {
    if (!fork()) { touch(256); _exit(0); }
    wait(0);
    return 0;
}
"""
)

REUSED = r"""
#include <stdlib.h>
#include <string.h>
int main(void) {
    for (int i = 0; i < 64; i++) {
        char *volatile block = malloc(16 << 20);
        memset(block, i, 16 << 20);
        free(block);
    }
}
"""

SHARED = r"""
#include <string.h>
#include <sys/mman.h>
int main(void) {
    char *map = mmap(0, 256 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(map, 1, 256 << 20);
    return map[4096] == 0;
}
"""

UNTOUCHED = r"""
#include <sys/mman.h>
int main(void) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    return mmap(0, 1L << 30, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED;
}
"""

FILE = r"""
#include <fcntl.h>
#include <unistd.h>
int main(int n, char **a) {
    static char block[1 << 20];
    int file = open(a[1], O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < 256; i++)
        if (write(file, block, sizeof block) != sizeof block) return 1;
    for (;;) pause();
}
"""

FITTING_FILE = r"""
with open("/tmp/block", "wb") as file:
    for _ in range(40):
        file.write(bytes(1 << 20))
print("written")
"""

GREEDY_PYTHON = "block = bytearray(b'x') * (256 << 20)\n"
GREEDY_LIST_PYTHON = "blocks = []\nwhile True:\n    blocks.append('x' * 100_000)\n"
GREEDY_FORK_PYTHON = r"""
import os, signal
if os.fork() == 0:
    block = bytearray(b"x") * (256 << 20)
signal.pause()
"""
FITTING_PYTHON = "block = bytearray(b'x') * (32 << 20)\nprint(len(block))\n"


def _greedy(id: str, promise: str, request: dict[str, Any]) -> Case:
    return Case(id, promise, request | {"limits": LIMITS}, over_memory(LIMIT))


CASES = (
    _greedy("memory-malloc-c", "touched memory above the limit is stopped", c(GREEDY)),
    _greedy("memory-child-c", "a child's memory counts and ends its parent", c(GREEDY_CHILD)),
    _greedy("memory-family-c", "eight small processes count together", c(GREEDY_FAMILY)),
    _greedy("memory-shared-c", "shared mappings count", c(SHARED)),
    _greedy("memory-tmp-c", "files in /tmp are memory", c(FILE, args=["/tmp/block"])),
    _greedy("memory-shm-c", "files in /dev/shm are memory", c(FILE, args=["/dev/shm/block"])),
    _greedy("memory-work-c", "files in /work are memory", c(FILE, args=["block"])),
    _greedy("memory-bytearray-python", "one large object is stopped", python(GREEDY_PYTHON)),
    _greedy("memory-list-python", "many small objects are stopped", python(GREEDY_LIST_PYTHON)),
    _greedy("memory-fork-python", "a fork's memory counts", python(GREEDY_FORK_PYTHON)),
    Case(
        "memory-verdict-survives-the-parent",
        "a parent that goes on and ends well does not hide its child's excess",
        c(CARELESS_PARENT, limits=LIMITS),
        over_memory(LIMIT, signal=UNSAID),
    ),
    Case(
        "memory-peak-c",
        "peak_memory tells what a program that fits has used",
        c(FITTING, limits=LIMITS),
        ok(peak_memory=(32 * MiB, 48 * MiB)),
    ),
    Case(
        "memory-peak-python",
        "peak_memory tells what an interpreter that fits has used",
        python(FITTING_PYTHON, limits=LIMITS),
        ok(stdout=b"33554432\n", peak_memory=(32 * MiB, 64 * MiB)),
    ),
    Case(
        "memory-reused-c",
        "memory given back may be used again",
        c(REUSED, limits=LIMITS),
        ok(peak_memory=(16 * MiB, 40 * MiB)),
    ),
    Case(
        "memory-untouched-c",
        "address space that is never touched is not memory",
        c(UNTOUCHED, limits=LIMITS),
        ok(peak_memory=(0, 16 * MiB)),
    ),
    Case(
        "memory-file-fits-python",
        "a file that fits beside the program is in peak_memory and no offence",
        python(FITTING_FILE, limits=LIMITS),
        ok(stdout=b"written\n", peak_memory=(40 * MiB, 64 * MiB)),
    ),
)
