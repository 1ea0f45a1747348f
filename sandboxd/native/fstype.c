/* What a file is on; see host.h. */
#include "host.h"

#include <sys/vfs.h>

long sbx_fs_type(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) != 0 ? -1 : (long)fs.f_type;
}
