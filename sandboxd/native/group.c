/* The control groups of one sandbox, made and removed in one call each. It is two dozen file
 * operations, of which each single one from Python would give up its lock and wait for it again.
 * What is to be done is told by steps, since v1 has it in four trees and other hosts in one. */
#include "host.h"
#include "kernel.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>

enum { ROOTS_MAX = 8, PAUSES = 60 };

struct making {
	const char *name;
	const int *roots;
	int directories[ROOTS_MAX]; /* of the group in each root, or -1 */
	const uint64_t *values;
	int *fds;
	size_t count, most;
};

static int keep(struct making *making, int fd)
{
	if (fd < 0)
		return -1;
	if (making->count == making->most) {
		close(fd);
		errno = EMFILE;
		return -1;
	}
	making->fds[making->count++] = fd;
	return 0;
}

/* The kernel may round down to a multiple of `unit`, never up; it does not say so. */
static int set_exactly(int directory, const struct sbx_step *step, uint64_t number)
{
	sbx_autoclose int fd = openat(directory, step->file, O_RDWR | O_CLOEXEC);
	char text[32];
	int length = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	ssize_t got;
	uint64_t taken;

	if (fd < 0 || write(fd, text, (size_t)length) != length)
		return -1;
	got = pread(fd, text, sizeof(text) - 1, 0);
	if (got < 0)
		return -1;
	text[got] = 0;
	taken = strtoull(text, NULL, 10);
	if (taken > number || number - taken >= step->unit) {
		errno = ERANGE;
		return -1;
	}
	return 0;
}

/* v1: an eventfd that becomes readable when what `step->at` was opened for happens. */
static int subscribe(struct making *making, int directory, const struct sbx_step *step)
{
	sbx_autoclose int control = openat(directory, step->file, O_WRONLY | O_CLOEXEC);
	char text[32];
	int length, event;

	if (control < 0 || step->at >= making->count) {
		errno = control < 0 ? errno : EINVAL;
		return -1;
	}
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (keep(making, event) != 0)
		return -1;
	length = snprintf(text, sizeof(text), "%d %d", event, making->fds[step->at]);
	return write(control, text, (size_t)length) == length ? 0 : -1;
}

static int take(struct making *making, const struct sbx_step *step)
{
	int *directory = &making->directories[step->root];

	switch (step->kind) {
	case SBX_STEP_MAKE:
		if (mkdirat(making->roots[step->root], making->name, 0755) != 0)
			return -1;
		*directory = openat(making->roots[step->root], making->name,
				    O_PATH | O_DIRECTORY | O_CLOEXEC);
		return *directory < 0 ? -1 : 0;
	case SBX_STEP_READ:
		return keep(making, openat(*directory, step->file, O_RDONLY | O_CLOEXEC));
	case SBX_STEP_WRITE:
		return keep(making, openat(*directory, step->file, O_WRONLY | O_CLOEXEC));
	case SBX_STEP_SET:
		return set_exactly(*directory, step, making->values[step->at]);
	case SBX_STEP_EVENT:
		return subscribe(making, *directory, step);
	default:
		errno = EINVAL;
		return -1;
	}
}

int sbx_group_make(const int *roots, size_t root_count, const char *name,
		   const struct sbx_step *steps, size_t step_count, const uint64_t *values,
		   int *fds, size_t fd_count)
{
	struct making making = {
		.name = name, .roots = roots, .values = values, .fds = fds, .most = fd_count};
	size_t done = 0;
	int err;

	if (root_count > ROOTS_MAX) {
		errno = EINVAL;
		return 0;
	}
	for (size_t i = 0; i < ROOTS_MAX; i++)
		making.directories[i] = -1;
	while (done < step_count && steps[done].root < root_count &&
	       take(&making, &steps[done]) == 0)
		done++;
	err = errno;
	for (size_t i = 0; i < ROOTS_MAX; i++)
		if (making.directories[i] >= 0)
			close(making.directories[i]);
	if (done == step_count)
		return -1;
	while (making.count > 0)
		close(fds[--making.count]);
	for (size_t i = 0; i < done; i++)
		if (steps[i].kind == SBX_STEP_MAKE)
			unlinkat(roots[steps[i].root], name, AT_REMOVEDIR);
	errno = err;
	return (int)done;
}

/* Between its death and its leaving the group there is a moment in a process's life. */
static int remove_one(int root, const char *name)
{
	double pause = 0.0005;

	for (int i = 0; unlinkat(root, name, AT_REMOVEDIR) != 0 && errno != ENOENT; i++) {
		if (errno != EBUSY || i == PAUSES)
			return -1;
		nanosleep(&(struct timespec){.tv_nsec = (long)(pause * 1e9)}, NULL);
		pause *= 1.12;
	}
	return 0;
}

int sbx_group_remove(const int *roots, size_t root_count, const char *name)
{
	for (size_t i = 0; i < root_count; i++)
		if (remove_one(roots[i], name) != 0)
			return -1;
	return 0;
}
