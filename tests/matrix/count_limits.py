"""Counted limits: processes and threads, open files, stack."""

from typing import Any

from tests.matrix.case import Case, c, python
from tests.matrix.expectation import MiB, exits, ok, over_cpu, signalled

PIDS = 16
BOMB: dict[str, Any] = {"pids": 32, "cpu_time": 0.5, "wall_time": 20}

FORKS = r"""
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    int alive = 1;
    for (;; alive++) {
        pid_t child = fork();
        if (child < 0) break;
        if (!child) for (;;) pause();
    }
    if (errno != EAGAIN) return 1;
    printf("%d\n", alive);
}
"""

THREADS = r"""
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *wait_for_ever(void *_) { for (;;) pause(); }
int main(void) {
    pthread_attr_t small;
    pthread_t t;
    int alive = 1, error;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (; !(error = pthread_create(&t, &small, wait_for_ever, 0)); alive++);
    if (error != EAGAIN) return 1;
    printf("%d\n", alive);
}
"""

FORKS_PYTHON = r"""
import errno, os, signal
alive = 1
try:
    while True:
        if os.fork() == 0:
            signal.pause()
        alive += 1
except OSError as error:
    assert error.errno == errno.EAGAIN
print(alive)
"""

THREADS_PYTHON = r"""
import os, threading
threading.stack_size(65536)
never = threading.Event()
alive = 1
try:
    while True:
        threading.Thread(target=never.wait, daemon=True).start()
        alive += 1
except RuntimeError:
    print(alive, flush=True)
os._exit(0)
"""

BOMB_C = "#include <unistd.h>\nint main(void) { for (;;) fork(); }\n"
BOMB_PYTHON = r"""
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""

ZOMBIES = r"""
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    int made = 0;
    for (;; made++) {
        pid_t child = fork();
        if (child < 0) break;
        if (!child) _exit(0);
    }
    if (errno != EAGAIN) return 1;
    printf("%d\n", made + 1);
}
"""

ORPHANS = r"""
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
static pid_t insist(void) {
    pid_t child;
    while ((child = fork()) < 0 && errno == EAGAIN) sched_yield();
    return child;
}
int main(void) {
    for (int i = 0; i < 100; i++) {
        if (!insist()) {
            insist();
            _exit(0);
        }
        wait(0);
    }
    puts("reaped");
}
"""

OPEN = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
int main(void) {
    int opened = 0, last = -1, file;
    for (; (file = open("/dev/null", O_RDONLY)) >= 0; opened++) last = file;
    printf("%d %d %d\n", opened, last, errno == EMFILE);
}
"""

OPEN_PYTHON = r"""
import errno, os
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    assert error.errno == errno.EMFILE
    os.close(opened.pop())
print(len(opened), max(opened))
"""

RAISE_LIMITS = r"""
#include <stdio.h>
#include <sys/resource.h>
int main(void) {
    int kinds[] = {RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_CORE};
    int raised = 0;
    for (int i = 0; i < 3; i++) {
        struct rlimit now;
        getrlimit(kinds[i], &now);
        now.rlim_max++;
        now.rlim_cur = now.rlim_max;
        raised += !setrlimit(kinds[i], &now);
    }
    printf("%d\n", raised);
}
"""

RECURSE = r"""
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) static int deeper(long left) {
    volatile char frame[1024];
    frame[left % 1024] = 1;
    return left ? deeper(left - 1) + frame[left % 1024] : 0;
}
int main(int n, char **a) { return deeper(atol(a[1])) < 0; }
"""

RECURSE_PYTHON = "def deeper():\n    deeper()\ndeeper()\n"

CASES = (
    Case(
        "pids-fork-c",
        "fork fails with EAGAIN at the limit, and the program may go on",
        c(FORKS, limits={"pids": PIDS}),
        ok(stdout_number=(PIDS - 2, PIDS)),
    ),
    Case(
        "pids-threads-c",
        "threads count as processes do",
        c(THREADS, limits={"pids": PIDS}),
        ok(stdout_number=(PIDS - 2, PIDS)),
    ),
    Case(
        "pids-fork-python",
        "os.fork fails with EAGAIN at the limit",
        python(FORKS_PYTHON, limits={"pids": PIDS}),
        ok(stdout_number=(PIDS - 2, PIDS)),
    ),
    Case(
        "pids-threads-python",
        "a thread above the limit is refused",
        python(THREADS_PYTHON, limits={"pids": PIDS}),
        ok(stdout_number=(PIDS - 2, PIDS)),
    ),
    Case(
        "pids-zombies-c",
        "children that nobody waited for still count",
        c(ZOMBIES, limits={"pids": PIDS}),
        ok(stdout_number=(PIDS - 2, PIDS)),
    ),
    Case(
        "pids-orphans-are-reaped",
        "orphans that have ended do not count",
        c(ORPHANS, limits={"pids": PIDS}),
        ok(stdout=b"reaped\n"),
    ),
    Case("fork-bomb-c", "a fork bomb ends at its CPU limit", c(BOMB_C, limits=BOMB), over_cpu(0.5)),
    Case(
        "fork-bomb-python",
        "a fork bomb in Python ends at its CPU limit",
        python(BOMB_PYTHON, limits=BOMB),
        over_cpu(0.5),
    ),
    Case(
        "open-files-c",
        "open fails with EMFILE at the limit, and nothing but stdio was open before",
        c(OPEN, limits={"open_files": 16}),
        ok(stdout=b"13 15 1\n"),
    ),
    Case(
        "open-files-python",
        "os.open fails with EMFILE at the limit",
        python(OPEN_PYTHON, limits={"open_files": 32}),
        ok(stdout=b"28 30\n"),
    ),
    Case(
        "limits-cannot-be-raised",
        "a program cannot raise its own resource limits",
        c(RAISE_LIMITS),
        ok(stdout=b"0\n"),
    ),
    Case(
        "stack-overflow-c",
        "a stack above its limit is SIGSEGV",
        c(RECURSE, args=["100000"], limits={"stack": MiB}),
        signalled("SIGSEGV"),
    ),
    Case(
        "stack-large-c",
        "a deep recursion works where its stack is allowed",
        c(RECURSE, args=["100000"], limits={"stack": 256 * MiB, "memory": 512 * MiB}),
        ok(peak_memory=(96 * MiB, 200 * MiB)),
    ),
    Case(
        "stack-recursion-python",
        "endless recursion in Python is its own error",
        python(RECURSE_PYTHON),
        exits(1, stderr_has=(b"RecursionError",)),
    ),
)
