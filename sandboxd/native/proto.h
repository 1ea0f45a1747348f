/* The contract between the node (host side) and sandbox-init (inside).
 *
 * Everything travels over SOCK_SEQPACKET sockets as one packed little-endian message, file
 * descriptors beside it as SCM_RIGHTS. The host never trusts a length or a number that comes from
 * inside; the inside checks every length too, since a plan may be built from a hostile request.
 *
 * Plan and exec bodies are a fixed head followed by fields in a fixed order, each a u32 length and
 * that many bytes. A string field includes its NUL and holds no other.
 */
#ifndef SBX_PROTO_H
#define SBX_PROTO_H

#include <stddef.h>
#include <stdint.h>

#define SBX_ABI             5 /* raised whenever a byte below changes its meaning; checked at import */

#define SBX_PLAN_MAX        65536u  /* bytes of a plan message */
#define SBX_EXEC_INLINE_MAX 131072u /* a larger exec body comes in a sealed memfd */
#define SBX_EXEC_MAX        (256u << 20)
#define SBX_NAME_MAX        255u
#define SBX_GLOB_MAX        256u /* files that one glob can bring back */

#define SBX_CONTROL_FD      3 /* init's end of the control socket */

/* Stages, in the order in which they happen. A failure names its stage, the errno, and an index
 * where the stage is a list (which mount, which file). */
#define SBX_STAGES(X)                                                                              \
	X(NONE, "none")                                                                            \
	X(SPAWN, "spawn")                                                                          \
	X(PLAN, "plan")                                                                            \
	X(HOME, "home")                                                                            \
	X(CGROUPS, "cgroups")                                                                      \
	X(PRIVATE, "private_mounts")                                                               \
	X(SCRATCH, "scratch")                                                                      \
	X(OVERLAY, "overlay")                                                                      \
	X(BINDS, "binds")                                                                          \
	X(DEV, "dev")                                                                              \
	X(PROC, "proc")                                                                            \
	X(MASK, "mask")                                                                            \
	X(PIVOT, "pivot")                                                                          \
	X(HOSTNAME, "hostname")                                                                    \
	X(LOOPBACK, "loopback")                                                                    \
	X(USERNS, "userns")                                                                        \
	X(RUNNER, "runner")                                                                        \
	X(CAPABILITIES, "capabilities")                                                            \
	X(QUIET, "quiet")                                                                          \
	X(READY, "ready")                                                                          \
	X(SESSION, "session")                                                                      \
	X(LANDLOCK, "landlock")                                                                    \
	X(APPARMOR, "apparmor")                                                                    \
	X(NO_NEW_PRIVS, "no_new_privs")                                                            \
	X(RESUME, "resume")                                                                        \
	X(SECCOMP, "seccomp")                                                                      \
	X(ARMED, "armed")                                                                          \
	X(RECEIVE, "receive")                                                                      \
	X(FILES, "files")                                                                          \
	X(RLIMITS, "rlimits")                                                                      \
	X(FDS, "fds")                                                                              \
	X(CWD, "cwd")                                                                              \
	X(EXEC, "exec")

enum sbx_stage {
#define SBX_STAGE_ENUM(id, name) SBX_STAGE_##id,
	SBX_STAGES(SBX_STAGE_ENUM)
#undef SBX_STAGE_ENUM
		SBX_STAGE_COUNT
};

/* Layers that init and runner report as applied. The last six every sandbox is made with: they are
 * not reported, and named here for the test build, which can leave them out. */
#define SBX_LAYERS(X)                                                                              \
	X(CGROUPNS, "cgroupns")                                                                    \
	X(OVERLAY, "overlay")                                                                      \
	X(MASKED_PROC, "masked_proc")                                                              \
	X(USERNS, "userns")                                                                        \
	X(CAPABILITIES, "capabilities")                                                            \
	X(NO_NEW_PRIVS, "no_new_privs")                                                            \
	X(SECCOMP, "seccomp")                                                                      \
	X(LANDLOCK, "landlock")                                                                    \
	X(APPARMOR, "apparmor")                                                                    \
	X(NETNS, "netns")                                                                          \
	X(MOUNT_FLAGS, "mount_flags")                                                              \
	X(IDENTITY, "identity")                                                                    \
	X(HIDEPID, "hidepid")                                                                      \
	X(OOM_SCORE, "oom_score")                                                                  \
	X(FLOOR, "floor")

