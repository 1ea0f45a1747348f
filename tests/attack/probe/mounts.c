/* Deeds with mounts, roots, namespaces and devices; all in namespaces that are thrown away. */
#include "probe.h"

#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

static long mount_tmpfs(void)
{
	return mount("none", "/tmp", "tmpfs", 0, NULL);
}

static long mount_proc(void)
{
	return mount("none", "/tmp", "proc", 0, NULL);
}

static long mount_cgroup(void)
{
	return mount("none", "/tmp", "cgroup2", 0, NULL);
}

static long bind_root(void)
{
	return mount("/", "/tmp", NULL, MS_BIND, NULL);
}

static long remount_writable(void)
{
	return mount(NULL, "/opt/attack", NULL, MS_REMOUNT | MS_BIND, NULL);
}

static long uncover_proc(void)
{
	return umount2("/proc/softirqs", MNT_DETACH);
}

static long pivot(void)
{
	return chdir("/opt/attack") == 0 ? syscall(SYS_pivot_root, ".", ".") : -1;
}

static long change_root(void)
{
	return chroot("/tmp");
}

static long new_tmpfs(void)
{
	return syscall(SYS_fsopen, "tmpfs", 0);
}

static long clone_tree(void)
{
	return syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE);
}

static long clear_readonly(void)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};

	return syscall(SYS_mount_setattr, AT_FDCWD, "/opt/attack", 0, &attr, sizeof(attr));
}

static long new_user(void)
{
	return unshare(CLONE_NEWUSER);
}

static long new_mounts(void)
{
	return unshare(CLONE_NEWNS);
}

static long new_network(void)
{
	return unshare(CLONE_NEWNET);
}

static long clone_with(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return pid;
}

static long clone_user(void)
{
	return clone_with(CLONE_NEWUSER);
}

static long clone_all(void)
{
	return clone_with(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC);
}

static long clone3_user(void)
{
	uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
	long pid = syscall(SYS_clone3, args, sizeof(args));

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return pid;
}

static long join(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : setns(fd, 0);
}

static long join_mounts_of_init(void)
{
	return join("/proc/1/ns/mnt");
}

static long join_network_of_init(void)
{
	return join("/proc/1/ns/net");
}

static long make_device(void)
{
	int fd = -1;

	if (mknod("/tmp/zero", S_IFCHR | 0666, makedev(1, 5)) == 0)
		fd = open("/tmp/zero", O_RDONLY);
	unlink("/tmp/zero");
	return fd;
}

static long make_disk(void)
{
	long result = mknod("/tmp/disk", S_IFBLK | 0666, makedev(8, 0));

	unlink("/tmp/disk");
	return result;
}

static long make_whiteout(void)
{
	long result = mknod("/tmp/whiteout", S_IFCHR, 0);

	unlink("/tmp/whiteout");
	return result;
}

static long file_handle(void)
{
	union {
		struct file_handle head;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} handle = {.head.handle_bytes = MAX_HANDLE_SZ};
	int mount, root = open("/", O_RDONLY | O_DIRECTORY);

	if (syscall(SYS_name_to_handle_at, AT_FDCWD, "/opt/attack", &handle, &mount, 0) != 0)
		return -1;
	return syscall(SYS_open_by_handle_at, open("/opt/attack", O_RDONLY), &handle, O_RDONLY) >= 0
		       ? close(root)
		       : -1;
}

const struct row mount_deeds[] = {
	{"mount_tmpfs", mount_tmpfs},
	{"mount_proc", mount_proc},
	{"mount_cgroup", mount_cgroup},
	{"bind_root", bind_root},
	{"remount_writable", remount_writable},
	{"uncover_proc", uncover_proc},
	{"pivot", pivot},
	{"change_root", change_root},
	{"new_tmpfs", new_tmpfs},
	{"clone_tree", clone_tree},
	{"clear_readonly", clear_readonly},
	{"new_user", new_user},
	{"new_mounts", new_mounts},
	{"new_network", new_network},
	{"clone_user", clone_user},
	{"clone_all", clone_all},
	{"clone3_user", clone3_user},
	{"join_mounts_of_init", join_mounts_of_init},
	{"join_network_of_init", join_network_of_init},
	{"make_device", make_device},
	{"make_disk", make_disk},
	{"make_whiteout", make_whiteout},
	{"file_handle", file_handle},
};
const size_t mount_count = COUNT(mount_deeds);
