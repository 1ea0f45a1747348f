/* Sockets in a sandbox's network namespace, for the host to reach its servers; see host.h. */
#include "host.h"

#include "kernel.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>

int sbx_socket_inside(int netns, int family)
{
	sbx_autoclose int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd, err;

	if (own < 0 || setns(netns, CLONE_NEWNET) != 0)
		return -1;
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	err = errno;
	/* A thread that stayed there would do the next work of ours in the sandbox's namespace. */
	if (setns(own, CLONE_NEWNET) != 0)
		abort();
	errno = err;
	return fd;
}