enum sbx_layer {
#define SBX_LAYER_ENUM(id, name) SBX_LAYER_##id,
	SBX_LAYERS(SBX_LAYER_ENUM)
#undef SBX_LAYER_ENUM
		SBX_LAYER_COUNT
};

enum sbx_message {
	SBX_MSG_FAIL = 1, /* both ways of init and runner: struct sbx_fail */
	SBX_MSG_MAP,      /* init: write my uid and gid maps */
	SBX_MSG_MAPPED,   /* host: done */
	SBX_MSG_READY,    /* init: struct sbx_ready, fd of the scratch file system */
	SBX_MSG_ARMED,    /* runner: struct sbx_ready */
	SBX_MSG_EXEC,     /* host to runner: struct sbx_exec + body, fds */
	SBX_MSG_EXIT,     /* init: struct sbx_exit */
	SBX_MSG_QUIESCE,  /* host: kill every process of the job */
	SBX_MSG_QUIET,    /* init: none is left */
	SBX_MSG_OPEN,     /* host: struct sbx_open + glob or path */
	SBX_MSG_OPENED,   /* init: struct sbx_opened + name, fd if err is 0 */

	/* Of sessions, whose plan has SBX_PLAN_SESSION. */
	SBX_MSG_SPAWN,    /* host: struct sbx_spawn, fd of the exec socket of one more process */
	SBX_MSG_SPAWNED,  /* init: struct sbx_spawned */
	SBX_MSG_SIGNAL,   /* host: struct sbx_signal */
	SBX_MSG_TERMINAL, /* runner: struct sbx_head, fd of the terminal's master */
	SBX_MSG_FILE,     /* host to the file service: struct sbx_file_request + paths, fds */
	SBX_MSG_FILED,    /* file service: struct sbx_file_answer + body, fd where one was opened */

	/* Of zygotes. */
	SBX_MSG_FORK,   /* host: struct sbx_fork, fds: init's end of a control socket, the host's
			   mount namespace, and what the flags name */
	SBX_MSG_FORKED, /* zygote, on that control socket: struct sbx_forked, fd of a pidfd */

	SBX_MSG_GO, /* host to runner: the order that was sent with SBX_EXEC_HOLD stands */
};

struct sbx_head {
	uint8_t type;
	uint8_t version; /* SBX_ABI */
	uint16_t reserved;
};

struct sbx_fail {
	struct sbx_head head;
	int32_t stage, err, index;
};

struct sbx_ready {
	struct sbx_head head;
	uint32_t layers; /* bit per enum sbx_layer */
};

struct sbx_exit {
	struct sbx_head head;
	int32_t status;   /* as wait(2) gives it */
	uint32_t alone;   /* no other process of the job is left */
	uint32_t id;      /* of its spawn message; 0 is the runner that init starts by itself */
	uint64_t at;      /* CLOCK_MONOTONIC, ns, when it was reaped */
	uint64_t max_rss; /* bytes, of the largest process it waited for */
	uint64_t cpu;     /* ns, user and system, with those it waited for */
};

enum sbx_fork_flags {
	SBX_FORK_NETNS = 1 << 0,  /* a network namespace to be in, instead of a new one */
	SBX_FORK_CGROUP = 1 << 1, /* a v2 directory to be born into */
};

/* One more sandbox, whose init and runner are copies of the zygote. */
struct sbx_fork {
	struct sbx_head head;
	uint32_t flags;
};

struct sbx_forked {
	struct sbx_head head;
	int32_t pid; /* of init, as the host sees it, or 0 */
	int32_t err; /* 0 */
};

enum sbx_spawn_kind {
	SBX_SPAWN_RUNNER, /* waits for an order, as the first does */
	SBX_SPAWN_FILES,  /* serves files, see service.c */
	/* The same two as root, if the plan has SBX_PLAN_ROOT. */
	SBX_SPAWN_ROOT_RUNNER,
	SBX_SPAWN_ROOT_FILES,
};

