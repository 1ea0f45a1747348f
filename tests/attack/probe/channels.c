/* One bit from one sandbox to another: an object is held by the one and sought by the other.
 *
 * `channel OBJECT hold WORD` sets the object up and stops itself; `seek` looks for it meanwhile;
 * `plant` leaves it and ends. What the holder learns from the seeker it says when it goes on. */
#include "probe.h"

#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define SHARED "/opt/attack/env"

static const char *word;

static int number(void)
{
	unsigned value = 5381;

	for (const char *c = word; *c; c++)
		value = value * 33 + (unsigned char)*c;
	return (int)(value & 0x3fffffff) | 1;
}

static const char *path_of(const char *directory)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", directory, word);
	return path;
}

static int unix_socket(bool hold, bool abstract)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t size = sizeof(address);

	if (abstract)
		size = offsetof(struct sockaddr_un, sun_path) + 1 +
		       (size_t)snprintf(address.sun_path + 1, 90, "%s", word);
	else
		snprintf(address.sun_path, sizeof(address.sun_path), "%s", path_of("/tmp"));
	if (hold)
		return bind(fd, (struct sockaddr *)&address, (socklen_t)size) ? -1 : listen(fd, 1);
	return connect(fd, (struct sockaddr *)&address, (socklen_t)size);
}

static int abstract(bool hold)
{
	return unix_socket(hold, true);
}

static int named(bool hold)
{
	return unix_socket(hold, false);
}

static int in_directory(bool hold, const char *directory)
{
	return hold ? (write_text(path_of(directory), "x") ? 0 : -1)
		    : access(path_of(directory), F_OK);
}

static int tmp(bool hold)
{
	return in_directory(hold, "/tmp");
}

static int work(bool hold)
{
	return in_directory(hold, "/work");
}

static int shm_directory(bool hold)
{
	return in_directory(hold, "/dev/shm");
}

static int var_tmp(bool hold)
{
	return in_directory(hold, "/var/tmp");
}

static int sysv_shm(bool hold)
{
	return shmget(number(), 4096, hold ? IPC_CREAT | 0666 : 0);
}

static int sysv_queue(bool hold)
{
	return msgget(number(), hold ? IPC_CREAT | 0666 : 0);
}

static int sysv_semaphore(bool hold)
{
	return semget(number(), 1, hold ? IPC_CREAT | 0666 : 0);
}

static int posix_queue(bool hold)
{
	char name[200] = "/";

	strncat(name, word, sizeof(name) - 2);
	return (int)mq_open(name, hold ? O_CREAT | O_RDWR : O_RDONLY, 0666, NULL);
}

static int keyring(bool hold)
{
	/* The user's keyring, which has no namespace but the user's id. */
	if (hold)
		return (int)syscall(SYS_add_key, "user", word, "x", 1, -4);
	return (int)syscall(SYS_keyctl, 10, -4, "user", word, 0);
}

static int whole_file_lock(bool hold)
{
	int fd = open(SHARED, O_RDONLY);

	if (hold)
		return flock(fd, LOCK_EX | LOCK_NB);
	/* Found means: somebody has it. */
	return flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK ? 0 : -1;
}

static int record_lock(bool hold)
{
	struct flock lock = {.l_type = F_RDLCK, .l_start = number(), .l_len = 1};
	int fd = open(SHARED, O_RDONLY);

	if (hold)
		return fcntl(fd, F_SETLK, &lock);
	lock.l_type = F_WRLCK;
	return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? 0 : -1;
}

static int lease(bool hold)
{
	int fd = open(SHARED, O_RDONLY);

	if (hold)
		return fcntl(fd, F_SETLEASE, F_RDLCK);
	return open(SHARED, O_RDWR | O_NONBLOCK) < 0 && errno == EWOULDBLOCK ? 0 : -1;
}

static int watcher = -1;

static int watch(bool hold)
{
	char byte;

	if (hold) {
		watcher = inotify_init1(IN_NONBLOCK);
		return inotify_add_watch(watcher, SHARED, IN_OPEN);
	}
	return read(open(SHARED, O_RDONLY), &byte, 1) == 1 ? 0 : -1;
}

static int watch_directory(bool hold)
{
	if (hold) {
		watcher = inotify_init1(IN_NONBLOCK);
		return inotify_add_watch(watcher, "/opt/attack", IN_OPEN | IN_ACCESS);
	}
	return open("/opt/attack", O_RDONLY | O_DIRECTORY) >= 0 && open(SHARED, O_RDONLY) >= 0 ? 0
											       : -1;
}

static volatile sig_atomic_t notified;

static void on_notify(int signal)
{
	(void)signal;
	notified = 1;
}

static int directory_notify(bool hold)
{
	char byte;

	if (hold) {
		signal(SIGRTMIN + 5, on_notify);
		int fd = open("/opt/attack", O_RDONLY | O_DIRECTORY);

		return fcntl(fd, F_SETSIG, SIGRTMIN + 5) ||
				       fcntl(fd, F_NOTIFY, 1u /* DN_ACCESS */ | 0x80000000u)
			       ? -1
			       : 0;
	}
	return read(open(SHARED, O_RDONLY), &byte, 1) == 1 ? 0 : -1;
}

