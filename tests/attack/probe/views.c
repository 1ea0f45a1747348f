/* What a job sees of itself and of others: descriptors, processes, devices, names. */
#include "probe.h"

#include <dirent.h>
#include <net/if.h>
#include <sys/resource.h>

extern char **environ;

static char text[65536];

static void append(const char *word)
{
	size_t at = strlen(text);

	if (at + strlen(word) + 2 < sizeof(text))
		snprintf(text + at, sizeof(text) - at, "%s%s", at ? " " : "", word);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void append_directory(const char *path, bool numbers_only)
{
	char *names[512];
	size_t count = 0;
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL && count < COUNT(names))
		if (entry->d_name[0] != '.' && (!numbers_only || atoi(entry->d_name) > 0))
			names[count++] = strdup(entry->d_name);
	qsort(names, count, sizeof(*names), by_text);
	for (size_t i = 0; i < count; i++)
		append(names[i]);
	if (dir)
		closedir(dir);
}

static void fds(void)
{
	char number[16];

	for (int fd = 0; fd < 65536; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			continue;
		snprintf(number, sizeof(number), "%d", fd);
		append(number);
	}
}

static void cwd(void)
{
	if (syscall(SYS_getcwd, text, sizeof(text)) < 0)
		append("none");
}

static void environment(void)
{
	for (char **entry = environ; *entry; entry++)
		append(strndup(*entry, strcspn(*entry, "=")));
}

static void others(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL)
		if (atoi(entry->d_name) > 0 && atoi(entry->d_name) != getpid())
			append("another");
}

/* kill() and friends find processes that /proc hides. */
static void reachable(void)
{
	for (pid_t pid = 2; pid < 4096; pid++)
		if (pid != getpid() && (kill(pid, 0) == 0 || errno == EPERM))
			append("another");
}

static void devices(void)
{
	append_directory("/dev", false);
}

static void interfaces(void)
{
	for (struct if_nameindex *at = if_nameindex(); at && at->if_index; at++)
		append(at->if_name);
}

static void top(void)
{
	append_directory("/", false);
}

static void residue(void)
{
	static const char *const places[] = {"/work",     "/tmp",        "/dev/shm", "/var/tmp",
					     "/var/lock", "/dev/mqueue", "/run"};

	for (size_t i = 0; i < COUNT(places); i++)
		append_directory(places[i], false);
}

static void file(const char *path)
{
	if (read_text(path, text, sizeof(text)) < 0)
		snprintf(text, sizeof(text), "errno %d", errno);
	for (char *c = text; *c; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
}

static void uid_map(void)
{
	long a, b, n;
	char map[4096];

	/* How many ids are mapped. */
	if (read_text("/proc/self/uid_map", map, sizeof(map)) < 0)
		return;
	for (char *line = strtok(map, "\n"); line; line = strtok(NULL, "\n"))
		if (sscanf(line, "%ld %ld %ld", &a, &b, &n) == 3)
			append(n == 1 ? "one" : "many");
}

static void cgroup(void)
{
	char lines[4096];

	if (read_text("/proc/self/cgroup", lines, sizeof(lines)) < 0)
		return;
	for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
		const char *path = strrchr(line, ':') + 1;

		if (strcmp(path, "/") != 0)
			append(path);
	}
	if (text[0] == 0)
		append("root");
}

static void session(void)
{
	int fd = open("/dev/tty", O_RDWR);

	append(getsid(0) == getpid() ? "leader" : "member");
	append(fd < 0 ? "without terminal" : "with terminal");
}

static void limits(void)
{
	static const int which[] = {RLIMIT_CORE,    RLIMIT_NICE,     RLIMIT_RTPRIO,
				    RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_SIGPENDING};
	char number[24];

	for (size_t i = 0; i < COUNT(which); i++) {
		struct rlimit limit;

		getrlimit(which[i], &limit);
		snprintf(number, sizeof(number), "%lld", (long long)limit.rlim_max);
		append(number);
	}
}

static void signals(void)
{
	sigset_t blocked;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	for (int number = 1; number < 65; number++) {
		struct sigaction action;

		if (sigismember(&blocked, number) == 1)
			append("blocked");
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
			append("handled");
	}
	if (text[0] == 0)
		append("default");
}

static void mounts(void)
{
	static char table[65536];
	const char *place;

	/* Paths of the host in the sources or options of our mounts. */
	if (read_text("/proc/self/mountinfo", table, sizeof(table)) < 0)
		return;
	for (char *line = strtok(table, "\n"); line; line = strtok(NULL, "\n")) {
		const char *part = strstr(line, " - ");

		if ((place = strstr(line, "lowerdir=")) != NULL ||
		    (part && (place = strstr(part, "/dev/")) != NULL))
			append(strndup(place, strcspn(place, ", ")));
	}
	if (text[0] == 0)
		append("none");
}

static void writable(void)
{
	static const char *const places[] = {"/",     "/etc", "/usr",  "/opt/attack", "/dev",
					     "/proc", "/var", "/work", "/tmp",        "/dev/shm"};
	char path[256];

	for (size_t i = 0; i < COUNT(places); i++) {
		snprintf(path, sizeof(path), "%s/attack-writable", places[i]);
		if (write_text(path, "x")) {
			unlink(path);
			append(places[i]);
		}
	}
}

static void privileges(void)
{
	static const char *const lines[] = {
		"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "Seccomp:", "NoNewPrivs:"};
	char status[8192];

	if (read_text("/proc/self/status", status, sizeof(status)) < 0)
		return;
	for (size_t i = 0; i < COUNT(lines); i++) {
		const char *at = strstr(status, lines[i]);

		append(at ? strndup(at + strlen(lines[i]) + 1,
				    strcspn(at + strlen(lines[i]) + 1, "\n"))
			  : "none");
	}
}

static void file_numbers(void)
{
	file("/proc/sys/fs/file-nr");
}

static void pid_of_host(void)
{
	file("/proc/sys/kernel/ns_last_pid");
	if (atoi(text) < 4096)
		strcpy(text, "of its own");
}

static void cgroup_count(void)
{
	file("/proc/cgroups");
}

static const struct {
	const char *name;
	void (*look)(void);
} looks[] = {
	{"fds", fds},
	{"cwd", cwd},
	{"environment", environment},
	{"others", others},
	{"reachable", reachable},
	{"devices", devices},
	{"interfaces", interfaces},
	{"top", top},
	{"residue", residue},
	{"uid_map", uid_map},
	{"cgroup", cgroup},
	{"session", session},
	{"limits", limits},
	{"signals", signals},
	{"mounts", mounts},
	{"writable", writable},
	{"privileges", privileges},
	{"file_numbers", file_numbers},
	{"last_pid", pid_of_host},
	{"cgroup_count", cgroup_count},
};

int views(int argc, char **argv)
{
	for (size_t i = 0; argc == 1 && i < COUNT(looks); i++) {
		if (strcmp(looks[i].name, argv[0]) == 0) {
			looks[i].look();
			say(argv[0], text);
			return 0;
		}
	}
	return 2;
}
