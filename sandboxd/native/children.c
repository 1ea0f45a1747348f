/* The processes that init has started for the host and not yet reaped, by the host's number. A
 * process is signalled by that number alone: as long as it stands here, its pid is nobody else's.
 */
#include "init.h"

#include <signal.h>

static struct child {
	uint32_t id;
	pid_t pid; /* 0: free */
} children[SBX_CHILDREN_MAX];

static struct child *find(uint32_t id)
{
	for (size_t i = 0; i < SBX_CHILDREN_MAX; i++)
		if (children[i].pid != 0 && children[i].id == id)
			return &children[i];
	return NULL;
}

int add_child(uint32_t id, pid_t pid)
{
	for (size_t i = 0; i < SBX_CHILDREN_MAX; i++) {
		if (children[i].pid == 0) {
			children[i] = (struct child){id, pid};
			return 0;
		}
	}
	errno = EAGAIN;
	return -1;
}

bool may_add_child(uint32_t id)
{
	size_t free = 0;

	for (size_t i = 0; i < SBX_CHILDREN_MAX; i++)
		free += children[i].pid == 0;
	errno = free == 0 ? EAGAIN : EEXIST;
	return free > 0 && find(id) == NULL;
}

bool remove_child(pid_t pid, uint32_t *id)
{
	for (size_t i = 0; i < SBX_CHILDREN_MAX; i++) {
		if (children[i].pid == pid) {
			*id = children[i].id;
			children[i].pid = 0;
			return true;
		}
	}
	return false;
}

/* Each leads a session and so a group of its own (see start_session). */
void signal_child(uint32_t id, int number)
{
	const struct child *child = find(id);

	if (child != NULL && number > 0 && number < 65)
		kill(-child->pid, number);
}
