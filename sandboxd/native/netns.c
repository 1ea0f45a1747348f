/* Network namespaces that exist before the sandbox that they are for. To make one costs as much as
 * the rest of clone3 together, and the kernel as much again to take it down, so those that a
 * sandbox has left as they were made serve another. */
#include "host.h"
#include "kernel.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static const char own[] = "/proc/thread-self/ns/net";

/* Nothing may run on in a namespace that is not its own. */
static void come_back(int home)
{
	int err = errno;

	if (setns(home, CLONE_NEWNET) != 0)
		abort();
	errno = err;
}

static int raise_loopback(void)
{
	sbx_autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo"};

	request.ifr_flags = IFF_UP;
	return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &request);
}

int sbx_netns_new(void)
{
	sbx_autoclose int home = open(own, O_RDONLY | O_CLOEXEC);
	int fd = -1;

	if (home < 0 || unshare(CLONE_NEWNET) != 0)
		return -1;
	if (raise_loopback() == 0)
		fd = open(own, O_RDONLY | O_CLOEXEC);
	come_back(home);
	return fd;
}

/* Every packet that passed and every attempt that failed leaves its mark in one of these, and so
 * does every socket that there still is (sockstat counts those of all families). Flow labels
 * outlive theirs. */
static const char *const traces[] = {"dev",      "netstat",   "snmp",         "snmp6",
				     "sockstat", "sockstat6", "ip6_flowlabel"};

static ssize_t append(const char *name, uint8_t *buffer, size_t size)
{
	sbx_autoclose int fd = -1;
	char path[64];
	size_t length = 0;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/thread-self/net/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1; /* a kernel without IPv6 */
	while ((got = SBX_RETRY(read(fd, buffer + length, size - length))) > 0)
		length += (size_t)got;
	if (got == 0 && length == size) {
		errno = EFBIG;
		return -1;
	}
	return got < 0 ? -1 : (ssize_t)length;
}

ssize_t sbx_netns_traces(int netns, uint8_t *buffer, size_t size)
{
	sbx_autoclose int home = open(own, O_RDONLY | O_CLOEXEC);
	ssize_t length = 0, more = 0;

	if (home < 0 || setns(netns, CLONE_NEWNET) != 0)
		return -1;
	for (size_t i = 0; i < sizeof(traces) / sizeof(*traces) && more >= 0; i++) {
		more = append(traces[i], buffer + length, size - (size_t)length);
		length += more;
	}
	come_back(home);
	return more < 0 ? -1 : length;
}
