/* What the file service is asked: first byte, the number of descriptors that came; then the
 * message. Messages that start or signal a process are read too. */
#include "fuzz.h"

#include "order.h"
#include "service.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request request;
	struct sbx_spawn spawn;
	struct sbx_signal signal;
	uint8_t *message;
	size_t sum = 0;

	if (size < 1)
		return 0;
	message = malloc(size);
	memcpy(message, data + 1, size - 1);
	errno = 0;
	if (parse_request(&request, message, size - 1, data[0]) == 0) {
		sum = strlen(request.path) + strlen(request.target);
		for (uint32_t i = 0; i < request.content_size; i++)
			sum += request.content[i];
		PROMISE(data[0] <= 2 && (data[0] > 0) == takes_long(request.head.op));
	} else {
		PROMISE(errno == EPROTO);
	}
	PROMISE(sum < SIZE_MAX);
	if (size > 1 && parse_spawn(message, size - 1, &spawn))
		PROMISE(spawn.kind <= SBX_SPAWN_ROOT_FILES);
	if (size > 1 && parse_signal(message, size - 1, &signal))
		PROMISE(signal.head.type == SBX_MSG_SIGNAL);
	free(message);
	return 0;
}
