/* Each page that a copy shares with its zygote costs a fault when the copy first writes to it,
 * which for a small program is half of its time. Copies have the time to pay before their order
 * comes; but of an interpreter's writable memory most is never written again, and to copy that
 * costs more than all the rest of a sandbox. So the zygote first makes one copy of its own, which
 * runs an ordinary script to its end, and looks which pages that one no longer shared. Whatever
 * another program writes to beyond those it pays for as it runs.
 */
#include "rehearsal.h"

#include "kernel.h"
#include "wire.h"

#include <Python.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000, PAGE = 4096, PAGES_MAX = 4096 };

static const char name[] = "main.py";
/* Tells when it is through, and waits to be looked at. */
static const char script[] =
	"import sys\n"
	"class Thing:\n"
	"    def __init__(self, number):\n"
	"        self.number = number\n"
	"def twice(n):\n"
	"    return [Thing(i) for i in range(n)], {str(i): i / 2 for i in range(n)}\n"
	"try:\n"
	"    raise ValueError('none')\n"
	"except ValueError as error:\n"
	"    things, table = twice(20)\n"
	"print(f'{sum(table.values()):.2f}', sorted(table), flush=True)\n"
	"sys.stdin.readline()\n";

static struct {
	uintptr_t start, end;
} owned[1024];
static size_t owned_count;

static uint8_t *put(uint8_t *at, const void *data, uint32_t size)
{
	memcpy(at, &size, sizeof(size));
	memcpy(at + sizeof(size), data, size);
	return at + sizeof(size) + size;
}

/* As the host gives one (proto.h): run the script in the directory that we are in. */
static int send_order(int socket, const int streams[3])
{
	static const char *const strings[] = {".", "python3", name, "LANG=C.UTF-8"};
	struct sbx_exec head = {
		.head = {SBX_MSG_EXEC, SBX_ABI, 0}, .argc = 2, .envc = 1, .filec = 1};
	const uint32_t mode = 0600;
	uint8_t body[sizeof(script) + 256], *at = body;

	for (size_t i = 0; i < sizeof(strings) / sizeof(*strings); i++)
		at = put(at, strings[i], (uint32_t)strlen(strings[i]) + 1);
	at = put(at, name, sizeof(name));
	at = put(at, &mode, sizeof(mode));
	at = put(at, script, sizeof(script) - 1);
	head.body_size = (uint32_t)(at - body);
	return sbx_send2(socket, &head, sizeof(head), body, head.body_size, streams, 3);
}

static bool keep(uintptr_t page, size_t *pages)
{
	if (owned_count > 0 && owned[owned_count - 1].end == page) {
		owned[owned_count - 1].end += PAGE;
	} else {
		if (owned_count == sizeof(owned) / sizeof(*owned))
			return false;
		owned[owned_count].start = page;
		owned[owned_count++].end = page + PAGE;
	}
	return ++*pages < PAGES_MAX;
}

/* Pages of one mapping that are there, are nobody else's and of no file: bits 63, 56 and 61 of
 * their entries. */
static bool keep_written(int pagemap, uintptr_t start, uintptr_t end, size_t *pages)
{
	const uint64_t mask = 1ull << 63 | 1ull << 61 | 1ull << 56, own = 1ull << 63 | 1ull << 56;
	uint64_t entries[512];

	while (start < end) {
		size_t count = (end - start) / PAGE, most = sizeof(entries) / sizeof(*entries);
		ssize_t got =
			pread(pagemap, entries, (count < most ? count : most) * sizeof(*entries),
			      (off_t)(start / PAGE * sizeof(*entries)));

		if (got < (ssize_t)sizeof(*entries))
			return false;
		for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, start += PAGE)
			if ((entries[i] & mask) == own && !keep(start, pages))
				return false;
	}
	return true;
}

static void learn(pid_t pid)
{
	char path[64], rights[5], line[512];
	unsigned long start, end;
	size_t pages = 0;
	FILE *maps = fopen("/proc/self/maps", "re");
	sbx_autoclose int pagemap = -1;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	/* By our own mappings: what the copy has mapped since is its own business. */
	while (maps != NULL && pagemap >= 0 && fgets(line, sizeof(line), maps) != NULL)
		if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 &&
		    strcmp(rights, "rw-p") == 0 && strstr(line, "[stack]") == NULL &&
		    !keep_written(pagemap, start, end, &pages))
			break;
	if (maps != NULL)
		fclose(maps);
}

/* Whether it has said something: its script is through. */
static bool through(int output)
{
	struct pollfd wait = {.fd = output, .events = POLLIN};
	char byte;

	return SBX_RETRY(poll(&wait, 1, PATIENCE_MS)) == 1 && read(output, &byte, 1) == 1;
}

/* In the copy: its order socket where a sandbox has it, and nothing of the zygote's. */
static void take_part(int socket, int order, const int *others, size_t count)
{
	if (dup2(order, socket) < 0)
		_exit(127);
	close(order);
	for (size_t i = 0; i < count; i++)
		close(others[i]);
	PyOS_AfterFork_Child();
}

bool rehearse(int socket)
{
	int order[2] = {-1, -1}, input[2] = {-1, -1}, output[2] = {-1, -1};
	pid_t pid = -1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, order) == 0 &&
	    pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0 &&
	    send_order(order[0], (const int[]){input[0], output[1], output[1]}) == 0) {
		PyOS_BeforeFork();
		pid = fork();
		if (pid == 0) {
			const int others[] = {order[0], input[0], input[1], output[0], output[1]};

			take_part(socket, order[1], others, sizeof(others) / sizeof(*others));
			return true;
		}
		PyOS_AfterFork_Parent();
	}
	if (output[1] >= 0)
		close(output[1]); /* or its end would never be seen */
	if (pid > 0) {
		if (through(output[0]))
			learn(pid);
		kill(pid, SIGKILL);
		SBX_RETRY(waitpid(pid, NULL, 0));
		unlink(name);
	}
	const int left[] = {order[0], order[1], input[0], input[1], output[0]};
	for (size_t i = 0; i < sizeof(left) / sizeof(*left); i++)
		if (left[i] >= 0)
			close(left[i]);
	return false;
}

void own_memory(void)
{
	/* A kernel that cannot lets it fault. */
	for (size_t i = 0; i < owned_count; i++)
		madvise((void *)owned[i].start, owned[i].end - owned[i].start, MADV_POPULATE_WRITE);
}