static int shared_futex(bool hold)
{
	struct timespec limit = {3, 0};
	uint32_t *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, open(SHARED, O_RDONLY), 0);

	if (page == MAP_FAILED)
		return -1;
	if (!hold)
		return syscall(SYS_futex, page, FUTEX_WAKE, 1, NULL, NULL, 0) == 1 ? 0 : -1;
	if (fork() == 0) {
		syscall(SYS_futex, page, FUTEX_WAIT, *page, &limit, NULL, 0);
		_exit(0);
	}
	nap(50);
	return 0;
}

static int loopback(bool hold, int type)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)(20000 + number() % 20000)),
				      .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, type, 0), error;
	socklen_t size = sizeof(address);
	char byte = 1;

	if (hold)
		return bind(fd, (struct sockaddr *)&address, size) ? -1
		       : type == SOCK_STREAM                       ? listen(fd, 1)
								   : 0;
	if (connect(fd, (struct sockaddr *)&address, size) != 0)
		return -1;
	send(fd, &byte, 1, MSG_NOSIGNAL);
	nap(20);
	size = sizeof(error);
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) || error ? -1 : 0;
}

static int tcp(bool hold)
{
	return loopback(hold, SOCK_STREAM);
}

static int udp(bool hold)
{
	return loopback(hold, SOCK_DGRAM);
}

static int process(bool hold)
{
	char path[64], line[4096];

	for (int pid = 1; !hold && pid < 65536; pid++) {
		snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
		ssize_t size = pid == getpid() ? -1 : read_text(path, line, sizeof(line));

		if (size > 0 && memmem(line, (size_t)size, word, strlen(word)))
			return 0;
	}
	return hold ? 0 : -1;
}

static int host_name(bool hold)
{
	char name[65] = "";

	if (hold)
		return sethostname(word, strlen(word) > 60 ? 60 : strlen(word));
	return gethostname(name, 64) == 0 && strncmp(name, word, 60) == 0 ? 0 : -1;
}

static int netlink_group(bool hold)
{
	/* Sockets of one kind hear each other within one network namespace. */
	struct {
		unsigned short family, pad;
		unsigned pid, groups;
	} address = {AF_NETLINK, 0, 0x7a7a7a, 0};
	int fd = socket(AF_NETLINK, SOCK_RAW, 0);

	if (hold)
		return bind(fd, (void *)&address, sizeof(address));
	return bind(fd, (void *)&address, sizeof(address)) != 0 && errno == EADDRINUSE ? 0 : -1;
}

static const struct {
	const char *name;
	int (*act)(bool hold);
	bool told; /* it is the holder that learns */
} objects[] = {
	{"abstract", abstract, false},
	{"named", named, false},
	{"tmp", tmp, false},
	{"work", work, false},
	{"shm_directory", shm_directory, false},
	{"var_tmp", var_tmp, false},
	{"sysv_shm", sysv_shm, false},
	{"sysv_queue", sysv_queue, false},
	{"sysv_semaphore", sysv_semaphore, false},
	{"posix_queue", posix_queue, false},
	{"keyring", keyring, false},
	{"whole_file_lock", whole_file_lock, false},
	{"record_lock", record_lock, false},
	{"lease", lease, false},
	{"watch", watch, true},
	{"watch_directory", watch_directory, true},
	{"directory_notify", directory_notify, true},
	{"shared_futex", shared_futex, false},
	{"tcp", tcp, false},
	{"udp", udp, false},
	{"process", process, false},
	{"host_name", host_name, false},
	{"netlink_group", netlink_group, false},
};

static void learn(const char *name)
{
	char event[4096];

	if (watcher >= 0)
		say(name, read(watcher, event, sizeof(event)) > 0 ? "told" : "nothing");
	else
		say(name, notified ? "told" : "nothing");
}

static void remove_files(void)
{
	static const char *const directories[] = {"/tmp", "/work", "/dev/shm", "/var/tmp"};

	for (size_t i = 0; i < COUNT(directories); i++)
		unlink(path_of(directories[i]));
}

/* Both sides in one place, as the outside does it; it is the host's, so nothing is left in it. */
static void both(size_t i)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int held = objects[i].act(true);

		say("held", held < 0 ? "no" : "yes");
		poise();
		if (objects[i].told)
			learn("learned");
		_exit(0);
	}
	waitpid(pid, &status, WUNTRACED);
	say("sought", objects[i].act(false) < 0 ? "nothing" : "found");
	kill(pid, SIGCONT);
	waitpid(pid, &status, 0);
	remove_files();
}

int channels(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	word = argv[2];
	for (size_t i = 0; i < COUNT(objects); i++) {
		if (strcmp(objects[i].name, argv[0]) != 0)
			continue;
		if (strcmp(argv[1], "both") == 0) {
			both(i);
		} else if (strcmp(argv[1], "seek") == 0) {
			say("sought", objects[i].act(false) < 0 ? "nothing" : "found");
		} else {
			int held = objects[i].act(true);

			say("held", held < 0 ? "no" : "yes");
			if (strcmp(argv[1], "hold") == 0)
				poise();
			if (objects[i].told)
				learn("learned");
		}
		return 0;
	}
	return 2;
}
