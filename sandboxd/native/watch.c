/* Changes of files, by inotify inside. A directory that comes to be, or is moved here, is watched
 * from then on, and what is in it already is told as created: before our watch, much may have
 * happened. One that is moved within the tree keeps its watch (which is on the directory, not on
 * its name), so nothing of it is told twice.
 */
#include "service.h"

#include "kernel.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/vfs.h>

enum { DIRECTORIES_MAX = 8192, DEPTH_MAX = 64 };

struct watch {
	struct answers *answers;
	int inotify, top;
	bool recursive, lost; /* some directory could not be watched */
	/* A directory that went, until the next event says whether it only has another name now. */
	struct {
		uint32_t cookie;
		char *path;
	} moving;
	size_t count;
	struct {
		int id;
		char *path; /* below the top, ends with a slash unless it is empty */
	} directories[DIRECTORIES_MAX];
};

static int tell(struct watch *watch, enum sbx_change change, const char *path, bool directory)
{
	const struct stat status = {.st_mode = directory ? S_IFDIR : S_IFREG};

	return add_entry(watch->answers, &status, change, path, "");
}

static char *join(const char *directory, const char *name, const char *end)
{
	const size_t length = strlen(directory) + strlen(name) + strlen(end) + 1;
	char *path = malloc(length);

	if (path != NULL)
		stpcpy(stpcpy(stpcpy(path, directory), name), end);
	return path;
}

static void forget(struct watch *watch, size_t i)
{
	free(watch->directories[i].path);
	watch->directories[i] = watch->directories[--watch->count];
}

/* Directories that were moved away, with all below them. */
static void forget_below(struct watch *watch, const char *path)
{
	const size_t length = strlen(path);

	for (size_t i = watch->count; i-- > 0;) {
		if (strncmp(watch->directories[i].path, path, length) != 0)
			continue;
		inotify_rm_watch(watch->inotify, watch->directories[i].id);
		forget(watch, i);
	}
}

/* What is left under the name of a directory that went has gone with it. */
static void forget_moved(struct watch *watch)
{
	if (watch->moving.path == NULL)
		return;
	forget_below(watch, watch->moving.path);
	free(watch->moving.path);
	watch->moving.path = NULL;
}

/* 1 if it was watched already, by whatever name; -1 if it cannot be watched. */
static int add(struct watch *watch, const char *path)
{
	const uint32_t mask = IN_CREATE | IN_CLOSE_WRITE | IN_MODIFY | IN_DELETE | IN_MOVED_FROM |
			      IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR | IN_EXCL_UNLINK |
			      IN_DONT_FOLLOW;
	char *kept = strdup(path);
	int id, known = 0;

	/* By path from the top, which is the working directory. */
	id = kept == NULL || watch->count == DIRECTORIES_MAX
		     ? -1
		     : inotify_add_watch(watch->inotify, *path ? path : ".", mask);
	if (id < 0) {
		free(kept);
		watch->lost = watch->lost || (errno != ENOENT && errno != ENOTDIR);
		return -1;
	}
	for (size_t i = 0; i < watch->count; i++) {
		if (watch->directories[i].id != id)
			continue;
		forget(watch, i);
		known = 1;
		break;
	}
	watch->directories[watch->count].id = id;
	watch->directories[watch->count++].path = kept;
	return known;
}

/* Watch `path` and all below it; if it is `fresh`, tell what is in the directories that were not
 * watched before.
 */
