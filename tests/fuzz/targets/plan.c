/* A plan as init reads it: first byte, the number of descriptors that came; then the message. */
#include "fuzz.h"

#include "plan.h"

#include <errno.h>
#include <string.h>

static size_t read_all(struct sbx_cursor cursor, uint64_t strings)
{
	size_t total = 0;

	while (strings-- > 0)
		total += strlen(sbx_string(&cursor)) + 1;
	PROMISE(!cursor.bad);
	return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct plan plan;
	uint8_t *message;
	size_t total;

	if (size < 1)
		return 0;
	/* A copy of the very length, so that the sanitizer sees a read beyond it. */
	message = malloc(size - 1);
	memcpy(message, data + 1, size - 1);
	errno = 0;
	if (parse_plan(&plan, message, size - 1, data[0]) != 0) {
		PROMISE(errno == EPROTO);
	} else {
		PROMISE(plan.head.cgroup_count < data[0] && data[0] <= SBX_FDS_MAX);
		total = strlen(plan.hostname) + strlen(plan.stage_dir) + strlen(plan.apparmor) +
			plan.seccomp_size;
		total += read_all(plan.layers, plan.head.layer_count);
		total += read_all(plan.binds, (uint64_t)plan.head.bind_count * 2);
		total += read_all(plan.masks, plan.head.mask_count);
		total += read_all(plan.mounts, plan.head.mount_count);
		PROMISE(total < size);
		for (uint32_t i = 0; i < plan.seccomp_size; i++)
			total += plan.seccomp[i];
	}
	free(message);
	return 0;
}
