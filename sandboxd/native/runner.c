/* The process that becomes the job.
 *
 * It is forked while init still may change uids, locks itself down, and waits. Everything that
 * costs (Landlock, loading the seccomp program) is thus done before a job exists; what is left for
 * the moment of the run depends on the request: files, rlimits, descriptors. Both parts are over
 * before the first instruction of the job.
 */
#include "init.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { EXEC_FD = 3, WORK_FD = 4, FIRST_FREE = 5 };

static uint8_t exec_buffer[sizeof(struct sbx_exec) + SBX_EXEC_INLINE_MAX];

/* The OOM killer shall take the job, never init. Done before the uid changes: a process that is not
 * dumpable has its /proc files owned by root. */
static int prefer_for_oom(void)
{
	sbx_autoclose int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, "1000", 4) == 4 ? 0 : -1;
}

/* A late runner is root no more, so its files in /proc must be init's for this moment, whom the job
 * is not. */
static int prefer_late_for_oom(void)
{
	int result;

	setfsuid(geteuid());
	if (prctl(PR_SET_DUMPABLE, 1) != 0)
		return -1;
	result = prefer_for_oom();
	return prctl(PR_SET_DUMPABLE, 0) != 0 ? -1 : result;
}

/* When a process changes its uid it is traceable by its new self, where the host says so, until it
 * forbids it. The first runner has no job beside it that could use the moment; a late one has. */
static int refuse_dumpable_host(void)
{
	char value = 0;
	sbx_autoclose int fd = open("/proc/sys/fs/suid_dumpable", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, &value, 1) != 1)
		return -1;
	errno = EPERM;
	return value == '1' ? -1 : 0;
}

static int start_session(struct init *init)
{
	int exec = fcntl(init->exec, F_DUPFD_CLOEXEC, FIRST_FREE);
	int work = fcntl(init->work, F_DUPFD_CLOEXEC, FIRST_FREE);
	int queues = fcntl(init->queues, F_DUPFD_CLOEXEC, FIRST_FREE); /* -1 stays -1 */

	if (exec < 0 || work < 0 || dup3(exec, EXEC_FD, O_CLOEXEC) < 0)
		return -1;
	init->exec = EXEC_FD;
	if (dup3(work, WORK_FD, O_CLOEXEC) < 0 || sbx_close_range(0, 2) != 0 ||
	    (queues >= 0 && queues != FIRST_FREE && dup3(queues, FIRST_FREE, O_CLOEXEC) < 0) ||
	    sbx_close_range(queues < 0 ? FIRST_FREE : FIRST_FREE + 1, ~0u) != 0)
		return -1;
	init->work = WORK_FD;
	init->queues = queues < 0 ? -1 : FIRST_FREE;
	umask(022);
	if (init->late && refuse_dumpable_host() != 0)
		return -1;
	if ((init->late ? prefer_late_for_oom() : prefer_for_oom()) != 0)
		return -1;
	return setsid() < 0 ? -1 : 0;
}

static void unblock_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A copy of a zygote goes on as the program that it is: here is what an exec would have set. The
 * streams are placeholders until the order comes, whose descriptors then lie above them. */
static int resume(struct init *init)
{
	if (!init->copy.is)
		return 0;
	for (int fd = 0; fd < 3; fd++)
		if (open("/dev/null", O_RDWR | O_NOCTTY) != fd)
			return -1;
	if (fchdir(WORK_FD) || close(WORK_FD) || prctl(PR_SET_NAME, init->copy.name) ||
	    prctl(PR_SET_DUMPABLE, 1))
		return -1;
	unblock_signals();
	return 0;
}

static int report_armed(struct init *init)
{
	struct sbx_ready armed = {{SBX_MSG_ARMED, SBX_ABI, 0}, init->layers};

	return sbx_send(init->exec, &armed, sizeof(armed), NULL, 0);
}

/* clang-format off */
static const struct stage stages[] = {
	{SBX_STAGE_SESSION, start_session},
	{SBX_STAGE_CAPABILITIES, drop_job_privileges},
	{SBX_STAGE_LANDLOCK, restrict_landlock},
	{SBX_STAGE_APPARMOR, set_apparmor},
	{SBX_STAGE_NO_NEW_PRIVS, set_no_new_privs},
	{SBX_STAGE_RESUME, resume},
	{SBX_STAGE_SECCOMP, load_seccomp},
	{SBX_STAGE_ARMED, report_armed},
};
/* clang-format on */