/* A process more, locked down as the first runner is. Its exec socket says SBX_MSG_ARMED. */
struct sbx_spawn {
	struct sbx_head head;
	uint32_t id; /* of the host's choice, not 0, not that of a live one */
	uint32_t kind;
};

struct sbx_spawned {
	struct sbx_head head;
	uint32_t id;
	int32_t pid; /* inside, or 0 */
	int32_t err; /* 0 */
};

/* To the process group of a spawned process, as long as that is not reaped: by number of ours,
 * since a pid may be another's by then. */
struct sbx_signal {
	struct sbx_head head;
	uint32_t id;
	int32_t number;
};

enum sbx_file_op {
	SBX_FILE_STAT = 1, /* path */
	SBX_FILE_MKDIR,    /* path, mode; parents too */
	SBX_FILE_MOVE,     /* path, target */
	SBX_FILE_CHMOD,    /* path, mode */
	SBX_FILE_UNLINK,   /* path: a file, or an empty directory */
	SBX_FILE_OPEN,     /* path; answers with an fd for reading */
	SBX_FILE_PUT,      /* path, (attributes,) mode, content: the whole file at once */
	/* Those that may take long: in a process of their own, which takes the socket that comes
	 * along as fd, answers there, and ends with it. */
	SBX_FILE_LIST,   /* path; depth in `mode`, entries to leave out in `offset`, to send in
			    `length` */
	SBX_FILE_REMOVE, /* path, with all below it */
	SBX_FILE_WRITE,  /* path, (attributes,) mode, `offset`; second fd: a pipe with the content;
			  * then an empty message on the socket to say that it was whole */
	SBX_FILE_WATCH,  /* path */
};

enum sbx_file_flags {
	SBX_FILE_FOLLOW = 1 << 0,    /* STAT: what a link leads to */
	SBX_FILE_KEEP = 1 << 1,      /* MOVE: not over something */
	SBX_FILE_PARENTS = 1 << 2,   /* PUT, WRITE: make missing directories */
	SBX_FILE_MODE = 1 << 3,      /* PUT, WRITE: set the mode also of a file that is there */
	SBX_FILE_APPEND = 1 << 4,    /* WRITE: at the end of the file as it is */
	SBX_FILE_AT = 1 << 5,        /* WRITE: at `offset` of the file as it is */
	SBX_FILE_RECURSIVE = 1 << 6, /* WATCH: and all below it */
	SBX_FILE_XATTRS = 1 << 7, /* STAT, LIST: user attributes come as entries after that of their
				   * file. PUT, WRITE of a whole file: it gets those that come as
				   * a string after the path, `user.NAME=VALUE` lines */
};

/* Paths follow as strings of fields, each a u32 length and that many bytes, then the content. */
struct sbx_file_request {
	struct sbx_head head;
	uint32_t id; /* comes back in the answer */
	uint32_t op;
	uint32_t flags;
	uint32_t mode;
	uint32_t reserved;
	uint64_t offset, length;
};

/* What follows depends on the op: one or more struct sbx_file_entry, each with its fields. */
struct sbx_file_answer {
	struct sbx_head head;
	uint32_t id;
	int32_t err;
	uint32_t more;  /* another answer follows */
	uint64_t count; /* REMOVE: entries removed; LIST: entries met, if it went to the end */
};

/* After it two fields: the name (as asked for, or below what was asked for), and what a link says.
 */
struct sbx_file_entry {
	uint32_t mode; /* as stat(2) has it, with the type */
	uint32_t uid, gid;
	uint32_t change; /* WATCH: enum sbx_change; else 0 */
	uint64_t size;
	int64_t modified; /* ns since the epoch */
};

enum sbx_change {
	SBX_CHANGE_CREATED = 1,
	SBX_CHANGE_MODIFIED,
	SBX_CHANGE_REMOVED,
	SBX_CHANGE_MOVED_FROM,
	SBX_CHANGE_MOVED_TO,
	SBX_CHANGE_ATTRIBUTES,
	SBX_CHANGE_OVERFLOW,
	SBX_XATTR = 100, /* no change: an attribute of the entry before, its name and value */
};

#define SBX_FILE_MESSAGE_MAX 65536u /* bytes of a request or an answer */
#define SBX_TERMINALS_MAX    "64"   /* of one sandbox */

