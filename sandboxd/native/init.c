/* sandbox-init: pid 1 of a sandbox.
 *
 * The node starts it by exec from a sealed memfd, as host root, in fresh mount, pid, net, ipc and
 * uts namespaces, with nothing but a control socket. It receives a plan, builds the sandbox stage
 * by stage (the order of the table below is the security argument), and forks the runner, which
 * locks itself down and waits to become the job. Then init gives up every privilege and serves: it
 * reaps, reports the job's end, and opens files for the host. The end of the control socket ends
 * init, and with it every process of the pid namespace.
 *
 * Identity after the `capabilities` stage: effective uid `init_uid`, so that the job cannot trace
 * it or change its limits; real uid the job's, which is what kill(2) asks for, so that init can end
 * the job; file system uid the job's, so that init sees of files exactly what the job sees. Where
 * the sandbox has a root (SBX_PLAN_ROOT), what a process of root's needs stays permitted to init,
 * and takes effect in those that it forks; in init itself, to end them.
 */
#include "init.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static uint8_t plan_buffer[SBX_PLAN_MAX];

_Noreturn void fail(int socket, enum sbx_stage stage, int err, int index)
{
	struct sbx_fail report = {{SBX_MSG_FAIL, SBX_ABI, 0}, (int32_t)stage, err, index};

	sbx_send(socket, &report, sizeof(report), NULL, 0);
	_exit(127);
}

void run_stages(struct init *init, const struct stage *stages, size_t count, const int *socket)
{
	for (size_t i = 0; i < count; i++) {
		init->index = 0;
#ifdef SBX_TEST
		if (init->plan.head.fault_stage == stages[i].id)
			fail(*socket, stages[i].id, EL3HLT, 0);
#endif
		errno = 0;
		if (stages[i].run(init) != 0)
			fail(*socket, stages[i].id, errno, init->index);
		if (init->runner && socket == &init->control)
			return; /* this is the child, to which the rest is not addressed */
	}
}

void forget_plan(struct init *init)
{
	explicit_bzero(plan_buffer, sizeof(plan_buffer));
	explicit_bzero(init, sizeof(*init));
}

static int receive_plan(struct init *init)
{
	struct plan *plan = &init->plan;
	int fds[SBX_FDS_MAX];
	size_t count;
	ssize_t size = sbx_receive(init->control, plan_buffer, sizeof(plan_buffer), fds, &count, 0);

	if (size < 0 || parse_plan(plan, plan_buffer, (size_t)size, count) != 0)
		return -1;
	init->exec = fds[0];
	memcpy(plan->cgroups, fds + 1, plan->head.cgroup_count * sizeof(int));
	memcpy(plan->mounted, fds + 1 + plan->head.cgroup_count,
	       plan->head.mount_count * sizeof(int));
	plan->idmap = plan->head.flags & SBX_PLAN_IDMAP ? fds[count - 1] : -1;
	return 0;
}

/* A zygote sits in a mount tree of its own, which is not what a sandbox is made of. */
static int leave_zygote(struct init *init)
{
	if (!init->copy.is)
		return 0;
	if (setns(init->copy.home, CLONE_NEWNS) != 0 || unshare(CLONE_NEWNS) != 0)
		return -1;
	init->index = 1;
	if (init->copy.netns >= 0 && setns(init->copy.netns, CLONE_NEWNET) != 0)
		return -1;
	close(init->copy.home);
	if (init->copy.netns >= 0)
		close(init->copy.netns);
	return 0;
}

/* The OOM killer shall prefer everything in here to the node, and the job (see runner.c) to init.
 * The lowest value that a process may give itself is the last that was written with the host's
 * CAP_SYS_RESOURCE, hence here, before the user namespace. */
static int prefer_sandbox_for_oom(const struct init *init)
{
	sbx_autoclose int fd = -1;

	if (skipped(init, SBX_LAYER_OOM_SCORE))
		return 0;
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, "500", 3) == 3 ? 0 : -1;
}

#ifdef SBX_TEST
/* The network namespace of whoever started us, as long as /proc is still the host's. */
static int rejoin_host_network(const struct init *init)
{
	char text[512] = "", path[64] = "/proc/";
	const char *parent;
	sbx_autoclose int stat = -1, fd = -1;

	if (!skipped(init, SBX_LAYER_NETNS))
		return 0;
	stat = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	if (stat < 0 || read(stat, text, sizeof(text) - 1) < 0 ||
	    (parent = strrchr(text, ')')) == NULL || strlen(parent) < 5)
		return -1;
	parent += 4;
	strncat(path, parent, strspn(parent, "0123456789"));
	strcat(path, "/ns/net");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -1 : setns(fd, CLONE_NEWNET);
}
#endif

/* A thread that moves itself by `tasks` skips the lock that `cgroup.procs` takes over all forks of
 * the machine (an RCU grace period each time). On v2 clone3 has already put us into place. */
