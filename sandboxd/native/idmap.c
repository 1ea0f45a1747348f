/* User namespaces that nobody lives in: a mount with such a one shows its files' owners shifted. */
#include "host.h"
#include "kernel.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

/* On our memory and a stack of its own, so raw system calls alone. It is killed when its namespace
 * has been opened. */
static int wait_for_the_end(void *nothing)
{
	(void)nothing;
	while (syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0) < 1)
		;
	return 0;
}

static int write_map(int pid, const char *file, const char *text, int length)
{
	char path[64];
	sbx_autoclose int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, (size_t)length) == length ? 0 : -1;
}

int sbx_idmap(uint32_t from, uint32_t to, uint32_t count)
{
	_Alignas(16) char stack[16384];
	char path[64], text[64];
	int length = snprintf(text, sizeof(text), "%u %u %u\n", from, to, count);
	sigset_t all, before;
	int pid, fd = -1, err;

	/* A handler of ours would run on its stack. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone(wait_for_the_end, stack + sizeof(stack), CLONE_VM | CLONE_NEWUSER, NULL);
	err = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid >= 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
		if (write_map(pid, "uid_map", text, length) == 0 &&
		    write_map(pid, "gid_map", text, length) == 0)
			fd = open(path, O_RDONLY | O_CLOEXEC);
		err = errno;
		kill(pid, SIGKILL);
		/* It sends no signal at its end, so only this wait finds it. */
		SBX_RETRY(waitpid(pid, NULL, __WALL));
	}
	errno = err;
	return fd;
}
