/* The end of sudo that asks. Where the command shall have the terminal that sudo was started on, it
 * gets one of its own, since a terminal belongs to one session; what is typed and printed is
 * carried across. */
#include "sudo.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static const int handed_on[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
				SIGUSR2, SIGALRM, SIGCONT, SIGTSTP};
static const char *program = "sudo";

static _Noreturn void quit(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program, what, strerror(errno));
	exit(1);
}

/* The terminal on which it runs in the foreground, or -1. */
static int own_terminal(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (isatty(fd) && tcgetpgrp(fd) == getpgrp())
			return fd;
	return -1;
}

static void match_size(int from, int to)
{
	struct winsize size;

	if (ioctl(from, TIOCGWINSZ, &size) == 0)
		ioctl(to, TIOCSWINSZ, &size);
}

struct relay {
	int own, master, other; /* terminals: ours, and the two ends of the command's; or -1 */
	struct termios before;
};

static void make_raw(struct relay *relay)
{
	struct termios raw = relay->before;

	cfmakeraw(&raw);
	tcsetattr(relay->own, TCSADRAIN, &raw);
}

static void make_as_before(struct relay *relay)
{
	if (relay->own >= 0)
		tcsetattr(relay->own, TCSADRAIN, &relay->before);
}

/* In `fds` the terminal's other end stands for each that was our own terminal. */
static void make_terminal(struct relay *relay, int fds[3])
{
	char name[64];

	relay->own = own_terminal();
	relay->master = relay->other = -1;
	if (relay->own < 0)
		return;
	relay->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (relay->master < 0 || grantpt(relay->master) != 0 || unlockpt(relay->master) != 0 ||
	    ptsname_r(relay->master, name, sizeof(name)) != 0 ||
	    (relay->other = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
		quit("no terminal");
	tcgetattr(relay->own, &relay->before);
	tcsetattr(relay->other, TCSANOW, &relay->before);
	match_size(relay->own, relay->master);
	for (int fd = 0; fd < 3; fd++)
		if (isatty(fd))
			fds[fd] = relay->other;
	make_raw(relay);
}

static int texts(const struct sudo_command *command, struct sudo_request *head)
{
	const int fd = memfd_create("sudo", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	FILE *out = fd < 0 ? NULL : fdopen(dup(fd), "w");

	if (out == NULL)
		quit("memory");
	for (const char *const *text =
		     (const char *const[]){command->user, command->group, command->program, NULL};
	     *text != NULL; text++)
		fwrite(*text, strlen(*text) + 1, 1, out);
	for (; command->arguments[head->argc] != NULL; head->argc++)
		fwrite(command->arguments[head->argc], strlen(command->arguments[head->argc]) + 1,
		       1, out);
	for (; command->environment[head->envc] != NULL; head->envc++)
		fwrite(command->environment[head->envc],
		       strlen(command->environment[head->envc]) + 1, 1, out);
	if (fclose(out) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
		quit("memory");
	return fd;
}

static void ask(int line, const struct sudo_command *command, const int streams[3], bool terminal)
{
	struct sudo_request head = {.flags = command->flags | (terminal ? SUDO_TERMINAL : 0)};
	int fds[SUDO_FDS] = {streams[0], streams[1], streams[2]};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(fds))];
	} control = {0};
	struct iovec part = {&head, sizeof(head)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *beside = CMSG_FIRSTHDR(&message);

	head.umask = umask(0);
	umask((mode_t)head.umask);
	fds[3] = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fds[3] < 0)
		fds[3] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	fds[4] = texts(command, &head);
	beside->cmsg_level = SOL_SOCKET;
	beside->cmsg_type = SCM_RIGHTS;
	beside->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(beside), fds, sizeof(fds));
	if (sendmsg(line, &message, MSG_NOSIGNAL) != sizeof(head))
		quit("the server of sudo");
	close(fds[4]);
}