static int join_cgroups(struct init *init)
{
	for (uint32_t i = 0; i < init->plan.head.cgroup_count; i++) {
		init->index = (int)i;
		if (SBX_RETRY(write(init->plan.cgroups[i], "0", 1)) != 1)
			return -1;
		close(init->plan.cgroups[i]);
	}
	if (prefer_sandbox_for_oom(init) != 0)
		return -1;
#ifdef SBX_TEST
	if (rejoin_host_network(init) != 0)
		return -1;
#endif
	if (skipped(init, SBX_LAYER_CGROUPNS))
		return 0;
	if (unshare(CLONE_NEWCGROUP) != 0)
		return -1;
	init->layers |= 1u << SBX_LAYER_CGROUPNS;
	return 0;
}

static int start_runner(struct init *init)
{
	pid_t pid = fork();

	init->runner = pid == 0;
	return pid < 0 ? -1 : pid == 0 ? 0 : add_child(0, pid);
}

/* Keep the descriptors that init serves with, at fixed numbers, and check that it is so. Those of
 * the message queues are for the runners that a session starts later. */
static int close_everything(struct init *init)
{
	enum { SCRATCH = 4, WORK = 5, QUEUES = 6, FIRST_FREE = 7 };
	const bool queues = init->plan.head.flags & SBX_PLAN_SESSION && init->queues >= 0;
	int scratch = fcntl(init->scratch, F_DUPFD_CLOEXEC, FIRST_FREE);
	int work = fcntl(init->work, F_DUPFD_CLOEXEC, FIRST_FREE);
	int queue = queues ? fcntl(init->queues, F_DUPFD_CLOEXEC, FIRST_FREE) : -1;

	if (scratch < 0 || work < 0 || dup3(scratch, SCRATCH, O_CLOEXEC) < 0 ||
	    dup3(work, WORK, O_CLOEXEC) < 0)
		return -1;
	if (queues ? dup3(queue, QUEUES, O_CLOEXEC) < 0 : close(QUEUES) != 0 && errno != EBADF)
		return -1;
	init->queues = queues ? QUEUES : -1;
	if (sbx_close_range(0, SBX_CONTROL_FD - 1) != 0 || sbx_close_range(FIRST_FREE, ~0u) != 0)
		return -1;
	for (int fd = 0; fd < SBX_CONTROL_FD; fd++) {
		errno = 0;
		if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) {
			errno = EBADFD;
			return -1;
		}
	}
	init->scratch = SCRATCH;
	init->work = WORK;
	return 0;
}

static int report_ready(struct init *init)
{
	struct sbx_ready ready = {{SBX_MSG_READY, SBX_ABI, 0}, init->layers};
	int result = sbx_send(init->control, &ready, sizeof(ready), &init->scratch, 1);

	close(init->scratch);
	return result;
}

/* clang-format off */
static const struct stage tree_stages[] = {
	{SBX_STAGE_PLAN, receive_plan},
	{SBX_STAGE_HOME, leave_zygote},
	{SBX_STAGE_CGROUPS, join_cgroups},
	{SBX_STAGE_PRIVATE, make_mounts_private},
	{SBX_STAGE_SCRATCH, mount_scratch},
	{SBX_STAGE_OVERLAY, mount_overlay},
	{SBX_STAGE_BINDS, mount_binds},
	{SBX_STAGE_DEV, make_dev},
	{SBX_STAGE_PROC, mount_proc},
	{SBX_STAGE_MASK, mask_proc},
	{SBX_STAGE_PIVOT, enter_root},
	{SBX_STAGE_HOSTNAME, set_hostname},
	{SBX_STAGE_LOOPBACK, raise_loopback},
};

static const struct stage stages[] = {
	{SBX_STAGE_USERNS, enter_userns},
	{SBX_STAGE_SECCOMP, load_floor},
	{SBX_STAGE_RUNNER, start_runner},
	{SBX_STAGE_CAPABILITIES, drop_init_privileges},
	{SBX_STAGE_QUIET, close_everything},
	{SBX_STAGE_READY, report_ready},
};

static const struct stage zygote_stages[] = {
	{SBX_STAGE_READY, report_ready},
};
/* clang-format on */

static uint64_t nanoseconds(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_usec * 1000u;
}

/* Reap whoever has ended, and report the end of those that the host started. Whether the last of
 * them was alone is known once all have been reaped. Returns whether any child is left. */