static int add_below(struct watch *watch, const char *path, bool fresh, int level)
{
	struct dirent *entry;
	struct statfs fs;
	DIR *directory;
	const int known = add(watch, path);
	int fd, result = 0;

	if (known < 0 || !watch->recursive || level >= DEPTH_MAX)
		return 0;
	fd = open_inside(watch->top, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return 0;
	if (fstatfs(fd, &fs) != 0 || fs.f_type == PROC_SUPER_MAGIC ||
	    (directory = fdopendir(fd)) == NULL) {
		close(fd);
		return 0;
	}
	while (result == 0 && (entry = readdir(directory)) != NULL) {
		const bool is_directory = entry->d_type == DT_DIR;
		char *below = join(path, entry->d_name, is_directory ? "/" : "");

		if (below != NULL && strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0) {
			if (fresh && !known) {
				char *name = join(path, entry->d_name, "");

				result = name == NULL ? 0
						      : tell(watch, SBX_CHANGE_CREATED, name,
							     is_directory);
				free(name);
			}
			if (is_directory && result == 0)
				result = add_below(watch, below, fresh, level + 1);
		}
		free(below);
	}
	closedir(directory);
	return result;
}

static enum sbx_change change_of(uint32_t mask)
{
	return mask & IN_CREATE       ? SBX_CHANGE_CREATED
	       : mask & IN_DELETE     ? SBX_CHANGE_REMOVED
	       : mask & IN_MOVED_FROM ? SBX_CHANGE_MOVED_FROM
	       : mask & IN_MOVED_TO   ? SBX_CHANGE_MOVED_TO
	       : mask & IN_ATTRIB     ? SBX_CHANGE_ATTRIBUTES
				      : SBX_CHANGE_MODIFIED;
}

static int follow(struct watch *watch, const char *path, const struct inotify_event *event)
{
	char *below;
	int result;

	if (!(event->mask & IN_ISDIR) || !watch->recursive ||
	    !(event->mask & (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM)))
		return 0;
	below = join(path, "", "/");
	if (below == NULL)
		return 0;
	if (event->mask & IN_MOVED_FROM) {
		watch->moving.cookie = event->cookie;
		watch->moving.path = below;
		return 0;
	}
	result = add_below(watch, below, true, 1);
	forget_moved(watch);
	free(below);
	return result;
}

static int handle(struct watch *watch, const struct inotify_event *event)
{
	int result = 0;
	size_t i;

	if (!(event->mask & IN_MOVED_TO) || event->cookie != watch->moving.cookie)
		forget_moved(watch);
	if (event->mask & IN_Q_OVERFLOW)
		return tell(watch, SBX_CHANGE_OVERFLOW, "", true);
	for (i = 0; i < watch->count && watch->directories[i].id != event->wd; i++)
		;
	if (i == watch->count)
		return 0;
	if (event->mask & IN_IGNORED) {
		forget(watch, i);
	} else if (event->len > 0) {
		char *path = join(watch->directories[i].path, event->name, "");

		if (path != NULL) {
			result = tell(watch, change_of(event->mask), path, event->mask & IN_ISDIR);
			if (result == 0)
				result = follow(watch, path, event);
		}
		free(path);
	}
	if (result == 0 && watch->lost) {
		watch->lost = false;
		result = tell(watch, SBX_CHANGE_OVERFLOW, "", true);
	}
	return result;
}

static void follow_changes(struct watch *watch)
{
	static _Alignas(8) char buffer[16384];
	struct pollfd waits[2] = {{watch->inotify, POLLIN, 0}, {watch->answers->socket, POLLIN, 0}};

	for (;;) {
		ssize_t size;

		if (SBX_RETRY(poll(waits, 2, -1)) < 0 || waits[1].revents)
			return; /* the host has heard enough */
		size = SBX_RETRY(read(watch->inotify, buffer, sizeof(buffer)));
		if (size <= 0)
			return;
		for (ssize_t at = 0; at < size;) {
			const struct inotify_event *event =
				(const struct inotify_event *)(buffer + at);

			at += (ssize_t)(sizeof(*event) + event->len);
			if (handle(watch, event) != 0)
				return;
		}
		if (watch->answers->used > 0 && flush_answers(watch->answers) != 0)
			return;
	}
}

void watch_tree(struct answers *answers, int dir, const struct request *request)
{
	static struct watch watch;
	const struct sbx_file_answer ready = {{SBX_MSG_FILED, SBX_ABI, 0}, answers->id, 0, true, 0};
	struct sbx_file_answer answer = ready;

	watch.answers = answers;
	watch.recursive = request->head.flags & SBX_FILE_RECURSIVE;
	watch.inotify = inotify_init1(IN_CLOEXEC);
	watch.top = open_inside(dir, request->path, O_RDONLY | O_DIRECTORY, 0);
	if (watch.inotify < 0 || watch.top < 0 || fchdir(watch.top) != 0) {
		finish_answers(answers, errno, 0, -1);
		return;
	}
	errno = 0;
	if (add_below(&watch, "", false, 1) != 0 || watch.count == 0) {
		finish_answers(answers, errno ? errno : ENOSPC, 0, -1);
		return;
	}
	answer.count = watch.count;
	if (sbx_send(answers->socket, &answer, sizeof(answer), NULL, 0) == 0)
		follow_changes(&watch);
}
