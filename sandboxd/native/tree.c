/* Directories and all below them: listing and removal. Links are never followed, /proc is not
 * walked into, and of a tree deeper than the stack of descriptors the rest is left out (list) or
 * refused (remove).
 */
#include "service.h"

#include "kernel.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

enum { DEPTH_MAX = 500, BUFFER = 32768, PASSES_MAX = 64 };

struct entry {
	uint64_t inode, offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static bool is_proc(int dir)
{
	struct statfs fs;

	return fstatfs(dir, &fs) != 0 || fs.f_type == PROC_SUPER_MAGIC;
}

struct walk {
	struct answers *answers;
	unsigned depth;
	uint64_t skip, limit, met;
	bool xattrs;
	char path[4096];
};

/* One entry of a listing. 0, 1 when the page is full, -1 if the host is gone. */
static int show(struct walk *walk, int dir, const char *name, struct stat *status)
{
	char target[4096] = "";

	if (walk->met >= walk->skip + walk->limit)
		return 1;
	if (walk->met++ < walk->skip)
		return 0;
	if (S_ISLNK(status->st_mode) && readlinkat(dir, name, target, sizeof(target) - 1) < 0)
		target[0] = 0;
	if (add_entry(walk->answers, status, 0, walk->path, target) != 0)
		return -1;
	return walk->xattrs ? add_xattrs(walk->answers, dir, name, status->st_mode, O_NOFOLLOW) : 0;
}

static int list_below(struct walk *walk, int dir, unsigned level)
{
	_Alignas(8) char buffer[BUFFER / 8];
	const size_t prefix = strlen(walk->path);
	int result = 0;
	long size;

	while (result == 0 && (size = syscall(SYS_getdents64, dir, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; result == 0 && at < size;) {
			const struct entry *entry = (const struct entry *)(buffer + at);
			const size_t length = strlen(entry->name);
			struct stat status;

			at += entry->length;
			if (is_dots(entry->name) || prefix + length + 2 > sizeof(walk->path) ||
			    fstatat(dir, entry->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
				continue;
			memcpy(walk->path + prefix, entry->name, length + 1);
			result = show(walk, dir, entry->name, &status);
			if (result == 0 && S_ISDIR(status.st_mode) && level < walk->depth) {
				sbx_autoclose int below = open_inside(
					dir, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

				if (below >= 0 && !is_proc(below)) {
					strcpy(walk->path + prefix + length, "/");
					result = list_below(walk, below, level + 1);
				}
			}
			walk->path[prefix] = 0;
		}
	}
	return result;
}

void list_tree(struct answers *answers, int dir, const struct request *request)
{
	static struct walk walk;
	sbx_autoclose int top = open_inside(dir, request->path, O_RDONLY | O_DIRECTORY, 0);
	int result;

	walk = (struct walk){
		.answers = answers,
		.depth = request->head.mode < DEPTH_MAX ? request->head.mode : DEPTH_MAX,
		.skip = request->head.offset,
		.limit = request->head.length,
		.xattrs = request->head.flags & SBX_FILE_XATTRS,
	};
	if (top < 0) {
		finish_answers(answers, errno, 0, -1);
		return;
	}
	result = list_below(&walk, top, 1);
	if (result >= 0)
		finish_answers(answers, 0, result == 1 ? walk.met : 0, -1);
}

static int remove_below(int dir, unsigned level, uint64_t *removed);

static int remove_entry(int dir, const char *name, uint8_t type, unsigned level, uint64_t *removed)
{
	sbx_autoclose int below = -1;

	if (type != DT_DIR && unlinkat(dir, name, 0) == 0) {
		++*removed;
		return 0;
	}
	if (type != DT_DIR && errno != EISDIR)
		return errno == ENOENT ? 0 : -1;
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0) {
		++*removed;
		return 0;
	}
	if (errno != ENOTEMPTY && errno != EEXIST)
		return errno == ENOENT ? 0 : -1;
	errno = ENAMETOOLONG;
	if (level >= DEPTH_MAX)
		return -1;
	below = open_inside(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (below < 0 || remove_below(below, level + 1, removed) != 0)
		return -1;
	if (unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		return -1;
	++*removed;
	return 0;
}

/* What is removed while it is read may hide others from the reader: read again until nothing is
 * left, or until somebody fills it faster than we empty it. */
static int remove_below(int dir, unsigned level, uint64_t *removed)
{
	_Alignas(8) char buffer[BUFFER / 8];

	for (int pass = 0; pass < PASSES_MAX; pass++) {
		bool empty = true;
		long size;

		if (lseek(dir, 0, SEEK_SET) < 0)
			return -1;
		while ((size = syscall(SYS_getdents64, dir, buffer, sizeof(buffer))) > 0) {
			for (long at = 0; at < size;) {
				const struct entry *entry = (const struct entry *)(buffer + at);

				at += entry->length;
				if (is_dots(entry->name))
					continue;
				empty = false;
				if (remove_entry(dir, entry->name, entry->type, level, removed) !=
				    0)
					return -1;
			}
		}
		if (size < 0 || empty)
			return size < 0 ? -1 : 0;
	}
	errno = ENOTEMPTY;
	return -1;
}

void remove_tree(struct answers *answers, int dir, const struct request *request)
{
	const char *name;
	uint64_t removed = 0;
	struct stat status;
	sbx_autoclose int parent = open_parent(dir, request->path, &name);

	if (parent < 0 || fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
	    remove_entry(parent, name, S_ISDIR(status.st_mode) ? DT_DIR : DT_REG, 1, &removed) != 0)
		finish_answers(answers, errno, removed, -1);
	else
		finish_answers(answers, 0, removed, -1);
}
