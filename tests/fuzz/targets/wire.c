/* Receiving: first byte, how many descriptors the sender attaches; second, how much the receiver
 * takes; then the message. Whatever happens, no descriptor may be left over. */
#include "fuzz.h"

#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ATTACHED_MAX = 40 };

static void send_raw(int socket, const uint8_t *data, size_t size, size_t fds)
{
	static _Alignas(8) char control[CMSG_SPACE(sizeof(int) * ATTACHED_MAX)];
	struct iovec piece = {(void *)(uintptr_t)data, size};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

	if (fds > 0) {
		struct cmsghdr *header = (struct cmsghdr *)control;
		int *list = (int *)CMSG_DATA(header);

		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
		*header = (struct cmsghdr){CMSG_LEN(sizeof(int) * fds), SOL_SOCKET, SCM_RIGHTS};
		for (size_t i = 0; i < fds; i++)
			list[i] = socket;
	}
	PROMISE(sendmsg(socket, &message, 0) == (ssize_t)size);
}

static int next_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2], fds[SBX_FDS_MAX], free_before;
	size_t count = 99, attached, room;
	uint8_t *buffer;
	ssize_t length;

	if (size < 2 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return 0;
	free_before = next_free();
	attached = data[0] % (ATTACHED_MAX + 1);
	room = data[1];
	buffer = malloc(room);
	send_raw(pair[0], data + 2, size - 2, attached);
	errno = 0;
	length = sbx_receive(pair[1], buffer, room, fds, &count, MSG_DONTWAIT);
	if (length < 0) {
		PROMISE(errno == EMSGSIZE && count == 0);
		PROMISE(size - 2 > room || attached > SBX_FDS_MAX);
	} else {
		PROMISE((size_t)length == size - 2 && (size_t)length <= room);
		PROMISE(memcmp(buffer, data + 2, (size_t)length) == 0);
		PROMISE(count == (length ? attached : 0));
		for (size_t i = 0; i < count; i++) {
			PROMISE(fcntl(fds[i], F_GETFD) == FD_CLOEXEC);
			close(fds[i]);
		}
	}
	PROMISE(next_free() == free_before);
	free(buffer);
	close(pair[0]);
	close(pair[1]);
	return 0;
}
