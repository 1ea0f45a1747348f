/* Starting, addressing and ending sandboxes from the host; see host.h. */
#include "host.h"

#include "kernel.h"
#include "wire.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static const char *const stage_names[] = {
#define SBX_STAGE_NAME(id, name) name,
	SBX_STAGES(SBX_STAGE_NAME)
#undef SBX_STAGE_NAME
};

static const char *const layer_names[] = {
#define SBX_LAYER_NAME(id, name) name,
	SBX_LAYERS(SBX_LAYER_NAME)
#undef SBX_LAYER_NAME
};

int sbx_abi(void)
{
	return SBX_ABI;
}

const char *sbx_stage_name(int stage)
{
	return stage >= 0 && stage < SBX_STAGE_COUNT ? stage_names[stage] : NULL;
}

const char *sbx_layer_name(int layer)
{
	return layer >= 0 && layer < SBX_LAYER_COUNT ? layer_names[layer] : NULL;
}

static const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

int sbx_seal(const char *path)
{
	sbx_autoclose int file = open(path, O_RDONLY | O_CLOEXEC);
	sbx_autoclose int memory = -1;
	struct stat status;
	off_t offset = 0;

	if (file < 0 || fstat(file, &status) != 0)
		return -1;
	memory = memfd_create("sandbox-init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory < 0)
		return -1;
	while (offset < status.st_size)
		if (sendfile(memory, file, &offset, (size_t)(status.st_size - offset)) <= 0)
			return -1;
	if (fcntl(memory, F_ADD_SEALS, seals) != 0)
		return -1;
	/* Well above the number that the child gives its control socket. */
	return fcntl(memory, F_DUPFD_CLOEXEC, 64);
}

struct child {
	int init_fd, control, netns;
	volatile int err; /* written by the child, which shares our memory until its exec */
};

static _Noreturn __attribute__((noinline)) void become_init(struct child *child)
{
	static char *const arguments[] = {(char *)(uintptr_t) "sandbox-init", NULL};
	static char *const environment[] = {NULL};

	if ((child->netns < 0 || setns(child->netns, CLONE_NEWNET) == 0) &&
	    (child->control == SBX_CONTROL_FD ? fcntl(SBX_CONTROL_FD, F_SETFD, 0) == 0
					      : dup2(child->control, SBX_CONTROL_FD) >= 0))
		syscall(SYS_execveat, child->init_fd, "", arguments, environment, AT_EMPTY_PATH);
	child->err = errno;
	_exit(127);
}

/* clone3 as vfork: the child runs on our memory and stack while this thread waits for its exec, so
 * the cost does not grow with the node. The call must be inline: the child may not return through a
 * frame that the parent still needs. Signals are blocked, since a handler would run on that memory.
 */
static __attribute__((noinline)) long clone_init(struct sbx_clone_args *args, struct child *child)
{
	long pid;

#if defined(__x86_64__)
	__asm__ volatile("syscall"
			 : "=a"(pid)
			 : "0"(SYS_clone3), "D"(args), "S"(sizeof(*args))
			 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = sizeof(*args);
	register long x8 __asm__("x8") = SYS_clone3;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x8) : "memory");
	pid = x0;
#else
#error "sandboxd runs on x86_64 and aarch64"
#endif
	if (pid == 0)
		become_init(child);
	return pid;
}

/* A new process from the executable `init_fd`. A zygote stays where the node sees its pids. */
static int spawn(int init_fd, int cgroup_fd, int netns_fd, int control, bool zygote,
		 struct sbx_sandbox *sandbox)
{
	struct child child = {.init_fd = init_fd, .control = control, .netns = netns_fd};
	struct sbx_clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWIPC |
			 CLONE_NEWUTS | (zygote ? 0 : CLONE_NEWPID),
		.pidfd = (uintptr_t)&sandbox->pidfd,
		.exit_signal = SIGCHLD,
	};
	sigset_t all, before;
	long pid;

	if (cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup_fd;
	}
	if (netns_fd < 0)
		args.flags |= CLONE_NEWNET;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone_init(&args, &child);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		errno = (int)-pid;
		return -1;
	}
	sandbox->pid = (int)pid;
	if (child.err) {
		errno = child.err;
		return -1;
	}
	return 0;
}

