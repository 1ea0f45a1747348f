"""What a program does with processes: daemons, sessions, exec, held and closed streams."""

from typing import Any

from tests.matrix.case import Case, bash, c, python
from tests.matrix.expectation import exits, ok

PROMPT = (0.0, 20.0)
"""Seconds within which an answer is at once; what it must not wait for sleeps 60."""
LIMITS: dict[str, Any] = {"cpu_time": 5, "wall_time": 40}

DAEMON = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int n, char **a) {
    printf("parent\n");
    fflush(stdout);
    if (fork()) return atoi(a[1]);
    setsid();
    if (fork()) _exit(0);
    for (int i = 1; i < 65; i++) signal(i, SIG_IGN);
    sleep(60);
    printf("daemon\n");
}
"""

GRANDCHILD_HOLDS = r"""
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(60)
        print("late")
    os._exit(0)
print("done")
"""

CLOSED = r"""
#include <unistd.h>
int main(void) {
    close(0);
    close(1);
    close(2);
    usleep(100000);
    return 3;
}
"""

EXEC_CHAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int n, char **a) {
    int left = n > 1 ? atoi(a[1]) : 200;
    if (!left) return puts("last"), 0;
    char text[16];
    sprintf(text, "%d", left - 1);
    execl("/proc/self/exe", a[0], text, (char *)0);
    return 9;
}
"""

LAST_THREAD = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void *after(void *_) {
    usleep(100000);
    puts("thread");
    exit(6);
}
int main(void) {
    pthread_t t;
    pthread_create(&t, 0, after, 0);
    pthread_exit(0);
}
"""

EXEC_IN_THREAD = r"""
#include <pthread.h>
#include <unistd.h>
static void *leave(void *_) {
    execl("/bin/sh", "sh", "-c", "echo replaced; exit 4", (char *)0);
    _exit(9);
}
int main(void) {
    pthread_t t;
    pthread_create(&t, 0, leave, 0);
    pthread_join(t, 0);
}
"""

KILL_ALL = r"""
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    if (!fork()) for (;;) pause();
    kill(-1, SIGKILL);
    kill(1, SIGKILL);
    kill(getppid(), SIGKILL);
    puts("alone");
}
"""

THREADS_PYTHON = r"""
import threading
total = []
threads = [threading.Thread(target=total.append, args=(i,)) for i in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(total))
"""

POOL_PYTHON = r"""
import multiprocessing
with multiprocessing.Pool(2) as pool:
    print(pool.map(abs, range(-3, 0)))
"""

SUBPROCESS_PYTHON = r"""
import subprocess
print(subprocess.run(["cat"], input=b"through a child", capture_output=True).stdout.decode())
"""

JOB_CONTROL = "sleep 60 &\nsleep 60 &\nkill %1\nwait %1\necho $?\n"

CASES = (
    Case(
        "daemon-holds-stdout",
        "a daemon that holds stdout and outlives its parent delays nothing and is ended",
        c(DAEMON, args=["0"], limits=LIMITS),
        ok(stdout=b"parent\n", wall_time=PROMPT),
    ),
    Case(
        "daemon-parent-fails",
        "the parent's exit code stands though its daemon lives",
        c(DAEMON, args=["8"], limits=LIMITS),
        exits(8, stdout=b"parent\n", wall_time=PROMPT),
    ),
    Case(
        "grandchild-holds-stdout-python",
        "the result arrives though a grandchild holds stdout",
        python(GRANDCHILD_HOLDS, limits=LIMITS),
        ok(stdout=b"done\n", wall_time=PROMPT),
    ),
    Case(
        "background-bash",
        "a background command does not keep the script's run open",
        bash("sleep 60 &\necho started\n", limits=LIMITS),
        ok(stdout=b"started\n", wall_time=PROMPT),
    ),
    Case(
        "nohup-setsid-bash",
        "nohup and setsid do not help a command to stay",
        bash("setsid nohup sleep 60 >/dev/null 2>&1 &\necho left\n", limits=LIMITS),
        ok(stdout=b"left\n", wall_time=PROMPT),
    ),
    Case(
        "closed-streams",
        "a program that closes its streams is waited for",
        c(CLOSED, limits=LIMITS),
        exits(3, stdout=b"", stderr=b"", wall_time=(0.1, 20)),
    ),
    Case("exec-chain", "two hundred execs are one program", c(EXEC_CHAIN), ok(stdout=b"last\n")),
    Case(
        "last-thread",
        "a program lives as long as its last thread",
        c(LAST_THREAD, limits=LIMITS),
        exits(6, stdout=b"thread\n", wall_time=(0.1, 20)),
    ),
    Case(
        "exec-in-thread",
        "an exec from a second thread is the same program",
        c(EXEC_IN_THREAD),
        exits(4, stdout=b"replaced\n"),
    ),
    Case(
        "kill-everybody",
        "kill(-1) reaches nothing but the program's own",
        c(KILL_ALL, limits=LIMITS),
        ok(stdout=b"alone\n"),
    ),
    Case("threads-python", "threads work", python(THREADS_PYTHON), ok(stdout=b"28\n")),
    Case(
        "multiprocessing-python",
        "multiprocessing with its semaphores in /dev/shm works",
        python(POOL_PYTHON),
        ok(stdout=b"[3, 2, 1]\n"),
    ),
    Case(
        "subprocess-python",
        "a child's output may be captured",
        python(SUBPROCESS_PYTHON),
        ok(stdout=b"through a child\n"),
    ),
    Case(
        "pipeline-bash",
        "a pipeline whose reader leaves early is ok",
        bash("yes | head -n 3 | tr y z\n"),
        ok(stdout=b"z\nz\nz\n"),
    ),
    Case(
        "job-control-bash",
        "a script may end its own children",
        bash(JOB_CONTROL, limits=LIMITS),
        ok(stdout=b"143\n", wall_time=PROMPT),
    ),
    Case(
        "command-not-found-bash",
        "a command that does not exist is the script's affair",
        bash("no-such-command\n"),
        exits(127, stderr_has=(b"not found",)),
    ),
)
