/* What the parts of the file service share. It runs as the job, under the job's locks, so whatever
 * path the host asks for is resolved with no more rights than the job has. */
#ifndef SBX_SERVICE_H
#define SBX_SERVICE_H

#include "wire.h"

#include <sys/stat.h>

/* One request. Pointers lead into its message. */
struct request {
	struct sbx_file_request head;
	const char *path, *target; /* the second where the op has one, else empty */
	const char *xattrs;
	const uint8_t *content;
	uint32_t content_size;
};

/* Read a request that came with `fd_count` descriptors. 0, or -1 with EPROTO. */
int parse_request(struct request *request, const uint8_t *message, size_t size, size_t fd_count);

/* Whether the op has a process and a socket of its own. */
bool takes_long(uint32_t op);

/* Answers are collected in one message and sent when it is full or complete. One per process. */
struct answers {
	int socket;
	uint32_t id;
	size_t used;
	uint8_t buffer[SBX_FILE_MESSAGE_MAX];
};

/* Add an entry; `name` and `target` are cut at what a message holds. -1 if the host is gone. */
int add_entry(struct answers *answers, const struct stat *status, enum sbx_change change,
	      const char *name, const char *target);

/* Send what has been collected; more answers follow. -1 if the host is gone. */
int flush_answers(struct answers *answers);

/* Send the last answer, with a descriptor unless it is -1. */
void finish_answers(struct answers *answers, int err, uint64_t count, int fd);

/* The last answer with one entry: what is at `name` below `dir` now. */
void finish_with(struct answers *answers, int dir, const char *name, bool follow);

/* openat2 as the job: links are followed, those of /proc are not. */
int open_inside(int dir, const char *path, int flags, mode_t mode);

/* Make every directory of `path` but its last part. 0 or -1 with errno. */
int make_parents_inside(int dir, const char *path, bool last, mode_t mode);

/* A directory that a path's last part is in, and that part. -1 with errno (EINVAL where it is none:
 * empty, `.` or `..`). */
int open_parent(int dir, const char *path, const char **last);

/* upload.c: put and write. */
void put_file(struct answers *answers, int dir, const struct request *request);
void write_stream(struct answers *answers, int dir, const struct request *request, int pipe);

/* xattrs.c: give a file the attributes of these lines, see SBX_FILE_XATTRS. 0 or -1 with errno. */
int set_xattrs(int fd, const char *lines);

/* Add an entry for each user attribute of what is at `name`, which has that mode; `flags` of
 * open(2). -1 if the host is gone. */
int add_xattrs(struct answers *answers, int dir, const char *name, mode_t mode, int flags);

/* tree.c */
void list_tree(struct answers *answers, int dir, const struct request *request);
void remove_tree(struct answers *answers, int dir, const struct request *request);

/* watch.c */
void watch_tree(struct answers *answers, int dir, const struct request *request);

#endif
