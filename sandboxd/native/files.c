/* Files in and out. Every path is resolved below /work, without links, magic links or a change of
 * file system, with the job's own rights on files. */
#include "init.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

static int open_below(int dir, const char *path, uint64_t flags, uint64_t mode)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC | O_NOFOLLOW,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};

	return SBX_RETRY(sbx_openat2(dir, path, &how));
}

/* One directory at a time, each opened below the one before: a path that leaves and a link both end
 * it, where mkdir of a longer path would follow them. */
static int make_parents(int work, const char *path)
{
	const char *end;
	char part[SBX_NAME_MAX + 1];
	sbx_autoclose int dir = open_below(work, ".", O_PATH | O_DIRECTORY, 0);

	for (; dir >= 0 && (end = strchr(path, '/')) != NULL; path = end + 1) {
		const size_t length = (size_t)(end - path);
		int next;

		if (length == 0)
			continue;
		errno = ENAMETOOLONG;
		if (length > SBX_NAME_MAX)
			return -1;
		memcpy(part, path, length);
		part[length] = 0;
		if (mkdirat(dir, part, 0755) != 0 && errno != EEXIST)
			return -1;
		next = open_below(dir, part, O_PATH | O_DIRECTORY, 0);
		close(dir);
		dir = next;
	}
	return dir < 0 ? -1 : 0;
}

int write_file(int work, const struct file *file)
{
	const uint64_t flags = O_WRONLY | O_CREAT | O_EXCL, mode = file->mode & 0777;
	const uint8_t *data = file->data;
	uint32_t left = file->size;
	sbx_autoclose int fd = open_below(work, file->path, flags, mode);

	if (fd < 0 && errno == ENOENT) {
		if (make_parents(work, file->path) != 0)
			return -1;
		fd = open_below(work, file->path, flags, mode);
	}
	if (fd < 0)
		return -1;
	while (left > 0) {
		ssize_t written = SBX_RETRY(write(fd, data, left));

		if (written < 0)
			return -1;
		data += written;
		left -= (uint32_t)written;
	}
	return 0;
}

/* Answer with an fd of a regular file, or with the errno why not. O_NONBLOCK, since opening a FIFO
 * would wait for its writer. */
static void answer(struct init *init, int dir, const char *name, bool more)
{
	uint8_t message[sizeof(struct sbx_opened) + SBX_NAME_MAX + 1];
	struct sbx_opened opened = {{SBX_MSG_OPENED, SBX_ABI, 0}, 0, more};
	const char *base = strrchr(name, '/');
	size_t length;
	struct stat status;
	sbx_autoclose int fd = open_below(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);

	base = base ? base + 1 : name;
	length = strnlen(base, SBX_NAME_MAX);
	if (fd < 0)
		opened.err = errno;
	else if (fstat(fd, &status) != 0)
		opened.err = errno;
	else if (!S_ISREG(status.st_mode))
		opened.err = EISDIR;
	memcpy(message, &opened, sizeof(opened));
	memcpy(message + sizeof(opened), base, length);
	sbx_send(init->control, message, sizeof(opened) + length, &fd, opened.err == 0);
}

static void end_of_answers(struct init *init, int err)
{
	struct sbx_opened opened = {{SBX_MSG_OPENED, SBX_ABI, 0}, err, 0};

	sbx_send(init->control, &opened, sizeof(opened), NULL, 0);
}

struct entry {
	uint64_t inode, offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

static void send_matches(struct init *init, int dir, const char *pattern)
{
	static _Alignas(8) char buffer[16384];
	unsigned sent = 0;
	long size;

	while ((size = syscall(SYS_getdents64, dir, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < size;) {
			const struct entry *entry = (const struct entry *)(buffer + at);

			at += entry->length;
			if (fnmatch(pattern, entry->name, FNM_PERIOD) != 0)
				continue;
			if (++sent > SBX_GLOB_MAX) {
				end_of_answers(init, E2BIG);
				return;
			}
			answer(init, dir, entry->name, true);
		}
	}
	end_of_answers(init, size < 0 ? errno : 0);
}

void send_files(struct init *init, const char *path, bool glob)
{
	const char *base = strrchr(path, '/');
	char parent[2048] = ".";
	sbx_autoclose int dir = -1;

	if (!glob) {
		answer(init, init->work, path, false);
		return;
	}
	if (base != NULL && (size_t)(base - path) < sizeof(parent)) {
		memcpy(parent, path, (size_t)(base - path));
		parent[base - path] = 0;
	}
	dir = open_below(init->work, parent, O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		end_of_answers(init, errno);
	else
		send_matches(init, dir, base ? base + 1 : path);
}
