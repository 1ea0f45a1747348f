/* The plan of a sandbox, as init reads it. */
#ifndef SBX_PLAN_H
#define SBX_PLAN_H

#include "wire.h"

/* A parsed plan. Pointers lead into the message. */
struct plan {
	struct sbx_plan head;
	const char *hostname, *stage_dir, *apparmor;
	const uint8_t *seccomp;
	uint32_t seccomp_size;
	struct sbx_cursor layers, binds, masks, mounts; /* paths, pairs, paths, paths */
	int cgroups[SBX_FDS_MAX], mounted[SBX_FDS_MAX];
	int idmap; /* a user namespace, or -1 */
};

/* Read a plan that came with `fd_count` descriptors: the exec socket, then cgroup_count, then
 * mount_count, then one for SBX_PLAN_IDMAP. Afterwards `layers`, `binds`, `masks` and `mounts` hold
 * as many strings as the head says. 0, or -1 with EPROTO. */
int parse_plan(struct plan *plan, const uint8_t *message, size_t size, size_t fd_count);

#endif
