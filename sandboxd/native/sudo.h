/* sudo and su of a sandbox that has a root.
 *
 * Nothing in a sandbox gains rights by exec, so neither can be set-user-ID. The program is both
 * ends of a socket: as `sudo --serve` it runs as root from the start, which is uid 0 of the sandbox
 * and nobody outside; as sudo or su it asks that one to run a command with its own descriptors,
 * directory and environment, hands signals on, and ends as the command ends. Who may ask: root, and
 * the sandbox's user.
 */
#ifndef SBX_SUDO_H
#define SBX_SUDO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SUDO_TEXT_MAX = 2 << 20, SUDO_WORDS_MAX = 65536, SUDO_FDS = 5, SUDO_USER = 1000 };

/* Comes with SUDO_FDS descriptors: stdin, stdout, stderr, the working directory, and a memfd with
 * the texts, each with its NUL: the user and the group to become, the program, `argc` arguments,
 * `envc` variables. An empty group is the user's own; an empty program is the first argument. */
struct sudo_request {
	uint32_t argc, envc, umask;
	uint32_t flags; /* enum sudo_flags */
};

enum sudo_flags {
	SUDO_TERMINAL = 1 << 0, /* stdin, stdout and stderr may be a new terminal's: make it the
				   controlling one */
	SUDO_LOGIN = 1 << 1,    /* begin in the user's home */
	SUDO_SET_HOME = 1 << 2, /* HOME is the user's */
	SUDO_NAME = 1 << 3,     /* USER, LOGNAME and SHELL are the user's */
	SUDO_SHELL = 1 << 4, /* the program is the user's shell, which is also the first argument */
};

/* The server's answers, as often as something changes; the last is not `stopped`. */
struct sudo_answer {
	int32_t status;  /* of wait(2) */
	int32_t err;     /* not 0: it could not be started, because of `what` */
	int32_t stopped; /* 1: it will go on after SIGCONT */
	char what[64];
};

int sudo_connect(void);
_Noreturn void sudo_serve(void);

/* What the command line asks for; ends the program where that is nothing to run. */
struct sudo_command {
	const char *name; /* of this program: sudo or su */
	const char *user, *group, *program;
	char **arguments;
	char **environment; /* all of it */
	uint32_t flags;
	bool background;
};
void sudo_options(struct sudo_command *command, int argc, char **argv);
void su_options(struct sudo_command *command, int argc, char **argv);

/* Run it to its end, and end as it did. */
_Noreturn void sudo_run(const struct sudo_command *command);

#endif
