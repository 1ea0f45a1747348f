/* The host side of the native core, called from Python through cffi without the GIL. Every function
 * may block as its comment says, keeps no state, and may be called from any thread. */
#ifndef SBX_HOST_H
#define SBX_HOST_H

#include "wire.h"

#include <sys/types.h>

struct sbx_error {
	int stage, err, index;
};

struct sbx_sandbox {
	int pid; /* of init, as the host sees it; valid until it is reaped through pidfd */
	int pidfd;
	int control; /* SOCK_SEQPACKET to init, non-blocking */
	int exec;    /* to the runner, non-blocking */
	int scratch; /* mount of the scratch file system: for statfs and resizing, never for paths
		      */
	unsigned layers; /* bit per enum sbx_layer that init and runner applied */
};

/* The ABI that this library was built for. */
int sbx_abi(void);
const char *sbx_stage_name(int stage);
const char *sbx_layer_name(int layer);

/* A sealed memfd with the bytes of the sandbox-init executable, to exec from. -1 with errno. */
int sbx_seal(const char *path);

/* What init comes from; descriptors, of which none is taken. */
struct sbx_origin {
	int init;   /* the executable, as from sbx_seal */
	int zygote; /* socket of a zygote to be a copy of instead, or -1 */
	int cgroup; /* a v2 directory to be born into, or -1 */
	int netns;  /* a network namespace to be in, or -1 for one of its own */
};

/* Start sandbox-init and see it ready. Blocks for at most `timeout_ms`. On failure (-1) nothing is
 * left and `error` says which stage failed. A plan with SBX_PLAN_ZYGOTE makes a zygote: its `exec`
 * takes the order that starts the interpreter, and then serves as `zygote` here. */
int sbx_build(const struct sbx_origin *origin, const uint8_t *plan, size_t plan_size,
	      const int *tasks_fds, size_t tasks_count, int timeout_ms, struct sbx_sandbox *sandbox,
	      struct sbx_error *error);

/* Send an exec message: `head` is completed and followed by `body`, in a sealed memfd where it is
 * large. fds: stdin unless SBX_EXEC_STDIN_NULL, stdout, stderr. 0 or -1 with errno. */
int sbx_exec_send(int exec, struct sbx_exec *head, const uint8_t *body, size_t body_size,
		  const int *fds, size_t count);

/* Receive one message without blocking, with at most one descriptor (-1 if none). Length, 0 at the
 * end of the stream, -1 with errno (EAGAIN: none is there). */
ssize_t sbx_message(int socket, uint8_t *buffer, size_t size, int *fd);

/* inside_socket.c: a TCP socket, non-blocking, in a network namespace; `family` is AF_INET or
 * AF_INET6. The calling thread is elsewhere for the moment: never the event loop's. -1 with errno.
 */
int sbx_socket_inside(int netns, int family);

/* f_type of statfs(2), or -1 with errno. */
long sbx_fs_type(int fd);

/* Resize the scratch file system. 0 or -1 with errno. */
int sbx_resize(int scratch, uint64_t disk, unsigned inodes);

/* SIGKILL through `pidfd` and wait until the process, and with a pid namespace's init all of its
 * namespace, is gone; blocks for at most `timeout_ms`. 0, or -1 with ETIMEDOUT or another errno. */
int sbx_reap(int pidfd, int timeout_ms);

/* idmap.c: descriptor of a user namespace that maps `count` ids from `from` on, as a file system
 * has them, to those from `to` on, for SBX_PLAN_IDMAP. -1 with errno. */
int sbx_idmap(uint32_t from, uint32_t to, uint32_t count);

/* netns.c: descriptor of a new network namespace with its loopback up. -1 with errno. */
int sbx_netns_new(void);
/* Every count that the namespace keeps, as text: as long as nobody has used it, it is what it was
 * when the namespace was new. Length, or -1 with errno (EFBIG). */
ssize_t sbx_netns_traces(int netns, uint8_t *buffer, size_t size);

/* group.c: one thing to do for a group in the root number `root`. */
enum {
	SBX_STEP_MAKE = 1, /* its directory */
	SBX_STEP_READ,     /* open `file`, to keep */
	SBX_STEP_WRITE,
	SBX_STEP_SET,   /* value number `at`, which may be rounded down to a multiple of `unit` */
	SBX_STEP_EVENT, /* an eventfd, to keep, for kept descriptor number `at` */
};
struct sbx_step {
	uint8_t kind, root, at;
	uint32_t unit;
	char file[36];
};
/* Take all steps; `fds` gets what is kept, in order. -1; or the number of the step that failed,
 * with errno: then nothing is left. */
int sbx_group_make(const int *roots, size_t root_count, const char *name,
		   const struct sbx_step *steps, size_t step_count, const uint64_t *values,
		   int *fds, size_t fd_count);
/* Remove the directory from every root, waiting for what is just leaving it: for some seconds at
 * most. 0, or -1 with EBUSY or another errno. */
int sbx_group_remove(const int *roots, size_t root_count, const char *name);

/* seccomp.c: a policy under construction, by libseccomp. `action` as SCMP_ACT_*. */
struct sbx_policy;
struct sbx_condition {
	unsigned argument;
	int op; /* enum scmp_compare */
	uint64_t a, b;
};
struct sbx_policy *sbx_policy_new(uint32_t default_action);
/* 0; 1 if the name is unknown on this architecture (skipped); negative errno. */
int sbx_policy_add(struct sbx_policy *policy, uint32_t action, const char *name,
		   const struct sbx_condition *conditions, unsigned count);
/* Length of the program (array of struct sock_filter) in bytes, or negative errno. */
ssize_t sbx_policy_program(struct sbx_policy *policy, uint8_t *buffer, size_t size);
void sbx_policy_free(struct sbx_policy *policy);

/* What the program answers (SECCOMP_RET_*) for a system call. 0 and *verdict, or -1 with EINVAL
 * where the kernel would refuse the program. */
int sbx_evaluate(const uint8_t *program, size_t size, uint32_t arch, int number,
		 const uint64_t args[6], uint32_t *verdict);

#endif