struct sbx_open {
	struct sbx_head head;
	uint32_t glob; /* 1: the last part is a pattern, one answer per match */
};

struct sbx_opened {
	struct sbx_head head;
	int32_t err;   /* 0: an fd comes with this message */
	uint32_t more; /* another answer follows */
};

enum sbx_plan_flags {
	SBX_PLAN_LANDLOCK = 1 << 0,
	SBX_PLAN_LOOPBACK = 1 << 1,
	SBX_PLAN_IDMAP = 1 << 2, /* the last fd is a user namespace by which layers are mapped */
	SBX_PLAN_BUILD = 1 << 3, /* an image is made: see lockdown.c for what its job may do more */
	SBX_PLAN_SESSION = 1 << 4, /* lives on for more processes: terminals, writes anywhere */
	SBX_PLAN_ZYGOTE = 1 << 5,  /* no sandbox: an interpreter to fork them from, see zygote.c */
	SBX_PLAN_ROOT = 1 << 6,    /* a session that may have processes of root, see lockdown.c */

	/* Every id below init's is mapped, since files belong to many. */
	SBX_PLAN_RANGE = SBX_PLAN_BUILD | SBX_PLAN_ROOT,
};

/* Head of a plan. Fields after it: hostname, stage directory, layer_count directories (the topmost
 * first), seccomp program, AppArmor label (empty: none), then bind_count pairs of source and
 * target, mask_count paths, and mount_count targets, absolute. */
struct sbx_plan {
	uint8_t version;
	uint8_t mount_count; /* fds after those of cgroups, each a detached mount */
	uint16_t layer_count;
	uint32_t flags;
	uint32_t cgroup_count; /* fds after the exec socket, each a `tasks` file to join */
	uint32_t bind_count;
	uint32_t mask_count;
	uint32_t inodes;
	uint64_t disk;                        /* bytes */
	uint32_t job_uid, init_uid;           /* inside */
	uint32_t host_job_uid, host_init_uid; /* outside; gids are the same numbers */
	uint32_t fault_stage;                 /* test build only: fail here */
	uint32_t skip_layers;                 /* test build only: bit per layer to leave out */
};

enum sbx_exec_flags {
	SBX_EXEC_STDIN_NULL = 1 << 0, /* no stdin fd is sent: /dev/null, opened inside */
	SBX_EXEC_BODY_FD = 1 << 1,    /* the body is in the last fd, a sealed memfd */
	SBX_EXEC_WARM = 1 << 2,     /* the program keeps the exec socket as fd 3 and waits on it */
	SBX_EXEC_TERMINAL = 1 << 3, /* no fds are sent: a terminal, whose master goes to the host */
	SBX_EXEC_HOLD = 1 << 4,     /* do all but the exec, and that at SBX_MSG_GO */
};

/* Head of an exec message. Body: cwd, argc arguments, envc variables, filec triples of path, mode
 * (4 bytes) and content. */
struct sbx_exec {
	struct sbx_head head;
	uint32_t flags;
	uint32_t argc, envc, filec;
	uint32_t body_size;
	uint64_t open_files, stack, file_size; /* rlimits, bytes where sizes */
	uint16_t rows, columns;                /* of the terminal */
	uint32_t reserved;
};

#define SBX_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " changed size")
SBX_SIZE(sbx_head, 4);
SBX_SIZE(sbx_fail, 16);
SBX_SIZE(sbx_ready, 8);
SBX_SIZE(sbx_exit, 40);
SBX_SIZE(sbx_spawn, 12);
SBX_SIZE(sbx_spawned, 16);
SBX_SIZE(sbx_signal, 12);
SBX_SIZE(sbx_file_request, 40);
SBX_SIZE(sbx_file_answer, 24);
SBX_SIZE(sbx_file_entry, 32);
SBX_SIZE(sbx_fork, 8);
SBX_SIZE(sbx_forked, 12);
SBX_SIZE(sbx_open, 8);
SBX_SIZE(sbx_opened, 12);
SBX_SIZE(sbx_plan, 56);
SBX_SIZE(sbx_exec, 56);
#undef SBX_SIZE

#endif
