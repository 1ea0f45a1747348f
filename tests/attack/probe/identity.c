/* Deeds that ask for power: other identities, capabilities, other processes. */
#include "probe.h"

#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

static long fail_with(int number)
{
	errno = number;
	return -1;
}

static long become_root(void)
{
	return setresuid(0, 0, 0);
}

static long become_root_group(void)
{
	return setresgid(0, 0, 0);
}

static long become_neighbour(void)
{
	return setresuid(999, 999, 999);
}

static long join_groups(void)
{
	const gid_t groups[] = {0, 4, 6, 42};

	return setgroups(COUNT(groups), groups);
}

static long take_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct chown[2] = {{1, 1, 1}, {0, 0, 0}};

	return syscall(SYS_capset, &header, chown);
}

static long have_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct now[2];
	uint32_t any = 0;

	if (syscall(SYS_capget, &header, now) != 0)
		return -1;
	for (int i = 0; i < 2; i++)
		any |= now[i].effective | now[i].permitted | now[i].inheritable;
	return any ? 0 : fail_with(EPERM);
}

static long bounding_set(void)
{
	for (int cap = 0; cap < 40; cap++)
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			return 0;
	return fail_with(EPERM);
}

static long raise_ambient(void)
{
	take_capabilities();
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0);
}

static long unlock_securebits(void)
{
	return prctl(PR_SET_SECUREBITS, 0, 0, 0, 0);
}

/* 10 and 11 are what main() answers when it gained something by its file. */
static long gain_by(const char *path, int sign)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		/* Who is root already gains nothing that could be seen. */
		if (geteuid() == 0 && setresuid(65533, 65533, 65533) != 0)
			_exit(9);
		execl(path, "gain", NULL);
		_exit(errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == sign)
		return 0;
	return fail_with(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EPERM);
}

static long run_setuid(void)
{
	return gain_by("/opt/attack/setuid", 10);
}

static long run_filecaps(void)
{
	return gain_by("/opt/attack/filecaps", 11);
}

static long trace_init(void)
{
	return ptrace(PTRACE_SEIZE, 1, NULL, NULL);
}

static int sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		alarm(3);
		pause();
		_exit(0);
	}
	return pid;
}

static long with_child(long (*act)(pid_t))
{
	pid_t pid = sleeper();
	long result = pid < 0 ? -1 : act(pid);
	int saved = errno;

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	errno = saved;
	return result;
}

static long seize(pid_t pid)
{
	return ptrace(PTRACE_SEIZE, pid, NULL, NULL);
}

static long trace_child(void)
{
	return with_child(seize);
}

static long peek(pid_t pid)
{
	static char here[16];
	struct iovec local = {here, sizeof(here)}, remote = {here, sizeof(here)};

	return process_vm_readv(pid, &local, 1, &remote, 1, 0);
}

static long read_child(void)
{
	return with_child(peek);
}

static long steal(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	return syscall(SYS_pidfd_getfd, pidfd, 1, 0);
}

static long steal_fd(void)
{
	return with_child(steal);
}

static long steal_fd_of_init(void)
{
	return steal(1);
}

static long read_init(void)
{
	/* It may hold nothing at our address: the right was asked for first. */
	return peek(1) >= 0 || errno == EFAULT ? 0 : -1;
}

static long limit_init(void)
{
	struct rlimit limit = {64, 64};

	return syscall(SYS_prlimit64, 1, RLIMIT_NOFILE, &limit, NULL);
}

/* Nothing is sent: whether one may is what the landlock scope is asked. */
static long signal_init(void)
{
	return kill(1, 0);
}

static long raise_priority(void)
{
	return setpriority(PRIO_PROCESS, 0, -10);
}

static long real_time(void)
{
	const struct sched_param parameter = {.sched_priority = 10};

	return syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &parameter);
}

static long raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return -1;
	limit.rlim_cur = limit.rlim_max = limit.rlim_max + 1;
	return setrlimit(RLIMIT_NOFILE, &limit);
}

static long dodge_oom(const char *score)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -1 : write(fd, score, strlen(score));
}

static long oom_exempt(void)
{
	return dodge_oom("-900");
}

/* As a service may stand that is not to be preferred for the OOM killer. */
static long oom_ordinary(void)
{
	return dodge_oom("0");
}

static long privileges_again(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ||
			       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0
		       ? 0
		       : fail_with(EPERM);
}

const struct row identity_deeds[] = {
	{"become_root", become_root},
	{"become_root_group", become_root_group},
	{"become_neighbour", become_neighbour},
	{"join_groups", join_groups},
	{"take_capabilities", take_capabilities},
	{"have_capabilities", have_capabilities},
	{"bounding_set", bounding_set},
	{"raise_ambient", raise_ambient},
	{"unlock_securebits", unlock_securebits},
	{"run_setuid", run_setuid},
	{"run_filecaps", run_filecaps},
	{"trace_init", trace_init},
	{"trace_child", trace_child},
	{"read_child", read_child},
	{"steal_fd", steal_fd},
	{"steal_fd_of_init", steal_fd_of_init},
	{"read_init", read_init},
	{"limit_init", limit_init},
	{"signal_init", signal_init},
	{"raise_priority", raise_priority},
	{"real_time", real_time},
	{"raise_limit", raise_limit},
	{"oom_exempt", oom_exempt},
	{"oom_ordinary", oom_ordinary},
	{"privileges_again", privileges_again},
};
const size_t identity_count = COUNT(identity_deeds);
