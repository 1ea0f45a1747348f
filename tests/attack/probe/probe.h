/* The attacker's tool box: one static executable, sub-commands by theme, answers as lines of JSON.
 *
 * It holds property probes only: calls with impossible pointers, deeds that would be harmless where
 * they worked, and floods that the suite lets go after it has read their caps. */
#ifndef PROBE_H
#define PROBE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* No user address: a call that gets as far as reading it answers EFAULT. As an int it is -4096. */
#define BAD          (-4096L)

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* One line {"key": "value"}; `value` is escaped. */
void say(const char *key, const char *value);
void say_number(const char *key, long long value);

/* "ok", or "errno N" of a result as system calls give it (-1 with errno). */
void say_result(const char *key, long result);

/* Run `body` in a child: its return value (0 to 255), or 256 plus the signal that ended it. A child
 * that hangs is ended by SIGALRM after two seconds. */
int in_child(int (*body)(const void *), const void *argument);

/* Stop until the suite, which has then seen what it wants to see, lets us go on. */
void poise(void);

bool write_text(const char *path, const char *text);

/* Bytes read, -1 with errno. The text ends with a NUL. */
ssize_t read_text(const char *path, char *text, size_t size);

void nap(long milliseconds);

struct row {
	const char *name;
	long (*run)(void); /* >= 0: it worked; -1 with errno */
};
int run_row(const struct row *rows, size_t count, const char *name);

int kernel_calls(int argc, char **argv);
int kernel_sweep(int argc, char **argv);
int kernel_sockets(int argc, char **argv);
int kernel_abi(int argc, char **argv);
int deeds(int argc, char **argv);
/* Of those that read, list or touch files: in the tree whose root is descriptor 0. */
int deeds_through(int argc, char **argv);
int views(int argc, char **argv);
int channels(int argc, char **argv);
int bombs(int argc, char **argv);
int streams(int argc, char **argv);

extern const struct row identity_deeds[], mount_deeds[], kernel_deeds[], file_deeds[];
extern const size_t identity_count, mount_count, kernel_count, file_count;

#endif
