/* An order as the runner reads it: first byte, the number of descriptors that came; second, whether
 * what follows the head travels in a memfd; then the message. Requests to open files are read too.
 */
#include "fuzz.h"

#include "order.h"

#include <errno.h>
#include <string.h>

static void read_order(struct order *order)
{
	struct sbx_cursor files = order->files;
	size_t sum = strlen(order->cwd);

	for (uint32_t i = 0; i < order->head.argc; i++)
		sum += strlen(order->arguments[i]);
	for (uint32_t i = 0; i < order->head.envc; i++)
		sum += strlen(order->environment[i]);
	PROMISE(order->arguments[order->head.argc] == NULL);
	PROMISE(order->environment[order->head.envc] == NULL);
	for (uint32_t i = 0; i < order->head.filec; i++) {
		struct file file = next_file(&files);

		sum += strlen(file.path);
		for (uint32_t at = 0; at < file.size; at++)
			sum += file.data[at];
	}
	PROMISE(!files.bad && files.at == files.end);
	PROMISE(sum < SIZE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct order order;
	uint8_t *message;
	const char *path;
	size_t body;
	bool glob;

	if (size < 1)
		return 0;
	message = malloc(size - 1);
	memcpy(message, data + 1, size - 1);
	order.fd_count = data[0] % (SBX_FDS_MAX + 1);
	errno = 0;
	if (parse_head(&order, message, size - 1) != 0) {
		PROMISE(errno == EPROTO);
	} else {
		PROMISE(order.fd_count <= 4);
		PROMISE(order.fd_count >= 2 || order.head.flags & SBX_EXEC_TERMINAL);
		PROMISE(order.head.body_size <= SBX_EXEC_MAX);
		/* The runner sees to it that a body in a memfd has the size of the head. */
		body = size - 1 - sizeof(order.head);
		if (body == order.head.body_size) {
			errno = 0;
			if (parse_body(&order, message + sizeof(order.head), body) == 0)
				read_order(&order);
			else
				PROMISE(errno == EPROTO || errno == E2BIG);
		}
	}
	path = parse_open(message, size - 1, &glob);
	PROMISE(path == NULL || strlen(path) < size - 1);
	free(message);
	return 0;
}
