/* What a program finds at its very first instruction, before a runtime changes it, as lines
 * `name value`: signals, descriptors, session, terminal, auxiliary identity. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct kernel_action {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

int main(void)
{
	uint64_t mask = 0;
	char path[4096];
	int tty;

	/* Raw calls: the C library hides the signals that it uses itself. */
	for (int number = 1; number < 65; number++) {
		struct kernel_action action = {0};

		if (syscall(SYS_rt_sigaction, number, NULL, &action, 8) == 0 &&
		    action.handler != SIG_DFL)
			printf("signal %d\n", number);
	}
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	printf("mask %llx\n", (unsigned long long)mask);
	for (int fd = 0; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf("fd %d %d\n", fd, fcntl(fd, F_GETFD));
	printf("session %d\n", getsid(0) == getpid() && getpgrp() == getpid());
	tty = open("/dev/tty", O_RDWR);
	printf("tty %d\n", tty < 0 ? errno : 0);
	printf("cwd %s\n", getcwd(path, sizeof(path)));
	printf("securebits %d\n", prctl(PR_GET_SECUREBITS));
	printf("no_new_privs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
	printf("subreaper_of %d\n", getppid());
	return 0;
}
