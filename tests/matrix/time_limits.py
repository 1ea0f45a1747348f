"""CPU time and wall time: whose time counts, and what cannot dodge it."""

from typing import Any

from tests.matrix.case import Case, c, python
from tests.matrix.expectation import ok, over_cpu, over_wall

CPU = 0.5
CPU_LIMITS: dict[str, Any] = {"cpu_time": CPU, "wall_time": 20}
WALL = 0.6
WALL_LIMITS: dict[str, Any] = {"cpu_time": 5, "wall_time": WALL}

SPIN = "int main(void) { for (volatile long i = 0;; i++); }\n"

SPIN_PROCESSES = r"""
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 4; i++)
        if (!fork()) for (volatile long n = 0;; n++);
    while (wait(0) > 0);
}
"""

SPIN_THREADS = r"""
#include <pthread.h>
static void *spin(void *_) { for (volatile long n = 0;; n++); }
int main(void) {
    pthread_t t;
    for (int i = 0; i < 4; i++) pthread_create(&t, 0, spin, 0);
    pthread_join(t, 0);
}
"""

SPIN_CHILD = r"""
#include <unistd.h>
int main(void) {
    if (!fork()) for (volatile long n = 0;; n++);
    for (;;) pause();
}
"""

SPIN_GENERATIONS = r"""
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        if (!fork()) {
            while (clock() < CLOCKS_PER_SEC / 50);
            _exit(0);
        }
        wait(0);
    }
}
"""

SPIN_ORPHANS = r"""
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        int ends[2];
        char end;
        pipe(ends);
        if (!fork()) {
            if (fork()) _exit(0);
            while (clock() < CLOCKS_PER_SEC / 50);
            _exit(0);
        }
        close(ends[1]);
        wait(0);
        read(ends[0], &end, 1);
        close(ends[0]);
    }
}
"""

SPIN_KERNEL = r"""
#include <fcntl.h>
#include <unistd.h>
int main(void) {
    static char buffer[1 << 16];
    int zero = open("/dev/zero", O_RDONLY);
    while (read(zero, buffer, sizeof buffer) > 0);
}
"""

SPIN_DEAF = r"""
#include <signal.h>
int main(void) {
    for (int i = 1; i < 65; i++) signal(i, SIG_IGN);
    for (volatile long n = 0;; n++);
}
"""

SPIN_PYTHON = "while True:\n    pass\n"

SPIN_FORKS_PYTHON = r"""
import os
for _ in range(3):
    if os.fork() == 0:
        while True:
            pass
os.wait()
"""

# From its first instruction on: the process was ours before it became the program, and its clock knows.
BURN = r"""
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static void burn(void) {
    clock_t begin = clock();
    while (clock() - begin < CLOCKS_PER_SEC / 10);
}
int main(int n, char **a) {
    for (int i = 0; i < atoi(a[1]); i++)
        if (!fork()) {
            burn();
            _exit(0);
        }
    while (wait(0) > 0);
    burn();
}
"""

SLEEP = "#include <unistd.h>\nint main(void) { sleep(60); }\n"
NAP_PYTHON = "import time\ntime.sleep(0.2)\nprint('slept')\n"
SLEEP_PYTHON = "import time\nprint('here', flush=True)\ntime.sleep(60)\n"
DEADLOCK_PYTHON = "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n"

STOP = r"""
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
int main(int n, char **a) {
    if (atoi(a[1])) fork();
    kill(atoi(a[1]) ? 0 : getpid(), SIGSTOP);
    for (;;) pause();
}
"""

SLEEP_DEAF = r"""
#include <signal.h>
#include <unistd.h>
int main(void) {
    for (int i = 1; i < 65; i++) signal(i, SIG_IGN);
    setsid();
    if (fork()) setsid();
    for (;;) sleep(60);
}
"""

OWN_PIPE = r"""
#include <unistd.h>
int main(void) {
    int ends[2];
    char end;
    pipe(ends);
    read(ends[0], &end, 1);
}
"""


def _burns(id: str, promise: str, source: str, **request: Any) -> Case:
    return Case(id, promise, c(source, limits=CPU_LIMITS, **request), over_cpu(CPU))


def _hangs(id: str, promise: str, source: str, **request: Any) -> Case:
    return Case(id, promise, c(source, limits=WALL_LIMITS, **request), over_wall(WALL))


CASES = (
    _burns("cpu-spin-c", "a busy loop ends at its CPU limit", SPIN),
    _burns("cpu-processes-c", "four processes share one CPU limit", SPIN_PROCESSES),
    _burns("cpu-threads-c", "four threads share one CPU limit", SPIN_THREADS),
    _burns("cpu-child-c", "a child's CPU counts while its parent sleeps", SPIN_CHILD),
    _burns("cpu-generations-c", "the CPU of children that have ended counts", SPIN_GENERATIONS),
    _burns("cpu-orphans-c", "the CPU of orphans that nobody waited for counts", SPIN_ORPHANS),
    _burns("cpu-kernel-c", "time inside the kernel counts", SPIN_KERNEL),
    _burns("cpu-deaf-c", "ignoring every signal gains no time", SPIN_DEAF),
    Case(
        "cpu-spin-python",
        "a busy loop in Python ends at its CPU limit",
        python(SPIN_PYTHON, limits=CPU_LIMITS),
        over_cpu(CPU),
    ),
    Case(
        "cpu-forks-python",
        "forks of Python share one CPU limit",
        python(SPIN_FORKS_PYTHON, limits=CPU_LIMITS),
        over_cpu(CPU),
    ),
    Case(
        "cpu-below-the-limit",
        "CPU time below the limit is reported, not punished",
        c(BURN, args=["0"], limits={"cpu_time": 2}),
        ok(cpu_time=(0.09, 1)),
    ),
    Case(
        "cpu-of-children-is-reported",
        "cpu_time is the whole group's",
        c(BURN, args=["3"], limits={"cpu_time": 4}),
        ok(cpu_time=(0.38, 2)),
    ),
    _hangs("wall-sleep-c", "a sleeper ends at its wall limit", SLEEP),
    _hangs("wall-stop-self", "a stopped process ends at its wall limit", STOP, args=["0"]),
    _hangs("wall-stop-group", "a stopped group ends at its wall limit", STOP, args=["1"]),
    _hangs("wall-deaf-c", "ignoring signals in sessions of its own gains nothing", SLEEP_DEAF),
    _hangs("wall-own-pipe-c", "waiting for itself ends at the wall limit", OWN_PIPE),
    Case(
        "wall-sleep-python",
        "a sleeper in Python ends at its wall limit, what it said before is kept",
        python(SLEEP_PYTHON, limits=WALL_LIMITS),
        over_wall(WALL, stdout=b"here\n"),
    ),
    Case(
        "wall-deadlock-python",
        "a deadlock ends at the wall limit",
        python(DEADLOCK_PYTHON, limits=WALL_LIMITS),
        over_wall(WALL),
    ),
    Case(
        "sleeping-is-not-cpu",
        "a sleeper uses wall time, not CPU time",
        python(NAP_PYTHON, limits={"cpu_time": 5, "wall_time": 20}),
        ok(stdout=b"slept\n", wall_time=(0.2, 10), cpu_time=(0, 0.19)),
    ),
)