/* The body in a memfd. Unless it is sealed and as long as the head says, reading it could be cut
 * short by a signal. */
static const uint8_t *map_body(const struct order *order, int fd)
{
	const int needed = F_SEAL_SHRINK | F_SEAL_WRITE;
	struct stat status;
	int seals = fcntl(fd, F_GET_SEALS);
	const uint8_t *body;

	if (seals < 0 || fstat(fd, &status) != 0)
		return NULL;
	errno = EPROTO;
	if ((seals & needed) != needed || status.st_size != (off_t)order->head.body_size)
		return NULL;
	body = mmap(NULL, order->head.body_size, PROT_READ, MAP_PRIVATE, fd, 0);
	return body == MAP_FAILED ? NULL : body;
}

static int receive(struct order *order)
{
	ssize_t size = sbx_receive(EXEC_FD, exec_buffer, sizeof(exec_buffer), order->fds,
				   &order->fd_count, 0);
	const uint8_t *body = exec_buffer + sizeof(order->head);

	if (size == 0)
		_exit(0); /* the sandbox was discarded unused */
	if (size < 0 || parse_head(order, exec_buffer, (size_t)size) != 0)
		return -1;
	if (order->head.flags & SBX_EXEC_BODY_FD) {
		int fd = order->fds[--order->fd_count];

		body = map_body(order, fd);
		close(fd);
		if (body == NULL)
			return -1;
	}
	return parse_body(order, body, order->head.body_size);
}

static int write_files(const struct order *order, int *index)
{
	struct sbx_cursor files = order->files;

	for (uint32_t i = 0; i < order->head.filec; i++) {
		struct file file = next_file(&files);

		*index = (int)i;
		if (write_file(WORK_FD, &file) != 0)
			return -1;
	}
	return 0;
}

static int set_rlimits(const struct order *order, int *index)
{
	const struct {
		int resource;
		rlim_t limit;
	} limits[] = {
		{RLIMIT_NOFILE, order->head.open_files},
		{RLIMIT_STACK, order->head.stack},
		{RLIMIT_FSIZE, order->head.file_size},
		{RLIMIT_CORE, 0},
		{RLIMIT_MEMLOCK, 65536},
		{RLIMIT_MSGQUEUE, 819200},
		{RLIMIT_SIGPENDING, 1024},
		{RLIMIT_NICE, 0},
		{RLIMIT_RTPRIO, 0},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
		struct rlimit limit = {limits[i].limit, limits[i].limit};

		*index = limits[i].resource;
		if (setrlimit(limits[i].resource, &limit) != 0)
			return -1;
	}
	return 0;
}

/* Descriptors 0, 1 and 2 are the job's; all others go at exec, and until then stay to report. */
static int place_fds(const struct order *order)
{
	const size_t first = order->head.flags & SBX_EXEC_STDIN_NULL ? 1 : 0;

	if (order->head.flags & SBX_EXEC_TERMINAL)
		return take_terminal(EXEC_FD, order->head.rows, order->head.columns) != 0
			       ? -1
			       : sbx_close_range(FIRST_FREE, ~0u);
	/* They arrived at the lowest free numbers, ascending from 0, so none is above its target
	 * and going downwards overwrites none that is still to be moved. */
	for (size_t i = order->fd_count; i-- > 0;) {
		int target = (int)(first + i);

		if (order->fds[i] > target) {
			errno = EBADFD;
			return -1;
		}
		if (order->fds[i] != target && dup3(order->fds[i], target, 0) < 0)
			return -1;
		if (order->fds[i] == target && fcntl(target, F_SETFD, 0) != 0)
			return -1;
	}
	if (first == 1) {
		close(0);
		if (open("/dev/null", O_RDONLY | O_NOCTTY) != 0)
			return -1;
	}
	return sbx_close_range(FIRST_FREE, ~0u);
}

/* A working directory outside the root would be a way out (CVE-2024-21626); the kernel then gives
 * a path that does not start with a slash. */
