/* Reading a plan: no system call, no state, so that it can be fuzzed as it is. */
#include "plan.h"

#include <errno.h>
#include <string.h>

int parse_plan(struct plan *plan, const uint8_t *message, size_t size, size_t fd_count)
{
	struct sbx_cursor cursor;
	size_t expected;

	errno = EPROTO;
	if (size < sizeof(plan->head))
		return -1;
	memcpy(&plan->head, message, sizeof(plan->head));
	if (plan->head.version != SBX_ABI || plan->head.cgroup_count > SBX_FDS_MAX - 2 ||
	    plan->head.layer_count == 0)
		return -1;
	expected = plan->head.cgroup_count + plan->head.mount_count +
		   (plan->head.flags & SBX_PLAN_IDMAP ? 2 : 1);
	if (fd_count != expected)
		return -1;
	cursor = (struct sbx_cursor){message + sizeof(plan->head), message + size, false};
	plan->hostname = sbx_string(&cursor);
	plan->stage_dir = sbx_string(&cursor);
	plan->layers = cursor;
	for (uint32_t i = 0; i < plan->head.layer_count && !cursor.bad; i++)
		sbx_string(&cursor);
	plan->seccomp = sbx_field(&cursor, &plan->seccomp_size);
	plan->apparmor = sbx_string(&cursor);
	plan->binds = cursor;
	for (uint32_t i = 0; i < plan->head.bind_count && !cursor.bad; i++) {
		sbx_string(&cursor);
		sbx_string(&cursor);
	}
	plan->masks = cursor;
	for (uint32_t i = 0; i < plan->head.mask_count && !cursor.bad; i++)
		sbx_string(&cursor);
	plan->mounts = cursor;
	for (uint32_t i = 0; i < plan->head.mount_count && !cursor.bad; i++)
		sbx_string(&cursor);
	return cursor.bad || cursor.at != cursor.end ? -1 : 0;
}