static bool reap(struct init *init)
{
	struct sbx_exit report = {.head = {SBX_MSG_EXIT, SBX_ABI, 0}};
	bool pending = false;
	struct rusage usage;
	struct timespec now;
	uint32_t id;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG | __WALL, &usage)) > 0) {
		if (!remove_child(pid, &id))
			continue;
		if (pending)
			sbx_send(init->control, &report, sizeof(report), NULL, 0);
		clock_gettime(CLOCK_MONOTONIC, &now);
		report.id = id;
		report.status = status;
		report.at = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
		report.max_rss = (uint64_t)usage.ru_maxrss * 1024;
		report.cpu = nanoseconds(&usage.ru_utime) + nanoseconds(&usage.ru_stime);
		pending = true;
	}
	if (pending) {
		report.alone = pid < 0;
		sbx_send(init->control, &report, sizeof(report), NULL, 0);
	}
	return pid == 0;
}

/* kill(-1) from pid 1 walks the whole namespace under the lock that fork needs to add a process,
 * and a fork that meets a pending SIGKILL gives up: one pass ends even a fork bomb. */
static void quiesce(struct init *init)
{
	struct sbx_head quiet = {SBX_MSG_QUIET, SBX_ABI, 0};
	siginfo_t info;

	kill(-1, SIGKILL);
	while (reap(init))
		SBX_RETRY(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | __WALL));
	sbx_send(init->control, &quiet, sizeof(quiet), NULL, 0);
}

/* One more process of a session. It is init's child, which it cannot tell from the job's orphans
 * but by the table. */
static void spawn(struct init *init, const struct sbx_spawn *order, int exec)
{
	struct sbx_spawned answer = {{SBX_MSG_SPAWNED, SBX_ABI, 0}, order->id, 0, 0};
	const bool root = order->kind >= SBX_SPAWN_ROOT_RUNNER;
	pid_t pid = -1;

	if (exec < 0)
		errno = EBADF;
	else if (root && !(init->plan.head.flags & SBX_PLAN_ROOT))
		errno = EPERM;
	else if (may_add_child(order->id))
		pid = fork();
	if (pid == 0) {
		init->late = true;
		init->root = root;
		init->exec = exec;
		if (order->kind == SBX_SPAWN_FILES || order->kind == SBX_SPAWN_ROOT_FILES)
			file_service(init);
		runner(init);
	}
	if (pid < 0)
		answer.err = errno;
	else if (add_child(order->id, pid) == 0)
		answer.pid = pid;
	if (exec >= 0)
		close(exec);
	sbx_send(init->control, &answer, sizeof(answer), NULL, 0);
}

static void serve_host(struct init *init)
{
	static _Alignas(8) uint8_t buffer[sizeof(struct sbx_open) + 2048];
	const bool session = init->plan.head.flags & SBX_PLAN_SESSION;
	struct sbx_spawn order;
	struct sbx_signal signal;
	int fds[SBX_FDS_MAX];
	size_t count;
	ssize_t size = sbx_receive(init->control, buffer, sizeof(buffer), fds, &count, 0);
	const char *path;
	bool glob;

	if (size < (ssize_t)sizeof(struct sbx_head))
		_exit(0);
	if (session && parse_spawn(buffer, (size_t)size, &order)) {
		spawn(init, &order, count > 0 ? fds[--count] : -1);
	} else if (session && parse_signal(buffer, (size_t)size, &signal)) {
		signal_child(signal.id, signal.number);
	} else if (buffer[0] == SBX_MSG_QUIESCE) {
		quiesce(init);
	} else if ((path = parse_open(buffer, (size_t)size, &glob)) != NULL) {
		send_files(init, path, glob);
	} else {
		_exit(0);
	}
	while (count > 0)
		close(fds[--count]);
}

static _Noreturn void serve(struct init *init)
{
	struct pollfd waits[2];
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	waits[0] = (struct pollfd){.fd = init->control, .events = POLLIN};
	waits[1] = (struct pollfd){.fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK),
				   .events = POLLIN};
	if (waits[1].fd < 0)
		_exit(127);
	for (;;) {
		struct signalfd_siginfo info;

		if (poll(waits, 2, -1) < 0 && errno != EINTR)
			_exit(127);
		if (waits[1].revents) {
			if (read(waits[1].fd, &info, sizeof(info)) < 0 && errno != EAGAIN)
				_exit(127);
			reap(init);
		}
		if (waits[0].revents)
			serve_host(init);
	}
}

void init_run(struct init *init)
{
	sigset_t all;

	init->control = SBX_CONTROL_FD;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NAME, "sandbox-init");
	run_stages(init, tree_stages, sizeof(tree_stages) / sizeof(*tree_stages), &init->control);
	if (init->plan.head.flags & SBX_PLAN_ZYGOTE) {
		run_stages(init, zygote_stages, sizeof(zygote_stages) / sizeof(*zygote_stages),
			   &init->control);
		return;
	}
	run_stages(init, stages, sizeof(stages) / sizeof(*stages), &init->control);
	if (init->runner)
		return;
	if (init->copy.is)
		default_signals(); /* a handler would let jobs reach us */
	serve(init);
}
