/* Identity, capabilities and filters. What the runner applies here stays with the job for good. */
#include "init.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

int set_hostname(struct init *init)
{
	return sethostname(init->plan.hostname, strlen(init->plan.hostname));
}

int raise_loopback(struct init *init)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	sbx_autoclose int fd = -1;

	if (!(init->plan.head.flags & SBX_PLAN_LOOPBACK) || skipped(init, SBX_LAYER_NETNS))
		return 0;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &request);
}

/* No user namespace below ours: whatever a filter lets through, none of the kernel's code for
 * namespaced root is reached. The number is this namespace's own, and takes a capability in it. */
static int forbid_nested_userns(const struct init *init)
{
	sbx_autoclose int fd =
		openat(init->settings, "user/max_user_namespaces", O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, "0", 1) == 1 ? close(init->settings) : -1;
}

static bool is_build(const struct init *init)
{
	return init->plan.head.flags & SBX_PLAN_BUILD;
}

/* Whether some process of the sandbox may be its root. */
static bool has_root(const struct init *init)
{
	return init->plan.head.flags & SBX_PLAN_RANGE;
}

static int empty_bounding_set(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
	return errno == EINVAL ? 0 : -1; /* the number after the last */
}

/* The mount, pid and net namespaces were made before, so they belong to the host's user namespace:
 * no capability in ours reaches them. The maps are written by the host, which alone may. */
static int make_userns(struct init *init)
{
	struct sbx_head message = {SBX_MSG_MAP, SBX_ABI, 0};
	int fds[SBX_FDS_MAX];
	size_t count;

	if (skipped(init, SBX_LAYER_USERNS))
		return 0;
	if (unshare(CLONE_NEWUSER) != 0 ||
	    sbx_send(init->control, &message, sizeof(message), NULL, 0) != 0)
		return -1;
	if (sbx_receive(init->control, &message, sizeof(message), fds, &count, 0) !=
		    sizeof(message) ||
	    message.type != SBX_MSG_MAPPED) {
		errno = EPROTO;
		return -1;
	}
	if (setgroups(0, NULL) != 0 || forbid_nested_userns(init) != 0)
		return -1;
	init->layers |= 1u << SBX_LAYER_USERNS;
	return 0;
}

/* The bounding set goes here, once for init and every runner that it forks. Root needs a part of
 * it. */
int enter_userns(struct init *init)
{
	if (make_userns(init) != 0)
		return -1;
	return has_root(init) || skipped(init, SBX_LAYER_CAPABILITIES) ? 0 : empty_bounding_set();
}

/* What a package manager needs of root to unpack what belongs to others, and sudo to run a command
 * as another, over the ids of their own user namespace: those of the image's files, and no others.
 */
enum {
	ROOT_CAPABILITIES = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER |
			    1u << CAP_FSETID | 1u << CAP_KILL | 1u << CAP_SETGID | 1u << CAP_SETUID,
};

static int bound_to_root(const struct init *init)
{
	if (skipped(init, SBX_LAYER_CAPABILITIES))
		return 0;
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if ((cap > 31 || !(ROOT_CAPABILITIES & 1u << cap)) &&
		    prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
			return -1;
	errno = 0;
	return 0;
}

/* Root keeps them over exec and loses them when it becomes another, as root does. */
static int root_capabilities(const struct init *init)
{
	const unsigned long locked = SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
				     SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
				     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct some[2] = {
		{.effective = ROOT_CAPABILITIES, .permitted = ROOT_CAPABILITIES}};

	if (skipped(init, SBX_LAYER_CAPABILITIES))
		return 0;
	return bound_to_root(init) != 0 || prctl(PR_SET_SECUREBITS, locked, 0, 0, 0) != 0
		       ? -1
		       : (int)syscall(SYS_capset, &header, some);
}

/* What init may give to those that it forks. In effect in init itself is the right to end processes
 * alone, which are not all of the uid that it has for that. To lock itself down a runner needs
 * CAP_SETPCAP, which none keeps. */
static int lend_capabilities(const struct init *init, bool effective)
{
	const uint32_t lent = ROOT_CAPABILITIES | 1u << CAP_SETPCAP;
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct some[2] = {
		{.effective = effective ? lent : 1u << CAP_KILL, .permitted = lent}};

	if (skipped(init, SBX_LAYER_CAPABILITIES))
		return 0;
	return (int)syscall(SYS_capset, &header, some);
}

static int no_capabilities(const struct init *init)
{
	const unsigned long locked = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
				     SECBIT_NO_CAP_AMBIENT_RAISE |
				     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {0}, now[2];

	if (skipped(init, SBX_LAYER_CAPABILITIES))
		return 0;
	if (has_root(init) && empty_bounding_set() != 0)
		return -1;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
	    (prctl(PR_GET_SECUREBITS) != (int)locked &&
	     prctl(PR_SET_SECUREBITS, locked, 0, 0, 0) != 0) ||
	    syscall(SYS_capset, &header, none) != 0 || syscall(SYS_capget, &header, now) != 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		if (now[i].effective || now[i].permitted || now[i].inheritable) {
			errno = EPERM;
			return -1;
		}
	}
	return 0;
}