static int write_map(int pid, const char *file, const struct sbx_plan *plan)
{
	const bool range = plan->flags & SBX_PLAN_RANGE;
	const uint32_t first = range ? 0 : plan->job_uid, count = range ? plan->init_uid : 1;
	char path[64], text[128];
	int length = snprintf(text, sizeof(text), "%u %u %u\n%u %u 1\n", first,
			      plan->host_job_uid - (plan->job_uid - first), count, plan->init_uid,
			      plan->host_init_uid);
	sbx_autoclose int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, (size_t)length) == length ? 0 : -1;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int broken(struct sbx_error *error, int stage, int err, int index)
{
	*error = (struct sbx_error){stage, err, index};
	return -1;
}

/* One message of a sandbox in the making. 0, 1 at the end of the socket, -1 with `error`. */
static int advance(struct sbx_sandbox *sandbox, int socket, const struct sbx_plan *plan,
		   unsigned *awaited, struct sbx_error *error)
{
	union {
		struct sbx_head head;
		struct sbx_fail fail;
		struct sbx_ready ready;
	} message = {0};
	struct sbx_head mapped = {SBX_MSG_MAPPED, SBX_ABI, 0};
	int fds[SBX_FDS_MAX];
	size_t count;
	ssize_t size = sbx_receive(socket, &message, sizeof(message), fds, &count, 0);

	if (size == 0 || (size < 0 && errno == ECONNRESET))
		return 1;
	if (size == sizeof(message.ready) && message.head.type == SBX_MSG_READY && count == 1 &&
	    sandbox->scratch < 0) {
		sandbox->scratch = fds[0];
		sandbox->layers |= message.ready.layers;
		*awaited &= ~1u;
		return 0;
	}
	while (size > 0 && count > 0)
		close(fds[--count]);
	if (size == sizeof(message.head) && message.head.type == SBX_MSG_MAP) {
		if (write_map(sandbox->pid, "uid_map", plan) != 0 ||
		    write_map(sandbox->pid, "gid_map", plan) != 0 ||
		    sbx_send(socket, &mapped, sizeof(mapped), NULL, 0) != 0)
			return broken(error, SBX_STAGE_USERNS, errno, 1);
		return 0;
	}
	if (size == sizeof(message.ready) && message.head.type == SBX_MSG_ARMED) {
		sandbox->layers |= message.ready.layers;
		*awaited &= ~2u;
		return 0;
	}
	if (size == sizeof(message.fail) && message.head.type == SBX_MSG_FAIL &&
	    sbx_stage_name(message.fail.stage) != NULL)
		return broken(error, message.fail.stage, message.fail.err, message.fail.index);
	return broken(error, SBX_STAGE_SPAWN, EPROTO, 0);
}

/* Ask a zygote for a copy that shall be init at this end of a control socket, where it answers. */
static int ask_zygote(int zygote, int cgroup_fd, int netns_fd, int control)
{
	sbx_autoclose int home = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
	struct sbx_fork message = {{SBX_MSG_FORK, SBX_ABI, 0}, 0};
	int fds[4] = {control, home};
	size_t count = 2;

	if (home < 0)
		return -1;
	if (netns_fd >= 0) {
		message.flags |= SBX_FORK_NETNS;
		fds[count++] = netns_fd;
	}
	if (cgroup_fd >= 0) {
		message.flags |= SBX_FORK_CGROUP;
		fds[count++] = cgroup_fd;
	}
	return sbx_send(zygote, &message, sizeof(message), fds, count);
}

static int await_copy(int control, int timeout_ms, struct sbx_sandbox *sandbox)
{
	struct pollfd wait = {control, POLLIN, 0};
	struct sbx_forked message;
	int fds[SBX_FDS_MAX];
	size_t count;
	ssize_t size;
	int ready = SBX_RETRY(poll(&wait, 1, timeout_ms));

	if (ready <= 0) {
		errno = ready < 0 ? errno : ETIMEDOUT;
		return -1;
	}
	size = sbx_receive(control, &message, sizeof(message), fds, &count, 0);
	if (size == sizeof(message) && message.head.type == SBX_MSG_FORKED && count == 1 &&
	    message.pid > 0) {
		sandbox->pid = message.pid;
		sandbox->pidfd = fds[0];
		return 0;
	}
	while (size > 0 && count > 0)
		close(fds[--count]);
	errno = size == sizeof(message) && message.err ? message.err
		: size == 0                            ? ECONNRESET
						       : EPROTO;
	return -1;
}

