/* The end of sudo that is root. One process listens; each connection has one of its own, whose
 * child becomes the command. Clients are the sandbox's own: what they send is checked as input, not
 * as an attack by others, since whoever may ask could as well run any command as root. */
#include "sudo.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct job {
	struct sudo_request head;
	struct ucred caller;
	int fds[SUDO_FDS];
	char *text, *end;
	const char *user, *group, *program;
	char **arguments, **environment;
};

static const char NAME[] = "\0sandboxd/sudo";

static int bound(int (*how)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, NAME, sizeof(NAME) - 1);
	if (fd >= 0 &&
	    how(fd, (struct sockaddr *)&address,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(NAME) - 1)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

int sudo_connect(void)
{
	return bound(connect);
}

static void answer(int line, int status, int err, bool stopped, const char *what)
{
	struct sudo_answer said = {.status = status, .err = err, .stopped = stopped};

	snprintf(said.what, sizeof(said.what), "%s", what);
	send(line, &said, sizeof(said), MSG_NOSIGNAL);
}

static _Noreturn void refuse(int line, int err, const char *what)
{
	answer(line, 0, err ? err : EINVAL, false, what);
	_exit(1);
}

static char *next_text(struct job *job)
{
	char *text = job->text;
	size_t length = text < job->end ? strnlen(text, (size_t)(job->end - text)) : 0;

	if (text + length >= job->end)
		return NULL;
	job->text = text + length + 1;
	return text;
}

static char **next_words(struct job *job, size_t count, size_t room)
{
	char **words = calloc(count + room + 1, sizeof(*words));

	if (words == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		if ((words[i] = next_text(job)) == NULL) {
			free(words);
			return NULL;
		}
	}
	return words;
}

static bool receive(int line, struct job *job)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(job->fds))];
	} control;
	struct iovec part = {&job->head, sizeof(job->head)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	struct stat status;
	const struct cmsghdr *head;
	const int sealed = F_SEAL_SHRINK | F_SEAL_WRITE;

	if (recvmsg(line, &message, MSG_CMSG_CLOEXEC) != sizeof(job->head) ||
	    (head = CMSG_FIRSTHDR(&message)) == NULL || head->cmsg_type != SCM_RIGHTS ||
	    head->cmsg_len != CMSG_LEN(sizeof(job->fds)))
		return false;
	memcpy(job->fds, CMSG_DATA(head), sizeof(job->fds));
	if (fstat(job->fds[4], &status) != 0 ||
	    (fcntl(job->fds[4], F_GET_SEALS) & sealed) != sealed || status.st_size < 1 ||
	    status.st_size > SUDO_TEXT_MAX || job->head.argc > SUDO_WORDS_MAX ||
	    job->head.envc > SUDO_WORDS_MAX)
		return false;
	job->text = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			 job->fds[4], 0);
	if (job->text == MAP_FAILED)
		return false;
	job->end = job->text + status.st_size;
	return (job->user = next_text(job)) && (job->group = next_text(job)) &&
	       (job->program = next_text(job)) &&
	       (job->arguments = next_words(job, job->head.argc, 0)) &&
	       (job->environment = next_words(job, job->head.envc, 8)) && job->head.argc > 0;
}

static void set(struct job *job, const char *name, const char *value)
{
	const size_t length = strlen(name);
	char **at = job->environment, *text;

	while (*at != NULL && (strncmp(*at, name, length) != 0 || (*at)[length] != '='))
		at++;
	if (asprintf(&text, "%s=%s", name, value) >= 0)
		*at = text; /* there is room for those that are set here */
}

/* A name, or `#` and a number. */
static const struct passwd *find_user(const char *name)
{
	char *end;
	unsigned long id = name[0] == '#' ? strtoul(name + 1, &end, 10) : 0;
	static struct passwd none = {
		.pw_name = (char *)"", .pw_dir = (char *)"/", .pw_shell = (char *)"/bin/sh"};
	const struct passwd *found;

	if (name[0] != '#')
		return getpwnam(name);
	if (end == name + 1 || *end != 0 || id > 65535)
		return NULL;
	found = getpwuid((uid_t)id);
	none.pw_uid = none.pw_gid = (uid_t)id;
	return found ? found : &none;
}

static void tell_caller(struct job *job)
{
	const struct passwd *caller = getpwuid(job->caller.uid);
	char number[16];

	set(job, "SUDO_USER", caller ? caller->pw_name : "");
	snprintf(number, sizeof(number), "%u", job->caller.uid);
	set(job, "SUDO_UID", number);
	snprintf(number, sizeof(number), "%u", job->caller.gid);
	set(job, "SUDO_GID", number);
}