/* Without a user namespace (test build) a change of uid would take the very capability that the
 * stage of capabilities works with. */
static int keep_for_capabilities(const struct init *init)
{
	if (!skipped(init, SBX_LAYER_USERNS))
		return 0;
	return prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0);
}

/* See the head of init.c for why init has three identities. setfsuid(2) reports the old value and
 * no error, so a second call checks the first. */
static int become_init(const struct init *init)
{
	const struct sbx_plan *plan = &init->plan.head;
	const bool outside = skipped(init, SBX_LAYER_USERNS);
	const uid_t job = outside ? plan->host_job_uid : plan->job_uid;
	const uid_t own = outside ? plan->host_init_uid : plan->init_uid;

	if (skipped(init, SBX_LAYER_IDENTITY))
		return 0;
	if (keep_for_capabilities(init) != 0)
		return -1;
	/* The real ones are also what a late runner may become. */
	if (setresgid(job, own, own) != 0)
		return -1;
	setfsgid(job);
	if (setresuid(job, own, own) != 0)
		return -1;
	setfsuid(job);
	if ((gid_t)setfsgid((gid_t)-1) != job || (uid_t)setfsuid((uid_t)-1) != job) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

int drop_init_privileges(struct init *init)
{
	if (become_init(init) != 0)
		return -1;
	if ((init->plan.head.flags & SBX_PLAN_ROOT
		     ? bound_to_root(init) != 0 || lend_capabilities(init, false) != 0
		     : no_capabilities(init) != 0) ||
	    prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	init->layers |= 1u << SBX_LAYER_CAPABILITIES;
	return 0;
}

int drop_job_privileges(struct init *init)
{
	const struct sbx_plan *plan = &init->plan.head;
	const uid_t job = skipped(init, SBX_LAYER_USERNS) ? plan->host_job_uid : plan->job_uid;
	const uid_t own = init->root ? job - plan->job_uid : job;
	const bool root = init->root || (is_build(init) && plan->job_uid == 0);

	if (init->late && plan->flags & SBX_PLAN_ROOT && lend_capabilities(init, true) != 0)
		return -1;
	if (!skipped(init, SBX_LAYER_IDENTITY) &&
	    (keep_for_capabilities(init) != 0 || setresgid(own, own, own) != 0 ||
	     setresuid(own, own, own) != 0))
		return -1;
	if ((root ? root_capabilities(init) : no_capabilities(init)) != 0 ||
	    prctl(PR_SET_DUMPABLE, 0) != 0)
		return -1;
	init->layers |= 1u << SBX_LAYER_CAPABILITIES;
	return 0;
}

static int allow_below(int ruleset, int fd, uint64_t access)
{
	struct sbx_landlock_path rule = {access, fd};

	return (int)syscall(SYS_landlock_add_rule, ruleset, SBX_LANDLOCK_RULE_PATH, &rule, 0);
}

static int allow_path(int ruleset, const char *path, uint64_t access)
{
	sbx_autoclose int fd = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	return allow_below(ruleset, fd, access);
}

/* Mounts of the host's that are not read-only may be written to: volumes. */
static int allow_mounts(const struct init *init, int ruleset, uint64_t access)
{
	struct sbx_cursor cursor = init->plan.mounts;

	for (uint32_t i = 0; i < init->plan.head.mount_count; i++) {
		sbx_autoclose int fd = open(sbx_string(&cursor), O_PATH | O_CLOEXEC);
		struct statvfs fs;

		if (fd < 0 || fstatvfs(fd, &fs) != 0 ||
		    (!(fs.f_flag & ST_RDONLY) && allow_below(ruleset, fd, access) != 0))
			return -1;
	}
	return 0;
}

/* Read and execute everywhere; write only to the scratch directories, volumes, our devices, the
 * message queues, and one's own files in /proc. A build and a session write everywhere, which is
 * their upper directory. Abstract sockets and signals stay within the job. */
int restrict_landlock(struct init *init)
{
	const uint64_t read = 1u | 1u << 2 | 1u << 3, write = 1u << 1 | SBX_LANDLOCK_FS_TRUNCATE;
	const uint64_t devices = 1u << 1 | 1u << 2 | SBX_LANDLOCK_FS_IOCTL_DEV;
	const bool session = init->plan.head.flags & SBX_PLAN_SESSION;
	const bool anywhere = session || is_build(init);
	struct sbx_landlock_ruleset rules = {.access_fs = SBX_LANDLOCK_FS_V1};
	sbx_autoclose int queues = init->queues;
	long abi;

	if (!(init->plan.head.flags & SBX_PLAN_LANDLOCK) || skipped(init, SBX_LAYER_LANDLOCK))
		return 0;
	abi = syscall(SYS_landlock_create_ruleset, NULL, 0, SBX_LANDLOCK_CREATE_VERSION);
	if (abi < 1)
		return -1;
	rules.access_fs |= (abi >= 2 ? SBX_LANDLOCK_FS_REFER : 0) |
			   (abi >= 3 ? SBX_LANDLOCK_FS_TRUNCATE : 0) |
			   (abi >= 5 ? SBX_LANDLOCK_FS_IOCTL_DEV : 0);
	/* Every process of a session is a domain of its own, yet may talk to the others. */
	rules.scoped = abi >= 6 && !session ? SBX_LANDLOCK_SCOPES : 0;
	sbx_autoclose int ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &rules,
			     abi >= 6 ? sizeof(rules) : sizeof(rules.access_fs), 0);
	const uint64_t scratch = rules.access_fs & ~SBX_LANDLOCK_FS_IOCTL_DEV;

	/* In a session a name may by now lead elsewhere, but for /, /dev and /proc. */
	if (ruleset < 0 || allow_path(ruleset, "/", anywhere ? scratch : read) != 0 ||
	    (!anywhere && (allow_mounts(init, ruleset, scratch) != 0 ||
			   allow_path(ruleset, "/work", scratch) != 0 ||
			   allow_path(ruleset, "/tmp", scratch) != 0 ||
			   allow_path(ruleset, "/dev/shm", scratch) != 0)) ||
	    allow_path(ruleset, "/dev", devices & rules.access_fs) != 0 ||
	    allow_path(ruleset, "/proc", write & rules.access_fs) != 0 ||
	    (queues >= 0 && allow_below(ruleset, queues, 1u << 1 | 1u << 2) != 0))
		return -1;
	/* restrict_self asks for no_new_privs, which is a stage of its own further on, or for
	 * CAP_SYS_ADMIN, which is gone: so it is set here first. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
		return -1;
	init->layers |= 1u << SBX_LAYER_LANDLOCK;
	return 0;
}

/* The label takes effect at the next exec, or at once in a copy of a zygote, which has none. The
 * file must be the real procfs: a runtime that wrote it into a planted file would run its job
 * unconfined (CVE-2025-52881). */
int set_apparmor(struct init *init)
{
	const char *verb = init->copy.is ? "changeprofile " : "exec ";
	const size_t length = strlen(init->plan.apparmor);
	char text[sizeof("changeprofile ") + SBX_NAME_MAX];
	struct statfs fs;
	sbx_autoclose int fd = -1;

	if (length == 0 || skipped(init, SBX_LAYER_APPARMOR))
		return 0;
	if (length > SBX_NAME_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = open(init->copy.is ? "/proc/thread-self/attr/apparmor/current"
				: "/proc/thread-self/attr/apparmor/exec",
		  O_WRONLY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &fs) != 0)
		return -1;
	if (fs.f_type != PROC_SUPER_MAGIC) {
		errno = EXDEV;
		return -1;
	}
	memcpy(stpcpy(text, verb), init->plan.apparmor, length);
	if (SBX_RETRY(write(fd, text, strlen(verb) + length)) < 0)
		return -1;
	init->layers |= 1u << SBX_LAYER_APPARMOR;
	return 0;
}

int set_no_new_privs(struct init *init)
{
	if (skipped(init, SBX_LAYER_NO_NEW_PRIVS))
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	init->layers |= 1u << SBX_LAYER_NO_NEW_PRIVS;
	return 0;
}

int load_seccomp(struct init *init)
{
	struct sock_fprog program = {
		.len = (unsigned short)(init->plan.seccomp_size / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)(uintptr_t)init->plan.seccomp,
	};

	if (skipped(init, SBX_LAYER_SECCOMP))
		return 0;
	if (init->plan.seccomp_size == 0 ||
	    init->plan.seccomp_size % sizeof(struct sock_filter) != 0 ||
	    init->plan.seccomp_size / sizeof(struct sock_filter) > BPF_MAXINSNS) {
		errno = EINVAL;
		return -1;
	}
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
		return -1;
	init->layers |= 1u << SBX_LAYER_SECCOMP;
	return 0;
}
