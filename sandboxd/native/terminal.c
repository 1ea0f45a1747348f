/* A terminal for a process: the job's own, made inside, in the sandbox's own devpts. The host gets
 * the master's descriptor, and only reads, writes and sizes it. */
#include "init.h"

#include <fcntl.h>
#include <sys/ioctl.h>

int take_terminal(int socket, uint16_t rows, uint16_t columns)
{
	const struct sbx_head message = {SBX_MSG_TERMINAL, SBX_ABI, 0};
	const struct winsize size = {.ws_row = rows, .ws_col = columns};
	int unlocked = 0, slave, above;
	sbx_autoclose int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) != 0 ||
	    ioctl(master, TIOCSWINSZ, &size) != 0)
		return -1;
	/* By descriptor: no name is looked up. */
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) != 0)
		return -1;
	if (sbx_send(socket, &message, sizeof(message), &master, 1) != 0)
		return -1;
	close(master);
	master = -1;
	above = fcntl(slave, F_DUPFD_CLOEXEC, 3); /* it may be one of them already */
	for (int fd = 0; fd <= 2; fd++)
		if (above < 0 || dup3(above, fd, 0) < 0)
			return -1;
	return close(above);
}
