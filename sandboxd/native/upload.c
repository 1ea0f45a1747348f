/* Files in. A file that is replaced has its old content until the new is whole: it is written under
 * another name beside it, and renamed.
 */
#include "service.h"

#include "kernel.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

enum { LINKS_MAX = 40, PIECE = 1 << 20 };

/* Where a new content goes. */
struct place {
	int parent;
	char name[NAME_MAX + 1];
	char draft[32];
	mode_t mode;
	bool exists;
};

static const char *hexadecimal(char *text, uint64_t number)
{
	for (int i = 15; i >= 0; i--, number >>= 4)
		text[i] = "0123456789abcdef"[number & 15];
	text[16] = 0;
	return text;
}

/* Follow the links of the last part, as opening it for writing would: what is replaced is the file,
 * not the link to it. */
static int find_place(struct place *place, int dir, const struct request *request)
{
	char path[4096], link[4096];
	const char *last;
	struct stat status;
	ssize_t length;

	errno = ENAMETOOLONG;
	if (strlen(request->path) >= sizeof(path))
		return -1;
	strcpy(path, request->path);
	place->parent = -1;
	for (int i = 0; i < LINKS_MAX; i++) {
		int from = place->parent < 0 ? dir : place->parent;
		int parent = open_parent(from, path, &last);

		if (place->parent >= 0)
			close(place->parent);
		place->parent = parent;
		errno = parent < 0 ? errno : ENAMETOOLONG;
		if (parent < 0 || strlen(last) > NAME_MAX)
			return -1;
		strcpy(place->name, last);
		place->exists = fstatat(parent, last, &status, AT_SYMLINK_NOFOLLOW) == 0;
		if (!place->exists || !S_ISLNK(status.st_mode))
			break;
		length = readlinkat(parent, last, link, sizeof(link) - 1);
		errno = length < 0 ? errno : ELOOP;
		if (length < 0 || i == LINKS_MAX - 1)
			return -1;
		link[length] = 0;
		strcpy(path, link);
	}
	if (place->exists && !S_ISREG(status.st_mode)) {
		errno = S_ISDIR(status.st_mode) ? EISDIR : ENXIO;
		return -1;
	}
	place->mode = place->exists && !(request->head.flags & SBX_FILE_MODE)
			      ? status.st_mode & 0777
			      : request->head.mode & 0777;
	return 0;
}

static int open_draft(struct place *place)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -1;
	strcpy(place->draft, ".sbx-");
	hexadecimal(place->draft + 5, number);
	return openat(place->parent, place->draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

static int publish(const struct place *place, int fd, const struct request *request)
{
	if (set_xattrs(fd, request->xattrs) != 0 || fchmod(fd, place->mode) != 0 ||
	    renameat(place->parent, place->draft, place->parent, place->name) != 0)
		return -1;
	return 0;
}

static void discard(const struct place *place)
{
	int err = errno;

	unlinkat(place->parent, place->draft, 0);
	errno = err;
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
	while (size > 0) {
		ssize_t written = SBX_RETRY(write(fd, data, size));

		if (written < 0)
			return -1;
		data += written;
		size -= (size_t)written;
	}
	return 0;
}

static int prepare(int dir, const struct request *request)
{
	return request->head.flags & SBX_FILE_PARENTS
		       ? make_parents_inside(dir, request->path, false, 0)
		       : 0;
}

void put_file(struct answers *answers, int dir, const struct request *request)
{
	struct place place = {.parent = -1};
	sbx_autoclose int fd = -1;
	int err = 0;

	if (prepare(dir, request) != 0 || find_place(&place, dir, request) != 0 ||
	    (fd = open_draft(&place)) < 0) {
		err = errno;
	} else if (write_all(fd, request->content, request->content_size) != 0 ||
		   publish(&place, fd, request) != 0) {
		err = errno;
		discard(&place);
	}
	if (err != 0)
		finish_answers(answers, err, 0, -1);
	else
		finish_with(answers, place.parent, place.name, false);
	if (place.parent >= 0)
		close(place.parent);
}

/* From the pipe into the file until the pipe ends. */
static int copy(int pipe, int fd)
{
	static uint8_t buffer[65536];
	ssize_t moved;

	while ((moved = SBX_RETRY(splice(pipe, NULL, fd, NULL, PIECE, SPLICE_F_MOVE))) > 0)
		;
	if (moved == 0 || errno != EINVAL)
		return moved == 0 ? 0 : -1;
	/* Not every file system, nor a file that is appended to, takes pages. */
	while ((moved = SBX_RETRY(read(pipe, buffer, sizeof(buffer)))) > 0)
		if (write_all(fd, buffer, (size_t)moved) != 0)
			return -1;
	return moved == 0 ? 0 : -1;
}

/* The pipe also ends when the sender is gone; that it has sent all is said apart. */
static bool confirmed(int socket)
{
	char nothing[16];

	return SBX_RETRY(recv(socket, nothing, sizeof(nothing), 0)) > 0;
}

static void replace(struct answers *answers, int dir, const struct request *request, int pipe)
{
	struct place place = {.parent = -1};
	sbx_autoclose int fd = -1;

	if (find_place(&place, dir, request) != 0 || (fd = open_draft(&place)) < 0) {
		finish_answers(answers, errno, 0, -1);
		return;
	}
	if (copy(pipe, fd) != 0) {
		discard(&place);
		finish_answers(answers, errno, 0, -1);
	} else if (!confirmed(answers->socket)) {
		discard(&place);
	} else if (publish(&place, fd, request) != 0) {
		discard(&place);
		finish_answers(answers, errno, 0, -1);
	} else {
		finish_with(answers, place.parent, place.name, false);
	}
}

/* What arrives stays, whether or not the rest comes: the sender asks for the size and goes on. */
static void add_to(struct answers *answers, int dir, const struct request *request, int pipe)
{
	const bool append = request->head.flags & SBX_FILE_APPEND;
	const off_t offset = (off_t)request->head.offset;
	struct stat status;
	sbx_autoclose int fd = -1;

	errno = ENXIO;
	if (fstatat(dir, request->path, &status, 0) == 0 && !S_ISREG(status.st_mode)) {
		finish_answers(answers, S_ISDIR(status.st_mode) ? EISDIR : ENXIO, 0, -1);
		return;
	}
	fd = open_inside(dir, request->path,
			 O_WRONLY | O_CREAT | O_NOCTTY | O_NONBLOCK | (append ? O_APPEND : 0),
			 request->head.mode & 0777);
	if (fd < 0 || fstat(fd, &status) != 0) {
		finish_answers(answers, errno, 0, -1);
		return;
	}
	if (!S_ISREG(status.st_mode) || (!append && (offset < 0 || offset > status.st_size)) ||
	    (!append && lseek(fd, offset, SEEK_SET) < 0)) {
		finish_answers(answers, S_ISREG(status.st_mode) ? EINVAL : ENXIO, 0, -1);
		return;
	}
	if (copy(pipe, fd) != 0)
		finish_answers(answers, errno, 0, -1);
	else if (confirmed(answers->socket))
		finish_with(answers, dir, request->path, true);
}

void write_stream(struct answers *answers, int dir, const struct request *request, int pipe)
{
	if (prepare(dir, request) != 0)
		finish_answers(answers, errno, 0, -1);
	else if (request->head.flags & (SBX_FILE_APPEND | SBX_FILE_AT))
		add_to(answers, dir, request, pipe);
	else
		replace(answers, dir, request, pipe);
}
