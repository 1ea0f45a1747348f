/* _zygote: the part in C of an interpreter that sandboxes are forked from.
 *
 * A zygote is started once by the node, from the host's own image, with every right, in a mount
 * tree as its sandboxes have, and runs its own start and nothing else: no byte of a tenant's is
 * ever read there. On demand it makes a copy of itself that takes the way of sandbox-init (init.c)
 * from the first stage to the last: new namespaces, a new root, a user namespace, a runner forked
 * from it that locks itself down. The runner then is an interpreter that has started already, and
 * returns from `serve` to read the one order of its sandbox.
 *
 * Copies share the zygote's address-space layout and hash secret, which is why the node replaces it
 * after some; and their program's file is of the zygote's mount tree, which Landlock refuses to
 * open for them.
 */
#include "init.h"
#include "rehearsal.h"
#include "script.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SOCKET = 3 };

struct request {
	int control, home, netns, cgroup; /* descriptors, ours to close; -1: none */
};

static bool parse(struct request *request, const struct sbx_fork *message, ssize_t size,
		  const int *fds, size_t count)
{
	size_t next = 2;

	*request = (struct request){-1, -1, -1, -1};
	if (size != sizeof(*message) || message->head.type != SBX_MSG_FORK ||
	    message->head.version != SBX_ABI)
		return false;
	if (count != next + (message->flags & SBX_FORK_NETNS ? 1 : 0) +
			     (message->flags & SBX_FORK_CGROUP ? 1 : 0))
		return false;
	request->control = fds[0];
	request->home = fds[1];
	if (message->flags & SBX_FORK_NETNS)
		request->netns = fds[next++];
	if (message->flags & SBX_FORK_CGROUP)
		request->cgroup = fds[next];
	return true;
}

/* The copy is the node's child, not ours. */
static pid_t copy(const struct request *request, int *pidfd)
{
	struct sbx_clone_args args = {
		.flags = CLONE_PARENT | CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS,
		.pidfd = (uintptr_t)pidfd,
	};

	if (request->cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)request->cgroup;
	}
	if (request->netns < 0)
		args.flags |= CLONE_NEWNET;
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* Returns in the runner alone. */
static void become_sandbox(const struct request *request)
{
	enum { HOME = SBX_CONTROL_FD + 1, NETNS, FIRST_FREE };
	static struct init init;
	/* Above those numbers, so that none is overwritten before it has been moved. */
	int control = fcntl(request->control, F_DUPFD_CLOEXEC, FIRST_FREE);
	int home = fcntl(request->home, F_DUPFD_CLOEXEC, FIRST_FREE);
	int netns = request->netns < 0 ? -1 : fcntl(request->netns, F_DUPFD_CLOEXEC, FIRST_FREE);

	if (prctl(PR_GET_NAME, init.copy.name) != 0 ||
	    dup3(control, SBX_CONTROL_FD, O_CLOEXEC) < 0 || dup3(home, HOME, O_CLOEXEC) < 0 ||
	    (netns < 0 ? close(NETNS) != 0 && errno != EBADF : dup3(netns, NETNS, O_CLOEXEC) < 0) ||
	    sbx_close_range(FIRST_FREE, ~0u) != 0)
		_exit(127);
	init.copy.is = true;
	init.copy.home = HOME;
	init.copy.netns = netns < 0 ? -1 : NETNS;
	init_run(&init);
	arm(&init);
	forget_plan(&init);
}

static void answer(const struct request *request, pid_t pid, int err, int pidfd)
{
	struct sbx_forked forked = {
		{SBX_MSG_FORKED, SBX_ABI, 0}, pid < 0 ? 0 : pid, pid < 0 ? err : 0};

	sbx_send(request->control, &forked, sizeof(forked), &pidfd, pid < 0 ? 0 : 1);
}

/* Returns in each sandbox. */
static void serve(void)
{
	int fds[SBX_FDS_MAX], pidfd = -1;
	struct sbx_fork message;
	struct request request;
	size_t count;
	ssize_t size;
	pid_t pid;

	for (;;) {
		size = sbx_receive(SOCKET, &message, sizeof(message), fds, &count, 0);
		if (size <= 0)
			_exit(0); /* the node has gone, or needs us no more */
		if (parse(&request, &message, size, fds, count)) {
			PyOS_BeforeFork();
			pid = copy(&request, &pidfd);
			if (pid == 0) {
				become_sandbox(&request);
				own_memory();
				PyOS_AfterFork_Child();
				return;
			}
			answer(&request, pid, errno, pidfd);
			PyOS_AfterFork_Parent();
			if (pid > 0)
				close(pidfd);
		}
		while (count > 0)
			close(fds[--count]);
	}
}

/* The last of the interpreter's start is to ask the hooks of sys.path whether the script is a
 * package: `site` is imported, and no frame of Python stands below. There it is held. */
static PyObject *hold(PyObject *receive, PyObject *path)
{
	PyObject *hooks = PySys_GetObject("path_hooks"), *result;

	if (!rehearse(SOCKET))
		serve();
	result = PyObject_CallNoArgs(receive);
	if (result == NULL)
		_exit(127); /* it has said why */
	Py_DECREF(result);
	Py_INCREF(path);
	/* Leave nothing of us: not this call, which counts as a level of recursion, nor what made
	 * it. */
	if (hooks == NULL || PyList_SetSlice(hooks, 0, 1, NULL) != 0)
		_exit(127);
	Py_LeaveRecursiveCall();
	run_script(path);
}

static PyMethodDef held = {"hold", hold, METH_O, NULL};

static PyObject *hold_script(PyObject *module, PyObject *receive)
{
	PyObject *hooks = PySys_GetObject("path_hooks"), *hook;
	int result;

	(void)module;
	hook = PyCFunction_New(&held, receive);
	if (hook == NULL || hooks == NULL)
		return NULL;
	result = PyList_Insert(hooks, 0, hook);
	Py_DECREF(hook);
	return result == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
	{"hold_script", hold_script, METH_O,
	 "Hold this interpreter before its script, and serve the node there until it goes. In "
	 "each\n"
	 "sandbox the argument is called, with descriptor 3 the socket on which its order comes; "
	 "then\n"
	 "the script runs, and ends the process."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_zygote", .m_size = 0,
					.m_methods = methods};

PyMODINIT_FUNC PyInit__zygote(void);

PyMODINIT_FUNC PyInit__zygote(void)
{
	return PyModule_Create(&definition);
}
