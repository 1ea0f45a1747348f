/* What the parts of sandbox-init share. */
#ifndef SBX_INIT_H
#define SBX_INIT_H

#include "kernel.h"
#include "order.h"
#include "plan.h"

/* Of a zygote's copy. */
struct copy {
	bool is;         /* init and runner are copies: nothing of them was set by an exec */
	int home, netns; /* namespaces to go to: mounts of the host, and a network or -1 */
	char name[16];   /* of the process that the runner shall look like */
};

/* The state of init: one per process, filled stage by stage. */
struct init {
	struct plan plan;
	int control, exec; /* sockets: to the host as init, to the host as runner */
	int scratch;       /* mount of the scratch file system, before pivot a directory fd */
	int work;          /* /work */
	int queues;        /* file system of the message queues, or -1; until landlock */
	int settings;      /* /proc/sys, which can be written; until the user namespace is made */
	bool runner;       /* this process has become the runner */
	struct copy copy;
	bool late; /* this is no child of the root that init was, but of the init that serves */
	bool root; /* this one shall be the sandbox's root */
	int index; /* which item of a stage's list failed */
	uint32_t layers; /* bit per enum sbx_layer that was applied */
};

struct stage {
	enum sbx_stage id;
	int (*run)(struct init *); /* 0, or -1 with errno */
};

/* Run the stages in order; the first that fails is reported on `*socket`, whose number a stage may
 * change, and ends the process. */
void run_stages(struct init *init, const struct stage *stages, size_t count, const int *socket);

/* Report a failure and end the process. */
_Noreturn void fail(int socket, enum sbx_stage stage, int err, int index);

/* Whether the test build was told to leave a layer out, so that the suite can show what it stops.
 */
static inline bool skipped(const struct init *init, enum sbx_layer layer)
{
#ifdef SBX_TEST
	return init->plan.head.skip_layers & (1u << layer);
#else
	(void)init;
	(void)layer;
	return false;
#endif
}

/* rootfs.c: the mount tree. */
int make_mounts_private(struct init *init);
int mount_scratch(struct init *init);
int mount_overlay(struct init *init);
int mount_binds(struct init *init);
int make_dev(struct init *init);
int mount_proc(struct init *init);
int mask_proc(struct init *init);
int enter_root(struct init *init);

/* lockdown.c: identity and filters. Those of the runner are last. */
int set_hostname(struct init *init);
int raise_loopback(struct init *init);
int enter_userns(struct init *init);
int drop_init_privileges(struct init *init);
int drop_job_privileges(struct init *init);
int restrict_landlock(struct init *init);
int set_apparmor(struct init *init);
int set_no_new_privs(struct init *init);
int load_seccomp(struct init *init);

/* floor.c: init's own filter, and a keyring of its own. Every process of the sandbox has both. */
int load_floor(struct init *init);

/* init.c: build the sandbox by the plan that comes over init->control, and serve the host until it
 * goes. Returns in the runner alone; or, if the plan is a zygote's, in the process that becomes it.
 */
void init_run(struct init *init);

/* Wipe all of it that this process holds: a job that no exec separates from it would find there
 * where on the host its files lie. */
void forget_plan(struct init *init);

/* runner.c: the process that becomes the job. */
_Noreturn void runner(struct init *init);

/* The part of it that locks down, for good; then says so on init->exec. */
void arm(struct init *init);

/* No signal is ignored or handled. */
void default_signals(void);

/* Become the interpreter that the first order names, with every right: a zygote. */
_Noreturn void become_zygote(struct init *init);

/* terminal.c: a terminal as descriptors 0 to 2 and as the controlling one; its master goes to the
 * host over `socket`. */
int take_terminal(int socket, uint16_t rows, uint16_t columns);

/* children.c: which processes the host may ask about. */
enum { SBX_CHILDREN_MAX = 1024 };
bool may_add_child(uint32_t id);
int add_child(uint32_t id, pid_t pid);
bool remove_child(pid_t pid, uint32_t *id); /* whether it was one */
void signal_child(uint32_t id, int number);

/* service.c: the process that serves files. */
_Noreturn void file_service(struct init *init);

/* files.c: files in and out, always below /work. */
int write_file(int work, const struct file *file);
void send_files(struct init *init, const char *path, bool glob);

#endif