static _Noreturn void become(int line, struct job *job)
{
	const struct passwd *user;
	const struct group *group = NULL;
	const char *program = job->program;
	char name[256], shell[256], zeroth[260], home[4096];
	sigset_t none;
	uid_t uid;
	gid_t gid;

	tell_caller(job);
	if ((user = find_user(job->user)) == NULL)
		refuse(line, ENOENT, job->user);
	uid = user->pw_uid;
	gid = user->pw_gid;
	snprintf(name, sizeof(name), "%s", user->pw_name);
	snprintf(home, sizeof(home), "%s", user->pw_dir);
	snprintf(shell, sizeof(shell), "%s", *user->pw_shell ? user->pw_shell : "/bin/sh");
	if (*job->group && (group = getgrnam(job->group)) == NULL)
		refuse(line, ENOENT, job->group);
	if (job->head.flags & SUDO_NAME) {
		set(job, "USER", name);
		set(job, "LOGNAME", name);
		set(job, "SHELL", shell);
	}
	if (job->head.flags & SUDO_SET_HOME)
		set(job, "HOME", home);
	if (job->head.flags & SUDO_SHELL) {
		const char *last = strrchr(shell, '/');

		snprintf(zeroth, sizeof(zeroth), "%s%s", job->head.flags & SUDO_LOGIN ? "-" : "",
			 last ? last + 1 : shell);
		program = shell;
		job->arguments[0] = zeroth;
	}
	if (setsid() < 0 ||
	    (job->head.flags & SUDO_TERMINAL && ioctl(job->fds[isatty(job->fds[0])   ? 0
							       : isatty(job->fds[1]) ? 1
										     : 2],
						      TIOCSCTTY, 0) != 0))
		refuse(line, errno, "terminal");
	for (int i = 0; i < 3; i++)
		if (dup2(job->fds[i], i) < 0)
			refuse(line, errno, "descriptors");
	if ((group == NULL ? initgroups(name, gid) : setgroups(0, NULL)) != 0 ||
	    setgid(group ? group->gr_gid : gid) != 0 || setuid(uid) != 0)
		refuse(line, errno, job->user);
	if (!(job->head.flags & SUDO_LOGIN) || chdir(home) != 0)
		if (fchdir(job->fds[3]) != 0 && chdir("/") != 0)
			refuse(line, errno, "/");
	umask(job->head.umask & 0777);
	for (int number = 1; number < 65; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	environ = job->environment;
	execvp(*program ? program : job->arguments[0], job->arguments);
	refuse(line, errno, *program ? program : job->arguments[0]);
}

/* Its changes to the client, the client's signals to it. Without a client it has no reason to be.
 */
static _Noreturn void attend(int line, int child)
{
	struct pollfd waits[2] = {{line, POLLIN, 0}, {-1, POLLIN, 0}};
	struct signalfd_siginfo news;
	sigset_t ends;
	uint8_t number;
	int status;

	sigemptyset(&ends);
	sigaddset(&ends, SIGCHLD);
	waits[1].fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
	for (;;) {
		while (waitpid(child, &status, WNOHANG | WUNTRACED) == child) {
			/* One that could not start has said so itself. */
			answer(line, status, 0, WIFSTOPPED(status), "");
			if (!WIFSTOPPED(status))
				_exit(0);
		}
		if (poll(waits, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (waits[1].revents && read(waits[1].fd, &news, sizeof(news)) < 0 &&
		    errno != EAGAIN)
			_exit(1);
		if (!waits[0].revents)
			continue;
		if (recv(line, &number, 1, 0) != 1) {
			kill(-child, SIGKILL);
			_exit(0);
		}
		if (number > 0 && number < 65)
			kill(-child, number);
	}
}

static _Noreturn void handle(int line)
{
	struct job job = {0};
	socklen_t size = sizeof(job.caller);
	sigset_t ends;
	int child;

	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&ends);
	sigaddset(&ends, SIGCHLD);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	/* Read first: who ends a line with something unread loses what it says, too. */
	if (!receive(line, &job))
		refuse(line, EINVAL, "the request");
	if (getsockopt(line, SOL_SOCKET, SO_PEERCRED, &job.caller, &size) != 0 ||
	    (job.caller.uid != 0 && job.caller.uid != SUDO_USER))
		refuse(line, EPERM, "only root and the sandbox's user may");
	child = fork();
	if (child < 0)
		refuse(line, errno, "fork");
	if (child == 0)
		become(line, &job);
	for (int i = 0; i < SUDO_FDS; i++)
		close(job.fds[i]);
	attend(line, child);
}

_Noreturn void sudo_serve(void)
{
	int listener = bound(bind);

	if (listener < 0 || listen(listener, 64) != 0) {
		perror("sudo --serve");
		_exit(1);
	}
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int line = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (line < 0) { /* no descriptor or memory: there may be later */
			nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
			continue;
		}
		if (fork() == 0)
			handle(line);
		close(line);
	}
}