static int enter_cwd(const struct order *order)
{
	char path[4096];

	if (fchdir(WORK_FD) != 0 || chdir(order->cwd) != 0)
		return -1;
	if (syscall(SYS_getcwd, path, sizeof(path)) < 0)
		return -1;
	errno = EXDEV;
	return path[0] == '/' ? 0 : -1;
}

/* By system call: the library refuses the signals that it keeps for itself (32 to 34), and an
 * ignored one would stay ignored over exec. Zeros are SIG_DFL in the kernel's structure on every
 * machine. */
void default_signals(void)
{
	static const unsigned char action[64];

	for (int number = 1; number < 65; number++)
		syscall(SYS_rt_sigaction, number, action, NULL, sizeof(uint64_t));
}

/* execve by PATH, as execvp would, without its fallback to a shell. */
static void execute(const struct order *order)
{
	char candidate[4096];
	char *const *arguments = order->arguments, *const *environment = order->environment;
	const char *path = "/usr/local/bin:/usr/bin:/bin", *name = arguments[0];
	size_t length = strlen(name);
	int denied = 0;

	if (length == 0) {
		errno = ENOENT;
		return;
	}
	if (strchr(name, '/') != NULL) {
		execve(name, arguments, environment);
		return;
	}
	for (char *const *variable = environment; *variable; variable++)
		if (strncmp(*variable, "PATH=", 5) == 0)
			path = *variable + 5;
	for (const char *end; *path; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		if (end == path || (size_t)(end - path) + length + 2 > sizeof(candidate))
			continue;
		memcpy(candidate, path, (size_t)(end - path));
		candidate[end - path] = '/';
		memcpy(candidate + (end - path) + 1, name, length + 1);
		execve(candidate, arguments, environment);
		if (errno == EACCES)
			denied = errno;
		else if (errno != ENOENT && errno != ENOTDIR)
			return;
	}
	errno = denied ? denied : ENOENT;
}

void arm(struct init *init)
{
	run_stages(init, stages, sizeof(stages) / sizeof(*stages), &init->exec);
}

/* An order may come before it is certain that it stands. Whatever became of it so far is told after
 * that: a report that crosses the host's last word would be lost with the socket. */
static int await_go(void)
{
	struct sbx_head go;
	int fds[SBX_FDS_MAX];
	size_t count;
	ssize_t size = sbx_receive(EXEC_FD, &go, sizeof(go), fds, &count, 0);

	if (size == 0)
		_exit(0); /* it does not stand */
	if (size < 0)
		return -1;
	errno = EPROTO;
	return size == sizeof(go) && count == 0 && go.type == SBX_MSG_GO && go.version == SBX_ABI
		       ? 0
		       : -1;
}

/* Become the job, by the one order. */
static _Noreturn void carry_out(void)
{
	static struct order order;
	enum sbx_stage stage = SBX_STAGE_RECEIVE;
	int index = 0, err = 0;

	if (receive(&order) != 0 || (stage = SBX_STAGE_FILES, write_files(&order, &index)) != 0 ||
	    (stage = SBX_STAGE_RLIMITS, set_rlimits(&order, &index)) != 0 ||
	    (stage = SBX_STAGE_FDS, index = 0, place_fds(&order)) != 0 ||
	    (stage = SBX_STAGE_CWD, enter_cwd(&order)) != 0)
		err = errno;
	if (err == 0 && order.head.flags & SBX_EXEC_WARM)
		fcntl(EXEC_FD, F_SETFD, 0);
	default_signals();
	unblock_signals();
	if (order.head.flags & SBX_EXEC_HOLD && await_go() != 0)
		fail(EXEC_FD, SBX_STAGE_RECEIVE, errno, 0);
	if (err == 0) {
		stage = SBX_STAGE_EXEC;
		execute(&order);
		err = errno;
	}
	fail(EXEC_FD, stage, err, index);
}

_Noreturn void runner(struct init *init)
{
	arm(init);
	carry_out();
}

_Noreturn void become_zygote(struct init *init)
{
	static const struct stage zygote_stages[] = {
		{SBX_STAGE_SESSION, start_session},
		{SBX_STAGE_ARMED, report_armed},
	};

	run_stages(init, zygote_stages, sizeof(zygote_stages) / sizeof(*zygote_stages),
		   &init->exec);
	carry_out();
}
