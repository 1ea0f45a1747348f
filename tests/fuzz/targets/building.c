/* What the host makes of the messages of a sandbox in the making, which it does not trust: each one
 * is a byte that says how many descriptors come along, a byte for its length, and that many bytes.
 */
#include "fuzz.h"

#include "spawn.c"

static int next_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* No process has this number: the maps of none are written. */
	struct sbx_sandbox sandbox = {-1, -1, -1, -1, -1, 0};
	const struct sbx_plan plan = {.job_uid = 1, .init_uid = 2};
	struct sbx_error error = {-1, 0, 0};
	int pair[2], fds[SBX_FDS_MAX], free_before, result = 0;
	unsigned awaited = 3;

	free_before = next_free();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return 0;
	for (int i = 0; i < SBX_FDS_MAX; i++)
		fds[i] = pair[1];
	while (result == 0 && size >= 2) {
		size_t count = data[0] % (SBX_FDS_MAX + 1);
		size_t length = data[1] < size - 2 ? data[1] : size - 2;

		PROMISE(sbx_send(pair[0], data + 2, length, fds, count) == 0);
		result = advance(&sandbox, pair[1], &plan, &awaited, &error);
		data += 2 + length;
		size -= 2 + length;
	}
	PROMISE(result >= -1 && result <= 1);
	PROMISE(result >= 0 || sbx_stage_name(error.stage) != NULL);
	PROMISE((awaited & 1) || sandbox.scratch >= 0);
	if (sandbox.scratch >= 0)
		close(sandbox.scratch);
	close(pair[0]);
	close(pair[1]);
	PROMISE(next_free() == free_before);
	return 0;
}
