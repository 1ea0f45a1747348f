/* The process that serves files of a session: init forks it, it locks itself down as every runner
 * does, and then answers the host on its exec socket instead of becoming a program. What may take
 * long it leaves to a child with a socket of its own, so that nothing waits behind it. It keeps no
 * state, and the job may end it: the host starts another.
 */
#include "service.h"

#include "init.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>

enum { SOCKET_FD = 3, WORK_FD = 4, OPEN_FILES = 1024 };

static struct answers answers;

static int put(struct answers *out, const void *data, size_t size)
{
	memcpy(out->buffer + out->used, data, size);
	out->used += size;
	return 0;
}

static void put_field(struct answers *out, const char *text, uint32_t length)
{
	put(out, &length, sizeof(length));
	put(out, text, length);
}

int add_entry(struct answers *out, const struct stat *status, enum sbx_change change,
	      const char *name, const char *target)
{
	const struct sbx_file_entry entry = {
		.mode = status->st_mode,
		.uid = status->st_uid,
		.gid = status->st_gid,
		.change = change,
		.size = (uint64_t)status->st_size,
		.modified = (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec,
	};
	const size_t length = strnlen(name, 4096), target_length = strnlen(target, 4096);
	const size_t size = sizeof(entry) + 2 * sizeof(uint32_t) + length + target_length;

	if (out->used + size > sizeof(out->buffer) - sizeof(struct sbx_file_answer) &&
	    flush_answers(out) != 0)
		return -1;
	put(out, &entry, sizeof(entry));
	put_field(out, name, (uint32_t)length);
	put_field(out, target, (uint32_t)target_length);
	return 0;
}

static int send_answers(struct answers *out, int err, uint64_t count, bool more, int fd)
{
	const struct sbx_file_answer head = {
		{SBX_MSG_FILED, SBX_ABI, 0}, out->id, err, more, count};
	int result = sbx_send2(out->socket, &head, sizeof(head), out->buffer, out->used, &fd,
			       fd >= 0 ? 1 : 0);

	out->used = 0;
	return result;
}

int flush_answers(struct answers *out)
{
	return send_answers(out, 0, 0, true, -1);
}

void finish_answers(struct answers *out, int err, uint64_t count, int fd)
{
	send_answers(out, err, count, false, fd);
}

/* Add what is at `name`. 0 or -1 with errno. */
static int add_found(struct answers *out, int dir, const char *name, bool follow, mode_t *mode)
{
	struct stat status;
	char target[4096] = "";

	if (fstatat(dir, name, &status, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0)
		return -1;
	if (S_ISLNK(status.st_mode) && readlinkat(dir, name, target, sizeof(target) - 1) < 0)
		target[0] = 0;
	*mode = status.st_mode;
	return add_entry(out, &status, 0, name, target);
}

void finish_with(struct answers *out, int dir, const char *name, bool follow)
{
	mode_t mode;

	if (add_found(out, dir, name, follow, &mode) != 0)
		finish_answers(out, errno, 0, -1);
	else
		finish_answers(out, 0, 1, -1);
}

static void look(struct answers *out, int dir, const struct request *request)
{
	const bool follow = request->head.flags & SBX_FILE_FOLLOW;
	mode_t mode;

	if (add_found(out, dir, request->path, follow, &mode) != 0) {
		finish_answers(out, errno, 0, -1);
		return;
	}
	if (request->head.flags & SBX_FILE_XATTRS)
		add_xattrs(out, dir, request->path, mode, follow ? 0 : O_NOFOLLOW);
	finish_answers(out, 0, 1, -1);
}

int open_inside(int dir, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_NO_MAGICLINKS,
	};

	return SBX_RETRY(sbx_openat2(dir, path, &how));
}

int make_parents_inside(int dir, const char *path, bool last, mode_t mode)
{
	char part[4096];
	const size_t length = strlen(path);

	errno = ENAMETOOLONG;
	if (length >= sizeof(part))
		return -1;
	for (size_t i = 1; i <= length; i++) {
		const bool end = path[i] == 0;

		if ((path[i] != '/' && !end) || (end && !last))
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		if (mkdirat(dir, part, end ? mode : 0755) != 0 && errno != EEXIST)
			return -1;
	}
	return 0;
}

int open_parent(int dir, const char *path, const char **last)
{
	const char *slash = strrchr(path, '/');
	char parent[4096] = ".";

	*last = slash ? slash + 1 : path;
	errno = EINVAL;
	if (**last == 0 || strcmp(*last, ".") == 0 || strcmp(*last, "..") == 0)
		return -1;
	if (slash != NULL) {
		const size_t length = slash == path ? 1 : (size_t)(slash - path);

		errno = ENAMETOOLONG;
		if (length >= sizeof(parent))
			return -1;
		memcpy(parent, path, length);
		parent[length] = 0;
	}
	return open_inside(dir, parent, O_PATH | O_DIRECTORY, 0);
}

static void make_directory(struct answers *out, const struct request *request)
{
	struct stat status;

	if (make_parents_inside(WORK_FD, request->path, true, request->head.mode & 01777) != 0)
		finish_answers(out, errno, 0, -1);
	else if (fstatat(WORK_FD, request->path, &status, 0) == 0 && !S_ISDIR(status.st_mode))
		finish_answers(out, EEXIST, 0, -1);
	else
		finish_with(out, WORK_FD, request->path, true);
}

static void move(struct answers *out, const struct request *request)
{
	const char *name, *target;
	sbx_autoclose int from = open_parent(WORK_FD, request->path, &name);
	sbx_autoclose int to = from < 0 ? -1 : open_parent(WORK_FD, request->target, &target);
	const unsigned flags = request->head.flags & SBX_FILE_KEEP ? RENAME_NOREPLACE : 0;

	if (to < 0 || syscall(SYS_renameat2, from, name, to, target, flags) != 0)
		finish_answers(out, errno, 0, -1);
	else
		finish_with(out, WORK_FD, request->target, false);
}

static void unlink_one(struct answers *out, const struct request *request)
{
	const char *name;
	sbx_autoclose int parent = open_parent(WORK_FD, request->path, &name);

	if (parent >= 0 && (unlinkat(parent, name, 0) == 0 ||
			    (errno == EISDIR && unlinkat(parent, name, AT_REMOVEDIR) == 0)))
		finish_answers(out, 0, 1, -1);
	else
		finish_answers(out, errno, 0, -1);
}

/* Files of /proc are none to the host: reading them would be done with its rights. Looked at before
 * it is opened too, since to open a FIFO wakes whoever waits for it. */
static void open_for_reading(struct answers *out, const struct request *request)
{
	struct stat status;
	struct statfs fs;
	sbx_autoclose int fd = -1;
	int err = 0;

	if (fstatat(WORK_FD, request->path, &status, 0) == 0 && S_ISREG(status.st_mode))
		fd = open_inside(WORK_FD, request->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	else
		err = errno ? errno : S_ISDIR(status.st_mode) ? EISDIR : ENXIO;
	if (err == 0 && (fd < 0 || fstat(fd, &status) != 0 || fstatfs(fd, &fs) != 0))
		err = errno;
	else if (err == 0 && !S_ISREG(status.st_mode))
		err = ENXIO;
	else if (err == 0 && fs.f_type == PROC_SUPER_MAGIC)
		err = EOPNOTSUPP;
	if (err == 0)
		add_entry(out, &status, 0, request->path, "");
	finish_answers(out, err, err == 0, err == 0 ? fd : -1);
}

static void serve_at_once(struct answers *out, const struct request *request)
{
	errno = 0;
	switch (request->head.op) {
	case SBX_FILE_STAT:
		look(out, WORK_FD, request);
		break;
	case SBX_FILE_MKDIR:
		make_directory(out, request);
		break;
	case SBX_FILE_MOVE:
		move(out, request);
		break;
	case SBX_FILE_CHMOD:
		if (fchmodat(WORK_FD, request->path, request->head.mode & 01777, 0) != 0)
			finish_answers(out, errno, 0, -1);
		else
			finish_with(out, WORK_FD, request->path, true);
		break;
	case SBX_FILE_UNLINK:
		unlink_one(out, request);
		break;
	case SBX_FILE_OPEN:
		open_for_reading(out, request);
		break;
	default:
		put_file(out, WORK_FD, request);
	}
}

static void serve_long(struct answers *out, const struct request *request, const int *fds)
{
	switch (request->head.op) {
	case SBX_FILE_LIST:
		list_tree(out, WORK_FD, request);
		break;
	case SBX_FILE_REMOVE:
		remove_tree(out, WORK_FD, request);
		break;
	case SBX_FILE_WRITE:
		write_stream(out, WORK_FD, request, fds[1]);
		break;
	default:
		watch_tree(out, WORK_FD, request);
	}
}

static void serve(struct answers *out, const struct request *request, int *fds, size_t count)
{
	pid_t pid;

	out->id = request->head.id;
	out->used = 0;
	out->socket = SOCKET_FD;
	if (!takes_long(request->head.op)) {
		serve_at_once(out, request);
		return;
	}
	pid = fork();
	if (pid == 0) {
		close(SOCKET_FD);
		out->socket = fds[0];
		serve_long(out, request, fds);
		_exit(0);
	}
	if (pid < 0) {
		out->socket = fds[0];
		finish_answers(out, errno, 0, -1);
	}
	while (count > 0)
		close(fds[--count]);
}

_Noreturn void file_service(struct init *init)
{
	static _Alignas(8) uint8_t message[SBX_FILE_MESSAGE_MAX];
	const struct rlimit files = {OPEN_FILES, OPEN_FILES}, none = {0, 0};
	struct request request;
	int fds[SBX_FDS_MAX];
	size_t count;

	arm(init);
	signal(SIGCHLD, SIG_IGN);
	if (setrlimit(RLIMIT_NOFILE, &files) != 0 || setrlimit(RLIMIT_CORE, &none) != 0 ||
	    chdir("/") != 0)
		fail(SOCKET_FD, SBX_STAGE_RLIMITS, errno, 0);
	for (;;) {
		ssize_t size = sbx_receive(SOCKET_FD, message, sizeof(message), fds, &count, 0);

		if (size <= 0)
			_exit(size == 0 ? 0 : 1);
		if (parse_request(&request, message, (size_t)size, count) != 0)
			_exit(1);
		serve(&answers, &request, fds, count);
	}
}
