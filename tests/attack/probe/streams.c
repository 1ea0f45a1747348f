/* What a job does to its three streams, and to whatever descriptor it can find. */
#include "probe.h"

/* Messages as sandbox-init and its runner send them: exit 0, quiet, a file that is not there. */
static const unsigned char forged[][32] = {
	{7, 1, 0, 0, 0, 0, 0, 0, 1}, {9, 1}, {11, 1}, {1, 1}, {4, 1}, {5, 1}, {10, 1}, {8, 1}};

/* Write control messages into every descriptor but the job's own output. */
static int forge(void)
{
	int reached = 0;

	for (int fd = 3; fd < 4096; fd++)
		for (size_t i = 0; i < COUNT(forged); i++)
			reached += write(fd, forged[i], sizeof(forged[i])) > 0 ||
				   send(fd, forged[i], sizeof(forged[i]), MSG_NOSIGNAL) > 0;
	for (size_t i = 0; i < COUNT(forged); i++)
		reached += send(0, forged[i], sizeof(forged[i]), MSG_NOSIGNAL) > 0;
	say_number("reached", reached);
	return 3;
}

static int forge_in_output(void)
{
	for (size_t i = 0; i < COUNT(forged); i++)
		for (int fd = 1; fd < 3; fd++)
			if (write(fd, forged[i], sizeof(forged[i])) < 0)
				return 9;
	return 4;
}

static int close_all(void)
{
	for (int fd = 0; fd < 4096; fd++)
		close(fd);
	return 0;
}

static int close_range_all(void)
{
	return (int)syscall(SYS_close_range, 0, ~0u, 0);
}

/* In packet mode a pipe gives the reader each write by itself. */
static int packets(void)
{
	fcntl(1, F_SETFL, O_DIRECT);
	for (int i = 0; i < 20000; i++)
		if (write(1, "x", 1) != 1)
			return 9;
	return 0;
}

static int shrink(void)
{
	fcntl(1, F_SETPIPE_SZ, 4096);
	fcntl(1, F_SETFL, O_NONBLOCK);
	for (int left = 100000; left > 0;) {
		ssize_t done = write(1, "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", left > 32 ? 32 : left);

		if (done > 0)
			left -= (int)done;
		else
			nap(1);
	}
	return 0;
}

static int steal_output(void)
{
	char byte[16];
	int fd = open("/proc/self/fd/1", O_RDONLY | O_NONBLOCK);

	/* The pipe is the host's, so it may not open at all; and the host may be faster. */
	if (write(1, "kept\n", 5) != 5)
		return 9;
	return fd >= 0 && read(fd, byte, sizeof(byte)) == 0;
}

/* stdin is a memory file where it was given: ours alone, whatever we do to it. */
static int grow_input(void)
{
	long long written = 0;
	static char block[65536];

	while (written < (1LL << 30)) {
		ssize_t done = write(0, block, sizeof(block));

		if (done <= 0)
			break;
		written += done;
	}
	if (ftruncate(0, 1LL << 40) == 0)
		written++;
	say_number("written", written);
	return 0;
}

static int flood(int fd)
{
	static char block[65536];

	memset(block, 'f', sizeof(block));
	while (write(fd, block, sizeof(block)) > 0)
		;
	return 9;
}

static int flood_output(void)
{
	return flood(1);
}

static int flood_error(void)
{
	return flood(2);
}

static int flood_both(void)
{
	if (fork() == 0)
		return flood(2);
	return flood(1);
}

/* Somebody keeps stdout open, in a session of its own, and never ends. */
static int keep_output(void)
{
	if (fork() == 0) {
		setsid();
		signal(SIGTERM, SIG_IGN);
		for (;;)
			pause();
	}
	return 0;
}

static int pass_fds(void)
{
	char space[CMSG_SPACE(sizeof(int) * 3)] = {0};
	struct iovec piece = {(void *)(uintptr_t) "x", 1};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = space,
				 .msg_controllen = sizeof(space)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	const int fds[3] = {0, 1, 2};
	int reached = 0;

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(header), fds, sizeof(fds));
	for (int fd = 0; fd < 1024; fd++)
		reached += sendmsg(fd, &message, MSG_NOSIGNAL) > 0;
	say_number("reached", reached);
	return 0;
}

static int escapes(void)
{
	static const char text[] =
		"\x1b]0;owned\x07\x1b[2J\r\nHTTP/1.1 200 OK\r\n\r\n\xff\xfe\0\"}";

	return write(1, text, sizeof(text)) == sizeof(text) ? 0 : 9;
}

static int every_signal_to_init(void)
{
	for (int number = 1; number < 65; number++)
		for (int i = 0; i < 20; i++)
			kill(1, number);
	for (int number = 1; number < 65; number++) {
		siginfo_t info = {.si_signo = number, .si_code = -1, .si_pid = getpid()};

		syscall(SYS_rt_sigqueueinfo, 1, number, &info);
	}
	say("init", kill(1, 0) == 0 || errno == EPERM ? "there" : "gone");
	return 6;
}

static int all_signals_to_all(void)
{
	say("before", "x");
	kill(-1, SIGKILL);
	kill(-1, SIGSTOP);
	return 7;
}

static const struct {
	const char *name;
	int (*run)(void);
} streams_table[] = {
	{"forge", forge},
	{"forge_in_output", forge_in_output},
	{"close_all", close_all},
	{"close_range", close_range_all},
	{"packets", packets},
	{"shrink", shrink},
	{"steal_output", steal_output},
	{"grow_input", grow_input},
	{"flood_output", flood_output},
	{"flood_error", flood_error},
	{"flood_both", flood_both},
	{"keep_output", keep_output},
	{"pass_fds", pass_fds},
	{"escapes", escapes},
	{"signals_to_init", every_signal_to_init},
	{"signals_to_all", all_signals_to_all},
};

int streams(int argc, char **argv)
{
	for (size_t i = 0; argc == 1 && i < COUNT(streams_table); i++)
		if (strcmp(streams_table[i].name, argv[0]) == 0)
			return streams_table[i].run();
	return 2;
}
