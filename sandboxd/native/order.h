/* What the host asks of a built sandbox: a program to run, a file to open. */
#ifndef SBX_ORDER_H
#define SBX_ORDER_H

#include "wire.h"

enum { SBX_ARGC_MAX = 1024, SBX_ENVC_MAX = 512 };

/* What one exec message asks for. Pointers lead into its body. */
struct order {
	struct sbx_exec head;
	const char *cwd;
	char *arguments[SBX_ARGC_MAX + 1], *environment[SBX_ENVC_MAX + 1];
	struct sbx_cursor files; /* triples: see next_file */
	int fds[SBX_FDS_MAX];
	size_t fd_count;
};

struct file {
	const char *path;
	uint32_t mode, size;
	const uint8_t *data;
};

/* Read the head of a message that came with order->fd_count descriptors. 0, or -1 with EPROTO. The
 * body is what follows it in the message, or in the last descriptor: head.flags says which. */
int parse_head(struct order *order, const uint8_t *message, size_t size);

/* Read the body of an order whose head is read. 0, or -1 with EPROTO or E2BIG. */
int parse_body(struct order *order, const uint8_t *body, size_t size);

/* The next of head.filec files of an order whose body is read. */
struct file next_file(struct sbx_cursor *files);

/* The path or pattern of an open message, or NULL if it is none. */
const char *parse_open(const uint8_t *message, size_t size, bool *glob);

/* Whether it is a message to start a process, or to signal one. */
bool parse_spawn(const uint8_t *message, size_t size, struct sbx_spawn *spawn);
bool parse_signal(const uint8_t *message, size_t size, struct sbx_signal *signal);

#endif
