/* Bounded messages with descriptors over SOCK_SEQPACKET; see wire.h. */
#include "wire.h"

#include "kernel.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

const uint8_t *sbx_field(struct sbx_cursor *cursor, uint32_t *size)
{
	uint32_t length = 0;
	const uint8_t *data = (const uint8_t *)"";

	*size = 0;
	if (cursor->bad || (size_t)(cursor->end - cursor->at) < sizeof(length)) {
		cursor->bad = true;
		return data;
	}
	memcpy(&length, cursor->at, sizeof(length));
	if (length > (size_t)(cursor->end - cursor->at) - sizeof(length)) {
		cursor->bad = true;
		return data;
	}
	data = cursor->at + sizeof(length);
	cursor->at = data + length;
	*size = length;
	return data;
}

const char *sbx_string(struct sbx_cursor *cursor)
{
	uint32_t size;
	const uint8_t *data = sbx_field(cursor, &size);

	if (size == 0 || memchr(data, 0, size) != data + size - 1) {
		cursor->bad = true;
		return "";
	}
	return (const char *)data;
}

int sbx_send2(int socket, const void *head, size_t head_size, const void *body, size_t body_size,
	      const int *fds, size_t count)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * SBX_FDS_MAX)];
	} control;
	struct iovec pieces[2] = {{(void *)head, head_size}, {(void *)body, body_size}};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = body_size ? 2 : 1};

	if (count > SBX_FDS_MAX) {
		errno = E2BIG;
		return -1;
	}
	if (count > 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * count);
	}
	return SBX_RETRY(sendmsg(socket, &message, MSG_NOSIGNAL)) < 0 ? -1 : 0;
}

int sbx_send(int socket, const void *message, size_t size, const int *fds, size_t count)
{
	return sbx_send2(socket, message, size, NULL, 0, fds, count);
}

ssize_t sbx_receive(int socket, void *buffer, size_t size, int *fds, size_t *count, int flags)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * SBX_FDS_MAX)];
	} control;
	struct iovec piece = {buffer, size};
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t length = SBX_RETRY(recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags));
	size_t found = 0;

	*count = 0;
	if (length < 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		found = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), found * sizeof(int));
	}
	/* An empty message reads as the end, where nobody looks for descriptors. */
	if (length == 0 || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		while (found > 0)
			close(fds[--found]);
		errno = EMSGSIZE;
		return length == 0 && !(message.msg_flags & MSG_TRUNC) ? 0 : -1;
	}
	*count = found;
	return length;
}
