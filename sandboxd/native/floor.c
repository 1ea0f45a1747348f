/* What no policy opens.
 *
 * A template's policy is an operator's file, compiled by a library and loaded by the runner. The
 * floor is a table of this program, loaded by init for itself and for every process after it,
 * before the first runner. It refuses the calls that are nobody's in here, so that a policy that
 * allows too much, or that was not loaded, opens none of them. Both are seccomp: a hole in that is
 * a hole in both.
 */
#include "init.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sys/socket.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "name this machine's ABI"
#endif

#define LOAD(field)                                                                                \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define UNLESS(value, skip)      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))
#define UNLESS_FROM(value, skip) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (value), 0, (skip))
#define ANSWER(action)           BPF_STMT(BPF_RET | BPF_K, (action))
#define REFUSE(name)             UNLESS(SYS_##name, 1), ANSWER(SECCOMP_RET_ERRNO | EPERM)
#define ALLOW_FAMILY(family)     UNLESS((family), 1), ANSWER(SECCOMP_RET_ALLOW)

/* Arguments of socket(2) are ints: the kernel reads their lower halves, the first on the machines
 * above. */
static const struct sock_filter instructions[] = {
	LOAD(arch),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0),
	ANSWER(SECCOMP_RET_KILL_PROCESS),
	LOAD(nr),
#ifdef __x86_64__
	UNLESS_FROM(0x40000000u, 1), /* x32 */
	ANSWER(SECCOMP_RET_KILL_PROCESS),
#endif
	REFUSE(io_uring_setup),
	REFUSE(io_uring_enter),
	REFUSE(io_uring_register),
	REFUSE(keyctl),
	REFUSE(add_key),
	REFUSE(request_key),
	REFUSE(bpf),
	REFUSE(perf_event_open),
	REFUSE(userfaultfd),
	REFUSE(open_by_handle_at),
	REFUSE(init_module),
	REFUSE(finit_module),
	REFUSE(delete_module),
	REFUSE(kexec_load),
	REFUSE(reboot),
	REFUSE(swapon),
	REFUSE(swapoff),
	REFUSE(acct),
	REFUSE(setns),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
	ANSWER(SECCOMP_RET_ALLOW),
	LOAD(args[0]),
	ALLOW_FAMILY(AF_UNIX),
	ALLOW_FAMILY(AF_INET),
	ALLOW_FAMILY(AF_INET6),
	UNLESS(AF_NETLINK, 3),
	LOAD(args[2]),
	UNLESS(NETLINK_ROUTE, 1),
	ANSWER(SECCOMP_RET_ALLOW),
	ANSWER(SECCOMP_RET_ERRNO | EPERM),
};

int load_floor(struct init *init)
{
	const struct sock_fprog program = {
		.len = sizeof(instructions) / sizeof(*instructions),
		.filter = (struct sock_filter *)(uintptr_t)instructions,
	};

	/* A keyring of its own, not the node's, while it can be asked for; a kernel without
	 * keyrings has nothing to leak. */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
		return -1;
	if (skipped(init, SBX_LAYER_FLOOR))
		return 0;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
