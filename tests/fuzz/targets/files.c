/* Files in and out of a job's directory: first byte, write, open or glob; then the path. The tree
 * holds links that lead out. Nothing outside may be opened, made or changed, whatever the path. */
#include "fuzz.h"

#include "init.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char base[32];
static char work_path[64];
static struct init init;
static int host, outside;

static void clean(void)
{
	char command[128];

	snprintf(command, sizeof(command), "exec rm -rf -- %s", base);
	if (system(command) != 0)
		abort();
}

static void tear_down(void)
{
	clean();
	close(init.control);
	close(init.work);
	close(host);
	close(outside);
}

static void set_up(void)
{
	static const char *const links[][2] = {
		{"/etc", "etc"},   {"..", "up"},     {"../outside", "sibling"},
		{"/", "root"},     {"loop", "loop"}, {"/proc/self/root", "magic"},
		{"file", "inner"},
	};
	int pair[2], before = open(".", O_PATH | O_DIRECTORY);

	strcpy(base, "/tmp/fuzz-files-XXXXXX");
	PROMISE(mkdtemp(base) != NULL);
	snprintf(work_path, sizeof(work_path), "%s/work", base);
	PROMISE(chdir(base) == 0 && mkdir("outside", 0777) == 0 && mkdir("work", 0777) == 0);
	close(open("outside/secret", O_WRONLY | O_CREAT, 0666));
	outside = open("outside", O_PATH | O_DIRECTORY);
	PROMISE(chdir("work") == 0 && mkdir("d", 0777) == 0 && mkdir("d/e", 0777) == 0);
	close(open("file", O_WRONLY | O_CREAT, 0666));
	close(open("d/x1", O_WRONLY | O_CREAT, 0666));
	close(open("d/x2", O_WRONLY | O_CREAT, 0666));
	PROMISE(mkfifo("fifo", 0666) == 0);
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		PROMISE(symlink(links[i][0], links[i][1]) == 0);
	PROMISE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
	init.control = pair[0];
	host = pair[1];
	init.work = open(".", O_PATH | O_DIRECTORY);
	PROMISE(fchdir(before) == 0);
	close(before);
}

/* A regular file below the job's directory, by the kernel's own name for it. */
static void check_file(int fd)
{
	char link[64], name[4096];
	struct stat status;
	ssize_t length;

	PROMISE(fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, name, sizeof(name) - 1);
	PROMISE(length > 0);
	name[length] = 0;
	PROMISE(strncmp(name, work_path, strlen(work_path)) == 0);
	PROMISE(name[strlen(work_path)] == '/');
}

static void take_answers(void)
{
	uint8_t answer[512];
	int fds[SBX_FDS_MAX];
	size_t count;
	ssize_t size;
	bool more = true;

	while ((size = sbx_receive(host, answer, sizeof(answer), fds, &count, 0)) > 0) {
		struct sbx_opened opened;

		PROMISE(more && size >= (ssize_t)sizeof(opened) && count <= 1);
		memcpy(&opened, answer, sizeof(opened));
		PROMISE(opened.head.type == SBX_MSG_OPENED);
		PROMISE(memchr(answer + sizeof(opened), '/', (size_t)size - sizeof(opened)) ==
			NULL);
		more = opened.more;
		PROMISE(opened.err == 0 || count == 0);
		if (count == 1) {
			check_file(fds[0]);
			close(fds[0]);
		}
	}
	PROMISE(!more);
}

static void check_outside(void)
{
	struct stat status;

	PROMISE(fstat(outside, &status) == 0 && status.st_nlink == 2);
	PROMISE(fstatat(outside, "secret", &status, 0) == 0 && status.st_size == 0);
	PROMISE(fstatat(outside, "..", &status, 0) == 0 && status.st_nlink == 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char path[2048];
	struct file file = {.path = path, .mode = 0600, .size = 3, .data = (const uint8_t *)"abc"};

	static unsigned runs;

	/* Directories that were made on the way to files stay; a new tree now and then. */
	if (runs++ % 8000 == 0) {
		if (runs > 1)
			tear_down();
		else
			atexit(clean);
		set_up();
	}
	if (size < 1 || size >= sizeof(path))
		return 0;
	memcpy(path, data + 1, size - 1);
	path[size - 1] = 0;
	if (data[0] % 3 == 0) {
		if (write_file(init.work, &file) == 0) {
			int fd = openat(init.work, path, O_RDONLY | O_NOFOLLOW);

			check_file(fd);
			close(fd);
			unlinkat(init.work, path, 0);
		}
	} else {
		send_files(&init, path, data[0] % 3 == 2);
		take_answers();
	}
	check_outside();
	return 0;
}
