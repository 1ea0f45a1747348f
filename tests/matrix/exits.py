"""Exit codes and the signals that end a program."""

import signal

from tests.matrix.case import Case, bash, c, python
from tests.matrix.expectation import exits, ok, signalled, violation

EXIT = "#include <stdlib.h>\nint main(int n, char **a) { exit(atoi(a[1])); }\n"

RAISE = r"""
#include <signal.h>
#include <stdlib.h>
int main(int n, char **a) { raise(atoi(a[1])); return 0; }
"""

HARMLESS = r"""
#include <signal.h>
#include <stdio.h>
int main(void) {
    int none[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
    for (int i = 0; i < 4; i++) raise(none[i]);
    puts("alive");
}
"""

DISPOSITIONS = r"""
import re
text = open("/proc/self/status").read()
print(*[re.search(rf"{name}:\s*(\w+)", text)[1] for name in ("SigBlk", "ShdPnd", "SigPnd")])
"""

INHERITED = r"""
#include <signal.h>
#include <stdio.h>
int main(void) {
    struct sigaction now;
    int odd = 0;
    for (int i = 1; i < 32; i++) {
        if (i == SIGKILL || i == SIGSTOP) continue;
        sigaction(i, 0, &now);
        odd += now.sa_handler != SIG_DFL;
    }
    printf("%d\n", odd);
}
"""

DIVIDE = "int main(int n, char **a) { volatile int zero = 0; return n / zero; }\n"
NULL = "int main(void) { volatile int *volatile p = 0; *p = 1; return 0; }\n"
TRAP = "int main(void) { __builtin_trap(); }\n"
ABORT = "#include <stdlib.h>\nint main(void) { abort(); }\n"
READ_ONLY = r"""
static const char text[] = "fixed";
int main(void) { *(volatile char *)text = 1; return 0; }
"""

BUS = r"""
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    char name[] = "/tmp/mapXXXXXX";
    int file = mkstemp(name);
    ftruncate(file, 4096);
    volatile char *map = mmap(0, 8192, PROT_READ, MAP_SHARED, file, 0);
    return map[4096];
}
"""

TIMER = r"""
#include <sys/time.h>
#include <unistd.h>
int main(void) {
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    setitimer(ITIMER_REAL, &soon, 0);
    for (;;) pause();
}
"""

BROKEN_PIPE = r"""
#include <unistd.h>
int main(void) {
    int ends[2];
    pipe(ends);
    close(ends[0]);
    write(ends[1], "x", 1);
    return 0;
}
"""

FATAL = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL",
    "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGXCPU",
    "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGRTMIN",
]  # fmt: skip
"""Every fatal signal but SIGSYS and SIGXFSZ, whose statuses are of their own."""


def _exit(code: int, seen: int) -> Case:
    return Case(
        f"exit-{code}-c",
        f"exit({code}) is exit code {seen}",
        c(EXIT, args=[str(code)]),
        exits(seen) if seen else ok(),
    )


def _raise(name: str) -> Case:
    return Case(
        f"raise-{name.lower()}",
        f"a program that ends by {name} is signalled, with that name",
        c(RAISE, args=[str(int(signal.Signals[name]))]),
        signalled(name),
    )


CASES = (
    *[_exit(code, code) for code in (0, 1, 2, 126, 127, 128, 254, 255)],
    _exit(256, 0),
    _exit(-1, 255),
    Case(
        "exit-137-is-not-a-signal",
        "an exit code of 128 + 9 is an exit code",
        c(EXIT, args=["137"]),
        exits(137),
    ),
    Case("exit-0-python", "sys.exit(0) is ok", python("import sys\nsys.exit(0)\n"), ok()),
    Case("exit-7-python", "sys.exit(7) is 7", python("import sys\nsys.exit(7)\n"), exits(7)),
    Case(
        "exception-python",
        "an uncaught exception is exit code 1 and its traceback is on stderr",
        python("raise ValueError('why')\n"),
        exits(1, stderr_has=(b"Traceback", b"ValueError: why")),
    ),
    Case("exit-3-bash", "a script's exit code is its own", bash("exit 3\n"), exits(3)),
    Case(
        "child-signalled-bash",
        "a child that dies of a signal is the script's affair",
        bash("bash -c 'kill -SEGV $$'\nexit $?\n"),
        exits(139),
    ),
    *[_raise(name) for name in FATAL],
    Case(
        "raise-sigsys",
        "SIGSYS is what a forbidden system call ends with",
        c(RAISE, args=[str(int(signal.SIGSYS))]),
        violation(),
    ),
    Case("harmless-signals", "ignored signals end nothing", c(HARMLESS), ok(stdout=b"alive\n")),
    Case(
        "signals-start-unblocked",
        "a program starts with no signal blocked or pending",
        python(DISPOSITIONS),
        ok(stdout=b"0000000000000000 0000000000000000 0000000000000000\n"),
    ),
    Case(
        "signals-start-default",
        "a program starts with every signal at its default",
        c(INHERITED),
        ok(stdout=b"0\n"),
    ),
    Case("divide-by-zero", "dividing by zero is SIGFPE", c(DIVIDE), signalled("SIGFPE")),
    Case("null-write", "writing to NULL is SIGSEGV", c(NULL), signalled("SIGSEGV")),
    Case("read-only-write", "writing to a constant is SIGSEGV", c(READ_ONLY), signalled("SIGSEGV")),
    Case("trap", "an illegal instruction is SIGILL", c(TRAP), signalled("SIGILL")),
    Case("abort", "abort() is SIGABRT", c(ABORT), signalled("SIGABRT")),
    Case("bus-error", "a page behind the file's end is SIGBUS", c(BUS), signalled("SIGBUS")),
    Case("timer", "its own timer's SIGALRM is its own end", c(TIMER), signalled("SIGALRM")),
    Case("broken-pipe", "writing to nobody is SIGPIPE", c(BROKEN_PIPE), signalled("SIGPIPE")),
    Case(
        "kill-self-python",
        "SIGKILL by its own hand is a signal, not a limit",
        python("import os\nos.kill(os.getpid(), 9)\n"),
        signalled("SIGKILL"),
    ),
    Case(
        "segfault-python",
        "an interpreter that crashes is signalled",
        python("import ctypes\nctypes.string_at(0)\n"),
        signalled("SIGSEGV"),
    ),
    Case(
        "output-before-a-signal-is-kept",
        "what was written before the end is in the answer",
        bash("echo before\nkill -TERM $$\n"),
        signalled("SIGTERM", stdout=b"before\n"),
    ),
)
