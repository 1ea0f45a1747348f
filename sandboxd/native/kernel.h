/* Kernel interfaces that the C library does not wrap, and constants newer than its headers. */
#ifndef SBX_KERNEL_H
#define SBX_KERNEL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

/* Landlock up to ABI 6; a kernel that knows less is asked only for what it knows. */
struct sbx_landlock_ruleset {
	uint64_t access_fs, access_net, scoped;
};
struct sbx_landlock_path {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));
#define SBX_LANDLOCK_FS_V1          ((1ULL << 13) - 1)
#define SBX_LANDLOCK_FS_REFER       (1ULL << 13)
#define SBX_LANDLOCK_FS_TRUNCATE    (1ULL << 14)
#define SBX_LANDLOCK_FS_IOCTL_DEV   (1ULL << 15)
#define SBX_LANDLOCK_SCOPES         3ULL /* abstract unix sockets, signals */
#define SBX_LANDLOCK_CREATE_VERSION 1u
#define SBX_LANDLOCK_RULE_PATH      1

/* _Fork-free clone3: in C libraries the raw call is the only way to all of its flags. */
struct sbx_clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal;
	uint64_t stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

#define SBX_RETRY(expression)                                                                      \
	({                                                                                         \
		__typeof__(expression) result_;                                                    \
		do                                                                                 \
			result_ = (expression);                                                    \
		while (result_ == -1 && errno == EINTR);                                           \
		result_;                                                                           \
	})

static inline int sbx_open_tree(int dir, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dir, path, flags);
}

static inline int sbx_move_mount(int from, const char *from_path, int to, const char *to_path,
				 unsigned flags)
{
	return (int)syscall(SYS_move_mount, from, from_path, to, to_path, flags);
}

static inline int sbx_mount_setattr(int dir, const char *path, unsigned flags,
				    struct mount_attr *attr)
{
	return (int)syscall(SYS_mount_setattr, dir, path, flags, attr, sizeof(*attr));
}

static inline int sbx_fsopen(const char *type)
{
	return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

static inline int sbx_fsconfig(int fd, unsigned command, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fd, command, key, value, 0);
}

static inline int sbx_fsconfig_fd(int fs, const char *key, int fd)
{
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, key, NULL, fd);
}

static inline int sbx_fsmount(int fd, unsigned attributes)
{
	return (int)syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes);
}

static inline int sbx_openat2(int dir, const char *path, struct open_how *how)
{
	return (int)syscall(SYS_openat2, dir, path, how, sizeof(*how));
}

static inline int sbx_close_range(unsigned first, unsigned last)
{
	return (int)syscall(SYS_close_range, first, last, 0);
}

static inline void sbx_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define sbx_autoclose __attribute__((cleanup(sbx_cleanup_close)))

#endif
