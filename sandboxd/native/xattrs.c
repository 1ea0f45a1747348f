/* Extended attributes of the `user` kind: what programs note about files. */
#include "service.h"

#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

enum { VALUE_MAX = 4096 };
static const char kind[] = "user.";

int set_xattrs(int fd, const char *lines)
{
	char line[NAME_MAX + 1 + VALUE_MAX];

	for (const char *end; *lines != 0; lines = end + 1) {
		char *equals;
		size_t length;

		errno = EINVAL;
		end = strchr(lines, '\n');
		if (end == NULL || (length = (size_t)(end - lines)) >= sizeof(line))
			return -1;
		memcpy(line, lines, length);
		line[length] = 0;
		equals = strchr(line, '=');
		if (equals == NULL || strncmp(line, kind, strlen(kind)) != 0)
			return -1;
		*equals++ = 0;
		if (fsetxattr(fd, line, equals, strlen(equals), 0) != 0)
			return -1;
	}
	return 0;
}

int add_xattrs(struct answers *answers, int dir, const char *name, mode_t mode, int flags)
{
	static char names[XATTR_LIST_MAX];
	const struct stat nothing = {0};
	char value[VALUE_MAX];
	ssize_t size;
	sbx_autoclose int fd = -1;

	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return 0; /* to open another kind may do something */
	fd = open_inside(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | flags, 0);
	size = fd < 0 ? -1 : flistxattr(fd, names, sizeof(names));
	for (const char *at = names; size > 0 && at < names + size; at += strlen(at) + 1) {
		ssize_t length;

		if (strncmp(at, kind, strlen(kind)) != 0)
			continue;
		length = fgetxattr(fd, at, value, sizeof(value) - 1);
		if (length < 0)
			continue;
		value[length] = 0;
		if (add_entry(answers, &nothing, SBX_XATTR, at, value) != 0)
			return -1;
	}
	return 0;
}
