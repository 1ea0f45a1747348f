/* Random system calls from inside a sandbox: `syscalls SEED SECONDS`. Each child of this program
 * makes some hundreds of calls from the seed and its own number; the program outlives them, ends
 * whoever they left, and at the end prints one line. A seed replays as far as scheduling lets it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 400, NUMBERS = 480, AREA = 1 << 16 };

static uint64_t state;
static uint8_t *area;
static volatile uint64_t *made; /* shared: calls that came back */

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t argument(void)
{
	static const uint64_t edges[] = {0,
					 1,
					 2,
					 8,
					 64,
					 4096,
					 65536,
					 ~0ull,
					 1ull << 31,
					 1ull << 32,
					 (1ull << 63),
					 0xffffffff,
					 0x7fffffff,
					 (uint64_t)-100};
	static const char *const paths[] = {
		"/proc/self/mem",
		"/proc/self/root",
		"/proc/1/environ",
		"/proc/self/exe",
		"/work/x",
		"/work/x/y",
		"/tmp/t",
		"/dev/shm/s",
		"/dev/zero",
		"/proc/sys/kernel/core_pattern",
		"/proc/self/uid_map",
		"..",
		"/proc/self/attr/exec",
		"/usr/bin/env",
		"/proc/self/fd/0",
	};

	switch (next() % 8) {
	case 0:
	case 1:
		return edges[next() % (sizeof(edges) / sizeof(*edges))];
	case 2:
		return next() % 16; /* a descriptor, a flag, a small count */
	case 3:
		return (uint64_t)(uintptr_t)paths[next() % (sizeof(paths) / sizeof(*paths))];
	case 4:
		return 1ull << next() % 64;
	case 5:
		return next();
	default:
		return (uint64_t)(uintptr_t)(area + next() % AREA);
	}
}

/* Signals go to the sender only, or the end of everything would be the first thing found. */
static int to_a_process(long number)
{
	return number == SYS_kill || number == SYS_tkill || number == SYS_tgkill ||
	       number == SYS_rt_sigqueueinfo || number == SYS_rt_tgsigqueueinfo ||
	       number == SYS_prlimit64;
}

static void child(void)
{
	const int null = open("/dev/null", O_RDWR);

	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	for (size_t i = 0; i < AREA; i += 8)
		*(uint64_t *)(area + i) = next() % 3 ? argument() : next();
	alarm(1);
	for (int i = 0; i < CALLS; i++) {
		long number = (long)(next() % NUMBERS);
		uint64_t args[6];

		for (int a = 0; a < 6; a++)
			args[a] = argument();
		if (to_a_process(number))
			args[0] = (uint64_t)getpid();
		if (number == SYS_exit || number == SYS_exit_group || number == SYS_alarm)
			continue;
		syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
		++*made;
	}
	_exit(0);
}

static void end_others(void)
{
	kill(-1, SIGKILL); /* all but ourselves and init */
	while (waitpid(-1, NULL, __WALL) > 0)
		;
}

int main(int argc, char **argv)
{
	const uint64_t seed = argc > 2 ? strtoull(argv[1], NULL, 0) : 1;
	const time_t end = time(NULL) + (argc > 2 ? atoi(argv[2]) : 1);
	const struct timespec patience = {0, 300 * 1000 * 1000};
	unsigned children = 0;
	sigset_t ended;

	sigemptyset(&ended);
	sigaddset(&ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &ended, NULL);
	area = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED || made == MAP_FAILED)
		return 1;
	while (time(NULL) < end) {
		pid_t pid;

		state = seed * 0x9e3779b97f4a7c15ull + ++children * 0xbf58476d1ce4e5b9ull;
		state |= 1;
		pid = fork();
		if (pid == 0)
			child();
		if (pid > 0)
			sigtimedwait(&ended, NULL, &patience);
		end_others();
	}
	printf("seed %llu children %u calls %llu\n", (unsigned long long)seed, children,
	       (unsigned long long)*made);
	return 0;
}
