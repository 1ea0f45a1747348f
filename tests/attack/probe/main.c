#include "probe.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"call", kernel_calls},     {"sweep", kernel_sweep}, {"sockets", kernel_sockets},
	{"abi", kernel_abi},        {"deed", deeds},         {"view", views},
	{"channel", channels},      {"bomb", bombs},         {"stream", streams},
	{"through", deeds_through},
};

void say(const char *key, const char *value)
{
	char line[16384];
	size_t at = (size_t)snprintf(line, sizeof(line), "{\"%s\": \"", key);

	for (; *value && at < sizeof(line) - 16; value++) {
		unsigned char c = (unsigned char)*value;

		if (c == '"' || c == '\\' || c < 32 || c > 126)
			at += (size_t)snprintf(line + at, 8, "\\u%04x", c);
		else
			line[at++] = (char)c;
	}
	memcpy(line + at, "\"}\n", 3);
	if (write(1, line, at + 3) < 0)
		_exit(9);
}

void say_number(const char *key, long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", value);
	say(key, text);
}

void say_result(const char *key, long result)
{
	char text[32] = "ok";

	if (result < 0)
		snprintf(text, sizeof(text), "errno %d", errno);
	say(key, text);
}

int in_child(int (*body)(const void *), const void *argument)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(2);
		_exit(body(argument));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 255;
	return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

void poise(void)
{
	kill(getpid(), SIGSTOP);
}

bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

ssize_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);
	int saved = errno;

	text[got > 0 ? got : 0] = 0;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return got;
}

void nap(long milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};

	nanosleep(&time, NULL);
}

int run_row(const struct row *rows, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(rows[i].name, name) == 0) {
			errno = 0;
			say_result(name, rows[i].run());
			return 0;
		}
	}
	return -1;
}

int deeds(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (run_row(identity_deeds, identity_count, argv[i]) != 0 &&
		    run_row(mount_deeds, mount_count, argv[i]) != 0 &&
		    run_row(kernel_deeds, kernel_count, argv[i]) != 0 &&
		    run_row(file_deeds, file_count, argv[i]) != 0)
			return 2;
	return 0;
}

/* Set-user-id and file-capability copies of this program, without arguments, say what they gained.
 */
static int gained(void)
{
	char text[8192], *line;

	if (read_text("/proc/self/status", text, sizeof(text)) < 0)
		return 3;
	line = strstr(text, "CapEff:\t");
	return geteuid() == 0 ? 10 : line && strncmp(line + 8, "0000000000000000", 16) ? 11 : 0;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return gained();
	for (size_t i = 0; i < COUNT(commands); i++)
		if (strcmp(commands[i].name, argv[1]) == 0)
			return commands[i].run(argc - 2, argv + 2);
	return 2;
}
