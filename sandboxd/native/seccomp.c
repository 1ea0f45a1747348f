/* Seccomp policies: compiled by libseccomp, evaluated by a small classic-BPF machine, so that tests
 * and the doctor can ask a policy about calls that this kernel could not make. */
#include "host.h"

#include "kernel.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct sbx_policy *sbx_policy_new(uint32_t default_action)
{
	scmp_filter_ctx context = seccomp_init(default_action);

	if (context == NULL)
		return NULL;
	/* Foreign ABIs (32-bit, x32) are killed; no_new_privs is a stage of its own; a binary tree
	 * over the numbers instead of a list. */
	if (seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) != 0 ||
	    seccomp_attr_set(context, SCMP_FLTATR_CTL_NNP, 0) != 0 ||
	    seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2) != 0) {
		seccomp_release(context);
		return NULL;
	}
	return context;
}

int sbx_policy_add(struct sbx_policy *policy, uint32_t action, const char *name,
		   const struct sbx_condition *conditions, unsigned count)
{
	struct scmp_arg_cmp compares[6];
	int number = seccomp_syscall_resolve_name(name);

	if (number == __NR_SCMP_ERROR || number < 0)
		return 1;
	if (count > 6)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++)
		compares[i] = (struct scmp_arg_cmp){conditions[i].argument,
						    (enum scmp_compare)conditions[i].op,
						    conditions[i].a, conditions[i].b};
	return seccomp_rule_add_array((scmp_filter_ctx)policy, action, number, count, compares);
}

ssize_t sbx_policy_program(struct sbx_policy *policy, uint8_t *buffer, size_t size)
{
	sbx_autoclose int memory = memfd_create("seccomp", MFD_CLOEXEC);
	ssize_t length;
	int result;

	if (memory < 0)
		return -errno;
	result = seccomp_export_bpf((scmp_filter_ctx)policy, memory);
	if (result != 0)
		return result;
	length = pread(memory, buffer, size, 0);
	if (length < 0)
		return -errno;
	return (size_t)length == size ? -E2BIG : length;
}

void sbx_policy_free(struct sbx_policy *policy)
{
	seccomp_release((scmp_filter_ctx)policy);
}

static int jump_taken(uint16_t code, uint32_t a, uint32_t k)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return a == k;
	case BPF_JGT:
		return a > k;
	case BPF_JGE:
		return a >= k;
	default:
		return (a & k) != 0;
	}
}

int sbx_evaluate(const uint8_t *program, size_t size, uint32_t arch, int number,
		 const uint64_t args[6], uint32_t *verdict)
{
	struct seccomp_data data = {.nr = number, .arch = arch};
	const size_t count = size / sizeof(struct sock_filter);
	struct sock_filter i;
	uint32_t a = 0;

	memcpy(data.args, args, sizeof(data.args));
	for (size_t pc = 0; pc < count; pc++) {
		memcpy(&i, program + pc * sizeof(i), sizeof(i));
		switch (i.code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (i.k > sizeof(data) - sizeof(a) || i.k % sizeof(a) != 0)
				goto refused;
			memcpy(&a, (const uint8_t *)&data + i.k, sizeof(a));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i.k;
			break;
		case BPF_JMP | BPF_JA:
			pc += i.k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
		case BPF_JMP | BPF_JGT | BPF_K:
		case BPF_JMP | BPF_JGE | BPF_K:
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += jump_taken(i.code, a, i.k) ? i.jt : i.jf;
			break;
		case BPF_RET | BPF_K:
			*verdict = i.k;
			return 0;
		default:
			goto refused;
		}
	}
refused:
	errno = EINVAL;
	return -1;
}