static bool carry(int from, int to)
{
	char buffer[16384];
	ssize_t size = read(from, buffer, sizeof(buffer));

	for (ssize_t done = 0; done < size;) {
		ssize_t written = write(to, buffer + done, (size_t)(size - done));

		if (written < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		done += written > 0 ? written : 0;
	}
	return size > 0;
}

static void carry_the_rest(struct relay *relay)
{
	struct pollfd wait = {relay->master, POLLIN, 0};

	while (relay->master >= 0 && poll(&wait, 1, 0) > 0 && wait.revents & POLLIN &&
	       carry(relay->master, relay->own))
		;
}

static _Noreturn void end_as(int status)
{
	sigset_t one;

	if (WIFEXITED(status))
		exit(WEXITSTATUS(status));
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, WTERMSIG(status));
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	raise(WTERMSIG(status));
	exit(128 + WTERMSIG(status));
}

/* What became of the command. */
static void hear(int line, struct relay *relay)
{
	const uint8_t go_on = SIGCONT;
	struct sudo_answer said;

	if (recv(line, &said, sizeof(said), 0) != sizeof(said)) {
		make_as_before(relay);
		errno = EPIPE;
		quit("the server of sudo has ended");
	}
	if (said.stopped && said.err == 0) {
		make_as_before(relay);
		raise(SIGSTOP);
		if (relay->own >= 0)
			make_raw(relay);
		send(line, &go_on, 1, MSG_NOSIGNAL);
		return;
	}
	carry_the_rest(relay);
	make_as_before(relay);
	if (said.err == 0)
		end_as(said.status);
	fprintf(stderr, "%s: %.*s: %s\n", program, (int)sizeof(said.what), said.what,
		said.err == ENOENT ? "not found" : strerror(said.err));
	exit(said.err == ENOENT ? 127 : 1);
}

static _Noreturn void attend(int line, struct relay *relay)
{
	struct pollfd waits[4] = {{line, POLLIN, 0},
				  {-1, POLLIN, 0},
				  {relay->own, POLLIN, 0},
				  {relay->master, POLLIN, 0}};
	struct signalfd_siginfo news;
	sigset_t signals;

	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof(handed_on) / sizeof(*handed_on); i++)
		sigaddset(&signals, handed_on[i]);
	sigaddset(&signals, SIGWINCH);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	waits[1].fd = signalfd(-1, &signals, SFD_CLOEXEC);
	for (;;) {
		uint8_t number;

		if (poll(waits, 4, -1) < 0 && errno != EINTR)
			quit("poll");
		if (waits[1].revents && read(waits[1].fd, &news, sizeof(news)) == sizeof(news)) {
			number = (uint8_t)news.ssi_signo;
			if (number == SIGWINCH && relay->own >= 0)
				match_size(relay->own, relay->master);
			else if (number != SIGWINCH)
				send(line, &number, 1, MSG_NOSIGNAL);
		}
		if (waits[2].revents && !carry(relay->own, relay->master))
			waits[2].fd = -1;
		if (waits[3].revents && !carry(relay->master, relay->own))
			waits[3].fd = -1;
		if (waits[0].revents)
			hear(line, relay);
	}
}

_Noreturn void sudo_run(const struct sudo_command *command)
{
	struct relay relay;
	int fds[3] = {0, 1, 2}, line = -1;

	/* It starts with the sandbox, of which this may be the first command. */
	for (int tries = 0; (line = sudo_connect()) < 0 && errno == ECONNREFUSED && tries < 200;
	     tries++)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	program = command->name;
	if (line < 0)
		quit("nobody in this sandbox can become root");
	if (command->background && fork() != 0)
		exit(0);
	make_terminal(&relay, fds);
	ask(line, command, fds, relay.master >= 0);
	if (relay.other >= 0)
		close(relay.other); /* the command's own tells when it is over */
	attend(line, &relay);
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	struct sudo_command command = {.name = "sudo", .user = "root", .group = "", .program = ""};

	if (argc == 2 && strcmp(argv[1], "--serve") == 0)
		sudo_serve();
	if (strcmp(name ? name + 1 : argv[0], "su") == 0) {
		command.name = "su";
		su_options(&command, argc, argv);
	} else {
		sudo_options(&command, argc, argv);
	}
	sudo_run(&command);
}
