/*
 * Runs one command back to back from CLIENTS threads and times each from spawn to reaped.
 *
 *     spawn CLIENTS SECONDS MAX_JOBS EXPECTED_STDOUT COMMAND [ARG]...
 *
 * The peers that are commands are driven from here and not from Python, whose posix_spawn holds
 * the interpreter lock: it would make them slower than they are and this service look better.
 *
 * `{client}` in an argument becomes the number of the client, for peers that want a name for each
 * sandbox that is there at the same time.
 *
 * stdout: struct report, then report.ok times the latency in nanoseconds (native 64-bit words).
 * A job is right if it exits with 0 and printed EXPECTED_STDOUT exactly; stderr is inherited.
 *
 * bubblewrap's first process leaves before the sandbox's pid 1 does, whose CPU time would then go
 * uncounted: as a subreaper we inherit such orphans. They become children of the main thread,
 * which waits for its own only (__WNOTHREAD), and for a keeper that lives until the clients end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CLIENTS = 1024, OUTPUT_MAX = 4096, GIVE_UP_AFTER = 100 };
enum verdict { RIGHT, NOT_STARTED, WRONG_EXIT, WRONG_STDOUT };

struct report {
    uint64_t ok, not_started, wrong_exit, wrong_stdout;
    uint64_t elapsed_ns, own_cpu_ns, jobs_cpu_ns;
};

static char *const environment[] = {"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", NULL};
static char **command;
static int arguments;
static const char *expected;
static size_t expected_length;
static uint64_t deadline, max_jobs;
static uint64_t *latencies;
static atomic_ullong started, counts[4];
static atomic_int running;
static uint64_t begin, end;
static pid_t keeper;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_ns(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u
           + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
}

/* Length read until the end of file, OUTPUT_MAX if there is more, or -1. */
static ssize_t read_output(int fd, char *buffer)
{
    size_t length = 0;
    while (length < OUTPUT_MAX) {
        ssize_t n = read(fd, buffer + length, OUTPUT_MAX - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        length += (size_t)n;
    }
    return (ssize_t)length;
}

/* `word` with the client's number in place of `{client}`, or NULL. Never freed: clients end with us. */
static char *for_client(char *word, int number)
{
    static const char mark[] = "{client}";
    char *at = strstr(word, mark), *made;
    if (!at)
        return word;
    int before = (int)(at - word);
    return asprintf(&made, "%.*s%d%s", before, word, number, at + strlen(mark)) < 0 ? NULL : made;
}

static enum verdict run_once(char **argv)
{
    posix_spawn_file_actions_t actions;
    char output[OUTPUT_MAX];
    pid_t pid;
    int ends[2], status;

    if (pipe2(ends, O_CLOEXEC))
        return NOT_STARTED;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    int error = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error) {
        close(ends[0]);
        return NOT_STARTED;
    }
    ssize_t length = read_output(ends[0], output);
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return WRONG_EXIT;
    if (length == OUTPUT_MAX) /* whatever it said then: we closed the pipe on it */
        return WRONG_STDOUT;
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return WRONG_EXIT;
    if (length != (ssize_t)expected_length || memcmp(output, expected, expected_length))
        return WRONG_STDOUT;
    return RIGHT;
}

static uint64_t failures(void)
{
    return counts[NOT_STARTED] + counts[WRONG_EXIT] + counts[WRONG_STDOUT];
}

static void *client(void *number)
{
    char *argv[arguments + 1];
    for (int i = 0; i < arguments; i++)
        if (!(argv[i] = for_client(command[i], (int)(intptr_t)number)))
            abort();
    argv[arguments] = NULL;
    for (uint64_t start = now(); start < deadline; start = now()) {
        if (failures() >= GIVE_UP_AFTER || atomic_fetch_add(&started, 1) >= max_jobs)
            break;
        enum verdict verdict = run_once(argv);
        uint64_t index = atomic_fetch_add(&counts[verdict], 1);
        if (verdict == RIGHT)
            latencies[index] = now() - start;
    }
    if (atomic_fetch_sub(&running, 1) == 1) {
        end = now();
        kill(keeper, SIGKILL);
    }
    return NULL;
}

static pid_t start_keeper(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == parent)
            pause();
        _exit(0);
    }
    return pid;
}

/* Returns when the keeper and every orphan have ended. */
static void reap_orphans(void)
{
    while (waitpid(-1, NULL, __WNOTHREAD) > 0 || errno == EINTR)
        continue;
}

static int write_all(const void *data, size_t length)
{
    const char *at = data;
    while (length > 0) {
        ssize_t n = write(1, at, length);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            at += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static pthread_t threads[MAX_CLIENTS];
    if (argc < 6)
        return 2;
    int clients = atoi(argv[1]);
    double seconds = atof(argv[2]);
    max_jobs = strtoull(argv[3], NULL, 10);
    expected = argv[4];
    expected_length = strlen(expected);
    command = argv + 5;
    arguments = argc - 5;
    latencies = calloc(max_jobs, sizeof *latencies);
    if (expected_length >= OUTPUT_MAX || clients < 1 || clients > MAX_CLIENTS || max_jobs < 1 || !latencies)
        return 2;
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0)
        return 2;

    if (prctl(PR_SET_CHILD_SUBREAPER, 1) || (keeper = start_keeper()) < 0)
        return 2;
    running = clients;
    begin = now();
    deadline = begin + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < clients; i++)
        if (pthread_create(&threads[i], NULL, client, (void *)(intptr_t)i))
            return 2;
    reap_orphans();
    for (int i = 0; i < clients; i++)
        pthread_join(threads[i], NULL);

    struct report report = {
        counts[RIGHT], counts[NOT_STARTED], counts[WRONG_EXIT], counts[WRONG_STDOUT],
        end - begin, cpu_ns(RUSAGE_SELF), cpu_ns(RUSAGE_CHILDREN),
    };
    if (write_all(&report, sizeof report))
        return 1;
    return write_all(latencies, report.ok * sizeof *latencies) ? 1 : 0;
}
