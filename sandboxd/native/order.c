/* Reading orders: no system call, no state, so that it can be fuzzed as it is. */
#include "order.h"

#include <errno.h>
#include <string.h>

int parse_head(struct order *order, const uint8_t *message, size_t size)
{
	struct sbx_exec *head = &order->head;
	size_t fds;

	errno = EPROTO;
	if (size < sizeof(*head))
		return -1;
	memcpy(head, message, sizeof(*head));
	fds = !!(head->flags & SBX_EXEC_BODY_FD);
	if (!(head->flags & SBX_EXEC_TERMINAL))
		fds += 2 + !(head->flags & SBX_EXEC_STDIN_NULL);
	if (head->head.type != SBX_MSG_EXEC || head->head.version != SBX_ABI ||
	    order->fd_count != fds || head->body_size > SBX_EXEC_MAX)
		return -1;
	return head->flags & SBX_EXEC_BODY_FD || size - sizeof(*head) == head->body_size ? 0 : -1;
}

int parse_body(struct order *order, const uint8_t *body, size_t size)
{
	struct sbx_cursor cursor = {body, body + size, false};

	if (order->head.argc < 1 || order->head.argc > SBX_ARGC_MAX ||
	    order->head.envc > SBX_ENVC_MAX) {
		errno = E2BIG;
		return -1;
	}
	order->cwd = sbx_string(&cursor);
	for (uint32_t i = 0; i < order->head.argc; i++)
		order->arguments[i] = (char *)(uintptr_t)sbx_string(&cursor);
	order->arguments[order->head.argc] = NULL;
	for (uint32_t i = 0; i < order->head.envc; i++)
		order->environment[i] = (char *)(uintptr_t)sbx_string(&cursor);
	order->environment[order->head.envc] = NULL;
	order->files = cursor;
	for (uint32_t i = 0; i < order->head.filec && !cursor.bad; i++) {
		uint32_t length;

		sbx_string(&cursor);
		sbx_field(&cursor, &length);
		cursor.bad |= length != sizeof(uint32_t);
		sbx_field(&cursor, &length);
	}
	errno = EPROTO;
	return cursor.bad || cursor.at != cursor.end ? -1 : 0;
}

struct file next_file(struct sbx_cursor *files)
{
	struct file file = {.path = sbx_string(files)};
	uint32_t length;
	const uint8_t *mode = sbx_field(files, &length);

	if (length == sizeof(file.mode))
		memcpy(&file.mode, mode, sizeof(file.mode));
	file.data = sbx_field(files, &file.size);
	return file;
}

const char *parse_open(const uint8_t *message, size_t size, bool *glob)
{
	struct sbx_open open;

	if (size <= sizeof(open) || message[0] != SBX_MSG_OPEN || message[size - 1] != 0)
		return NULL;
	memcpy(&open, message, sizeof(open));
	*glob = open.glob != 0;
	return (const char *)message + sizeof(open);
}

bool parse_spawn(const uint8_t *message, size_t size, struct sbx_spawn *spawn)
{
	if (size != sizeof(*spawn) || message[0] != SBX_MSG_SPAWN || message[1] != SBX_ABI)
		return false;
	memcpy(spawn, message, sizeof(*spawn));
	return spawn->kind <= SBX_SPAWN_ROOT_FILES;
}

bool parse_signal(const uint8_t *message, size_t size, struct sbx_signal *signal)
{
	if (size != sizeof(*signal) || message[0] != SBX_MSG_SIGNAL || message[1] != SBX_ABI)
		return false;
	memcpy(signal, message, sizeof(*signal));
	return true;
}
