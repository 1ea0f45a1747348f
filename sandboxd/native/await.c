/* What an interpreter loads that waits in its sandbox for its order: said once for all of them that
 * can load a shared library. docs/warm.md has the protocol for those that cannot.
 *
 * The process is the job already, under every lock; nothing here is one. Its order is read, its
 * files are written, its variables, streams and directory are put in place, and the interpreter
 * goes on with the arguments that it is given.
 */
#include "await.h"
#include "init.h"

#include <fcntl.h>
#include <sys/mman.h>

enum { EXEC_FD = 3 };
/* Of the flags; with another it is an order for a runner. */
static const uint32_t KNOWN = SBX_EXEC_STDIN_NULL | SBX_EXEC_BODY_FD;

extern char **environ;

static struct order order;
static uint8_t message[sizeof(struct sbx_exec) + SBX_EXEC_INLINE_MAX];

static _Noreturn void give_up(enum sbx_stage stage, int index)
{
	struct sbx_fail report = {{SBX_MSG_FAIL, SBX_ABI, 0}, (int32_t)stage, errno, index};

	sbx_send(EXEC_FD, &report, sizeof(report), NULL, 0);
	_exit(127);
}

static const uint8_t *body_of(ssize_t size)
{
	void *body;
	int fd;

	if (parse_head(&order, message, (size_t)size) != 0 || order.head.flags & ~KNOWN)
		return NULL;
	if (!(order.head.flags & SBX_EXEC_BODY_FD))
		return message + sizeof(order.head);
	fd = order.fds[--order.fd_count];
	if (lseek(fd, 0, SEEK_END) != (off_t)order.head.body_size)
		return NULL;
	body = mmap(NULL, order.head.body_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	return body == MAP_FAILED ? NULL : body;
}

static int receive(void)
{
	ssize_t size =
		sbx_receive(EXEC_FD, message, sizeof(message), order.fds, &order.fd_count, 0);
	const uint8_t *body;

	if (size == 0)
		_exit(0); /* the sandbox was discarded unused */
	if (size < 0)
		return -1;
	body = body_of(size);
	return body ? parse_body(&order, body, order.head.body_size) : -1;
}

static int write_files(int *index)
{
	struct sbx_cursor files = order.files;
	sbx_autoclose int work = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (work < 0)
		return -1;
	for (uint32_t i = 0; i < order.head.filec; i++) {
		struct file file = next_file(&files);

		*index = (int)i;
		if (write_file(work, &file) != 0)
			return -1;
	}
	return 0;
}

/* The descriptors that came lie above those they replace, which are placeholders. */
static int place_streams(void)
{
	const int first = order.head.flags & SBX_EXEC_STDIN_NULL ? 1 : 0;

	if (first == 1) {
		int null = open("/dev/null", O_RDONLY | O_NOCTTY | O_CLOEXEC);

		if (null < 0 || dup2(null, 0) < 0 || close(null) != 0)
			return -1;
	}
	for (size_t i = 0; i < order.fd_count; i++)
		if (dup2(order.fds[i], first + (int)i) < 0 || close(order.fds[i]) != 0)
			return -1;
	return 0;
}

char **sandboxd_await(void)
{
	static bool over;
	const struct sbx_ready armed = {{SBX_MSG_ARMED, SBX_ABI, 0}, 0};
	enum sbx_stage stage = SBX_STAGE_RECEIVE;
	int index = 0;

	if (over)
		return NULL;
	over = true;
	if (sbx_send(EXEC_FD, &armed, sizeof(armed), NULL, 0) == 0 && receive() == 0 &&
	    (stage = SBX_STAGE_CWD, chdir(order.cwd)) == 0 &&
	    (stage = SBX_STAGE_FILES, write_files(&index)) == 0 &&
	    (stage = SBX_STAGE_FDS, index = 0, place_streams()) == 0) {
		close(EXEC_FD);
		environ = order.environment;
		return order.arguments;
	}
	give_up(stage, index);
}