static int await_ready(struct sbx_sandbox *sandbox, const struct sbx_plan *plan, int timeout_ms,
		       struct sbx_error *error)
{
	struct pollfd waits[2] = {{sandbox->exec, POLLIN, 0}, {sandbox->control, POLLIN, 0}};
	const int64_t deadline = now_ms() + timeout_ms;
	unsigned awaited = 3;
	bool gone = false;

	while (awaited) {
		int64_t left = gone ? 0 : deadline - now_ms();
		int ready = poll(waits, 2, left > 0 ? (int)left : 0);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return broken(error, SBX_STAGE_SPAWN,
				      ready < 0 ? errno : (gone ? ECONNRESET : ETIMEDOUT), 0);
		/* When one of the two fails, both sockets end, perhaps before we look: the end of
		 * one is no answer while the other still has a report. */
		for (int i = 0; i < 2; i++) {
			int result = waits[i].revents
					     ? advance(sandbox, waits[i].fd, plan, &awaited, error)
					     : 0;

			if (result < 0)
				return -1;
			if (result > 0) {
				/* A zygote has no use for a control socket once it is ready. */
				const bool let_go =
					i == 1 && plan->flags & SBX_PLAN_ZYGOTE && !(awaited & 1);

				waits[i].fd = -1;
				gone = gone || !let_go;
			}
		}
	}
	return gone ? broken(error, SBX_STAGE_SPAWN, ECONNRESET, 1) : 0;
}

/* Whether ids are as they must be: nobody in a sandbox is root outside, nor inside but a build's
 * job, or a session's late one; init is not the job. A range is one of the host's too, and its last
 * id is init's. */
static bool sound_ids(const struct sbx_plan *plan)
{
	if ((!plan->job_uid && !(plan->flags & SBX_PLAN_BUILD)) || !plan->init_uid ||
	    !plan->host_job_uid || !plan->host_init_uid || plan->job_uid == plan->init_uid ||
	    plan->host_job_uid == plan->host_init_uid)
		return false;
	if (plan->flags & SBX_PLAN_ROOT && !(plan->flags & SBX_PLAN_SESSION))
		return false;
	return !(plan->flags & SBX_PLAN_RANGE) ||
	       (plan->job_uid < plan->init_uid && plan->host_job_uid > plan->job_uid &&
		plan->host_init_uid - plan->host_job_uid == plan->init_uid - plan->job_uid);
}

/* Bring init into being with its end of the control socket, by exec or as a copy of a zygote. */
static int start(const struct sbx_origin *origin, const struct sbx_plan *plan, int control[2],
		 int timeout_ms, struct sbx_sandbox *sandbox)
{
	if (origin->zygote < 0)
		return spawn(origin->init, origin->cgroup, origin->netns, control[1],
			     plan->flags & SBX_PLAN_ZYGOTE, sandbox);
	if (ask_zygote(origin->zygote, origin->cgroup, origin->netns, control[1]) != 0)
		return -1;
	close(control[1]);
	control[1] = -1;
	return await_copy(control[0], timeout_ms, sandbox);
}

int sbx_build(const struct sbx_origin *origin, const uint8_t *plan, size_t plan_size,
	      const int *tasks_fds, size_t tasks_count, int timeout_ms, struct sbx_sandbox *sandbox,
	      struct sbx_error *error)
{
	int control[2] = {-1, -1}, exec[2] = {-1, -1}, fds[SBX_FDS_MAX];
	const int type = SOCK_SEQPACKET | SOCK_CLOEXEC;
	struct sbx_plan head;
	int result = -1;

