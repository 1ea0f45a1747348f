/* Reading bounded messages and sending them with descriptors; used on both sides. */
#ifndef SBX_WIRE_H
#define SBX_WIRE_H

#include "proto.h"

#include <stdbool.h>
#include <sys/types.h>

#define SBX_FDS_MAX 16

/* A cursor over received bytes. After the first field that does not fit, `bad` stays set and every
 * further field is empty, so that callers check once. */
struct sbx_cursor {
	const uint8_t *at, *end;
	bool bad;
};

/* Next field: `size` bytes at the result, never NULL. */
const uint8_t *sbx_field(struct sbx_cursor *cursor, uint32_t *size);

/* Next field as a string: ends with its only NUL. */
const char *sbx_string(struct sbx_cursor *cursor);

/* Send one message with `count` descriptors, which stay open here. 0, or -1 with errno. */
int sbx_send(int socket, const void *message, size_t size, const int *fds, size_t count);

/* The same with the message in two pieces. */
int sbx_send2(int socket, const void *head, size_t head_size, const void *body, size_t body_size,
	      const int *fds, size_t count);

/* Receive one message of at most `size` bytes and at most SBX_FDS_MAX descriptors, which are
 * close-on-exec and now belong to the caller. Returns its length, 0 at the end of the stream, or
 * -1: EMSGSIZE for a message or fd list that was cut (its descriptors are closed). */
ssize_t sbx_receive(int socket, void *buffer, size_t size, int *fds, size_t *count, int flags);

#endif