	*sandbox = (struct sbx_sandbox){-1, -1, -1, -1, -1, 0};
	if (plan_size < sizeof(head) || plan_size > SBX_PLAN_MAX || tasks_count >= SBX_FDS_MAX)
		return broken(error, SBX_STAGE_PLAN, EINVAL, 0);
	memcpy(&head, plan, sizeof(head));
	if (!sound_ids(&head))
		return broken(error, SBX_STAGE_PLAN, EINVAL, 1);
	if (socketpair(AF_UNIX, type, 0, control) != 0 || socketpair(AF_UNIX, type, 0, exec) != 0) {
		broken(error, SBX_STAGE_SPAWN, errno, 0);
	} else if (start(origin, &head, control, timeout_ms, sandbox) != 0) {
		broken(error, SBX_STAGE_SPAWN, errno, 1);
	} else {
		sandbox->control = control[0];
		sandbox->exec = exec[0];
		fds[0] = exec[1];
		memcpy(fds + 1, tasks_fds, tasks_count * sizeof(int));
		if (sbx_send(control[0], plan, plan_size, fds, tasks_count + 1) != 0) {
			broken(error, SBX_STAGE_PLAN, errno, 1);
		} else {
			/* Ours must be gone, or the end of the runner would never be seen. */
			close(exec[1]);
			if (control[1] >= 0)
				close(control[1]);
			exec[1] = control[1] = -1;
			result = await_ready(sandbox, &head, timeout_ms, error);
		}
	}
	if (result == 0 && (fcntl(control[0], F_SETFL, O_NONBLOCK) != 0 ||
			    fcntl(exec[0], F_SETFL, O_NONBLOCK) != 0))
		result = broken(error, SBX_STAGE_SPAWN, errno, 2);
	if (result == 0)
		return 0;
	if (sandbox->pidfd >= 0)
		sbx_reap(sandbox->pidfd, 5000);
	const int left[] = {control[0], control[1],     exec[0],
			    exec[1],    sandbox->pidfd, sandbox->scratch};
	for (size_t i = 0; i < sizeof(left) / sizeof(*left); i++)
		if (left[i] >= 0)
			close(left[i]);
	return -1;
}

int sbx_exec_send(int exec, struct sbx_exec *head, const uint8_t *body, size_t body_size,
		  const int *fds, size_t count)
{
	int all[SBX_FDS_MAX];
	sbx_autoclose int memory = -1;

	head->head = (struct sbx_head){SBX_MSG_EXEC, SBX_ABI, 0};
	head->body_size = (uint32_t)body_size;
	if (body_size <= SBX_EXEC_INLINE_MAX)
		return sbx_send2(exec, head, sizeof(*head), body, body_size, fds, count);
	errno = E2BIG;
	if (body_size > SBX_EXEC_MAX || count >= SBX_FDS_MAX)
		return -1;
	memory = memfd_create("sandbox-exec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory < 0)
		return -1;
	for (size_t done = 0; done < body_size;) {
		ssize_t written = SBX_RETRY(write(memory, body + done, body_size - done));

		if (written < 0)
			return -1;
		done += (size_t)written;
	}
	if (fcntl(memory, F_ADD_SEALS, seals) != 0)
		return -1;
	head->flags |= SBX_EXEC_BODY_FD;
	memcpy(all, fds, count * sizeof(int));
	all[count] = memory;
	return sbx_send(exec, head, sizeof(*head), all, count + 1);
}

ssize_t sbx_message(int socket, uint8_t *buffer, size_t size, int *fd)
{
	int fds[SBX_FDS_MAX];
	size_t count;
	ssize_t length = sbx_receive(socket, buffer, size, fds, &count, MSG_DONTWAIT);

	*fd = -1;
	while (length > 0 && count > 1)
		close(fds[--count]);
	if (length > 0 && count == 1)
		*fd = fds[0];
	return length;
}

int sbx_resize(int scratch, uint64_t disk, unsigned inodes)
{
	sbx_autoclose int fs =
		(int)syscall(SYS_fspick, scratch, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
	char number[24];

	if (fs < 0)
		return -1;
	snprintf(number, sizeof(number), "%llu", (unsigned long long)disk);
	if (sbx_fsconfig(fs, FSCONFIG_SET_STRING, "size", number) != 0)
		return -1;
	snprintf(number, sizeof(number), "%u", inodes);
	if (sbx_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", number) != 0)
		return -1;
	return sbx_fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL);
}

int sbx_reap(int pidfd, int timeout_ms)
{
	struct pollfd wait = {.fd = pidfd, .events = POLLIN};
	siginfo_t info;
	int ready;

	if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) != 0 && errno != ESRCH)
		return -1;
	ready = SBX_RETRY(poll(&wait, 1, timeout_ms));
	if (ready <= 0) {
		errno = ready < 0 ? errno : ETIMEDOUT;
		return -1;
	}
	if (SBX_RETRY(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL)) != 0 &&
	    errno != ECHILD)
		return -1;
	return 0;
}
