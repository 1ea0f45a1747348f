/* The kernel's surface as seccomp lets it be seen: calls whose arguments no kernel can use. */
#include "probe.h"

#include <linux/filter.h>
#include <linux/prctl.h>

/* Of the common table, for C libraries whose headers are older. */
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define NR(name) #name, SYS_##name

/* A file descriptor argument that shall be a terminal where one can be had. */
#define TERMINAL (-77L)

static const struct {
	const char *name;
	long number;
	long args[6];
} calls[] = {
	{NR(mount), {BAD, BAD, BAD, 0, BAD}},
	{NR(umount2), {BAD, 0}},
	{NR(pivot_root), {BAD, BAD}},
	{NR(chroot), {BAD}},
	{NR(fsopen), {BAD, 0}},
	{NR(fsconfig), {-1, 99, BAD, BAD, 0}},
	{NR(fsmount), {-1, 0, 0}},
	{NR(fspick), {-100, BAD, 0}},
	{NR(open_tree), {-100, BAD, 0}},
	{NR(move_mount), {-100, BAD, -100, BAD, 0}},
	{NR(mount_setattr), {-100, BAD, 0, BAD, 32}},
	{NR(unshare), {BAD}},
	{NR(setns), {-1, 0}},
	{NR(clone3), {BAD, 88}},
	{"clone_newuser", SYS_clone, {0x10000000L | 0x800L | 0x10000L}},
	{"clone_newns", SYS_clone, {0x00020000L | 0x200L}},
	{"clone_newtime", SYS_clone, {0x80L | 0x00020000L | 0x200L}},
	{NR(bpf), {0, BAD, 64}},
	{NR(perf_event_open), {BAD, 0, -1, -1, 0}},
	{NR(userfaultfd), {BAD}},
	{NR(io_uring_setup), {1, BAD}},
	{NR(io_uring_enter), {-1, 0, 0, 0, 0, 0}},
	{NR(io_uring_register), {-1, 0, BAD, 0}},
	{NR(add_key), {BAD, BAD, BAD, 0, 0}},
	{NR(keyctl), {99, 0, 0, 0, 0}},
	{NR(request_key), {BAD, BAD, BAD, 0}},
	{NR(ptrace), {0x4206, BAD, 0, 0}},
	{NR(process_vm_readv), {BAD, BAD, 1, BAD, 1, 0}},
	{NR(process_vm_writev), {BAD, BAD, 1, BAD, 1, 0}},
	{NR(process_madvise), {-1, BAD, 1, 0, 0}},
	{NR(process_mrelease), {-1, 0}},
	{NR(pidfd_getfd), {-1, -1, 0}},
	{NR(kcmp), {BAD, BAD, 0, 0, 0}},
	{NR(name_to_handle_at), {-100, BAD, BAD, BAD, 0}},
	{NR(open_by_handle_at), {-1, BAD, 0}},
	{NR(fanotify_init), {BAD, 0}},
	{NR(fanotify_mark), {-1, 0, 0, -1, BAD}},
	{NR(memfd_secret), {BAD}},
	{NR(init_module), {BAD, 0, BAD}},
	{NR(finit_module), {-1, BAD, 0}},
	{NR(delete_module), {BAD, 0}},
	{NR(kexec_load), {0, 99, BAD, 0}},
	{NR(kexec_file_load), {-1, -1, 0, BAD, BAD}},
	{NR(reboot), {0, 0, 0, BAD}},
	{NR(swapon), {BAD, 0}},
	{NR(swapoff), {BAD}},
	{NR(acct), {BAD}},
	{NR(syncfs), {-1}},
	{NR(settimeofday), {BAD, BAD}},
	{NR(clock_settime), {0, BAD}},
	{NR(adjtimex), {BAD}},
	{NR(clock_adjtime), {0, BAD}},
	{NR(sethostname), {BAD, -1}},
	{NR(setdomainname), {BAD, -1}},
	{NR(syslog), {99, BAD, 0}},
	{NR(quotactl), {BAD, BAD, 0, BAD}},
	{NR(quotactl_fd), {-1, BAD, 0, BAD}},
	{NR(mbind), {BAD, 4096, 0, BAD, 0, 0}},
	{NR(set_mempolicy), {99, BAD, 0}},
	{NR(move_pages), {0, 1, BAD, BAD, BAD, 0}},
	{NR(migrate_pages), {0, 1, BAD, BAD}},
	{NR(io_setup), {1, BAD}},
	{NR(remap_file_pages), {BAD, 4096, 0, 0, 0}},
	{NR(cachestat), {-1, BAD, BAD, 0}},
	{NR(vmsplice), {-1, BAD, 1, 0}},
	{"mknod_device", SYS_mknodat, {-100, BAD, S_IFCHR | 0600, 0x103}},
	{"mknod_block", SYS_mknodat, {-100, BAD, S_IFBLK | 0600, 0x800}},
	{"mknodat_whiteout", SYS_mknodat, {-100, BAD, S_IFCHR | 0600, 0}},
	{"personality_32", SYS_personality, {8}},
	{"personality_norandom", SYS_personality, {0x0040000}},
	{"seccomp_spec_allow", SYS_seccomp, {1, 4, BAD}},
	{"madvise_mergeable", SYS_madvise, {0, 0, 12}},
	{"preadv2_nowait", SYS_preadv2, {-1, BAD, 1, 0, 0, 8}},
	{"futex_wait_requeue_pi", SYS_futex, {BAD, 11, 0, 0, BAD, 0}},
	{"futex_cmp_requeue_pi", SYS_futex, {BAD, 12, 0, 0, BAD, 0}},
	{"sendto_oob", SYS_sendto, {-1, BAD, 1, 1, 0, 0}},
	{"sendmsg_oob", SYS_sendmsg, {-1, BAD, 1}},
	{"sendmmsg_oob", SYS_sendmmsg, {-1, BAD, 1, 1}},
	{"prctl_set_mm", SYS_prctl, {PR_SET_MM, 99, BAD, 0, 0}},
	{"prctl_mm_map", SYS_prctl, {PR_SET_MM, 14, BAD, 104, 0}},
	{"prctl_speculation", SYS_prctl, {PR_SET_SPECULATION_CTRL, 0, 2, 0, 0}},
	{"prctl_merge_memory", SYS_prctl, {67, 0, 0, 0, 0}},
	{"prctl_dispatch", SYS_prctl, {59, 0, 0, 0, 0}},
	{"prctl_ptracer", SYS_prctl, {0x59616d61, -1, 0, 0, 0}},
	{"tcp_ulp", SYS_setsockopt, {-1, 6, 31, BAD, 3}},
	{"udp_encap", SYS_setsockopt, {-1, 17, 100, BAD, 4}},
	{"ip_xfrm_policy", SYS_setsockopt, {-1, 0, 17, BAD, 8}},
	{"ipt_replace", SYS_setsockopt, {-1, 0, 64, BAD, 8}},
	{"attach_bpf", SYS_setsockopt, {-1, 1, 50, BAD, 4}},
	{"packet_ring", SYS_setsockopt, {-1, 263, 5, BAD, 16}},
	{"tiocsti", SYS_ioctl, {TERMINAL, 0x5412, BAD}},
	{"tioclinux", SYS_ioctl, {TERMINAL, 0x541c, BAD}},
	{"tiocsetd", SYS_ioctl, {TERMINAL, 0x5423, BAD}},
	{"tioccons", SYS_ioctl, {-1, 0x541d, BAD}},
	{"ficlone", SYS_ioctl, {-1, 0x40049409, BAD}},
	{"ficlonerange", SYS_ioctl, {-1, 0x4020940d, BAD}},
	{"fideduperange", SYS_ioctl, {-1, 0xc0189436, BAD}},
	{"fs_setflags", SYS_ioctl, {-1, 0x40086602, BAD}},
	{"siocsifflags", SYS_ioctl, {-1, 0x8914, BAD}},
	{"tunsetiff", SYS_ioctl, {-1, 0x400454ca, BAD}},
	{"kvm_create_vm", SYS_ioctl, {-1, 0xae01, 0}},
	{"ns_get_parent", SYS_ioctl, {-1, 0xb702, 0}},
	{"blkflsbuf", SYS_ioctl, {-1, 0x1261, 0}},
#if defined(__x86_64__)
	{NR(iopl), {99}},
	{NR(ioperm), {BAD, 1, 1}},
	{NR(modify_ldt), {0, BAD, 16}},
	{NR(uselib), {BAD}},
	{NR(ustat), {0, BAD}},
#endif
	{"ioctl_high_half", SYS_ioctl, {TERMINAL, 0x100005412, BAD}},
};

static int terminal(void)
{
	int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY);

	return fd < 0 ? 0 : fd;
}

int kernel_calls(int argc, char **argv)
{
	for (size_t i = 0; argc == 1 && i < COUNT(calls); i++) {
		const long *a = calls[i].args;
		char text[256];
		long fd = a[0], result;

		if (strcmp(calls[i].name, argv[0]) != 0)
			continue;
		if (fd == TERMINAL)
			fd = terminal();
		result = syscall(calls[i].number, fd, a[1], a[2], a[3], a[4], a[5]);
		snprintf(text, sizeof(text), "%ld %ld %ld %ld %ld %ld %ld", calls[i].number, fd,
			 a[1], a[2], a[3], a[4], a[5]);
		say_result(calls[i].name, result);
		say("call", text);
		return 0;
	}
	return 2;
}

static int impossible(const void *number)
{
	long result;

	/* Both are allowed, and would have us go on with a stack that is not what we think it is.
	 */
	if (*(const long *)number == SYS_vfork || *(const long *)number == SYS_rt_sigreturn)
		return 0;
	result = syscall(*(const long *)number, BAD, BAD, BAD, BAD, BAD, BAD);
	return result < 0 ? errno : 0;
}

/* sweep FIRST LAST: every number, six impossible arguments, each in a child of its own. */
int kernel_sweep(int argc, char **argv)
{
	char text[8192];
	size_t at = 0;

	if (argc != 2)
		return 2;
	setsid();
	for (long number = atol(argv[0]); number <= atol(argv[1]); number++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%d ",
				       in_child(impossible, &number));
	say("results", text);
	return 0;
}

static const int kinds[] = {1, 2, 3, 4, 5, 6, 10, 1 | 0x800, 2 | 0x80000, 0x100001};

/* sockets FAMILY LAST_PROTOCOL: every type and protocol of one family. */
int kernel_sockets(int argc, char **argv)
{
	static char text[65536];
	size_t at = 0;

	if (argc != 2)
		return 2;
	for (size_t i = 0; i < COUNT(kinds); i++) {
		for (int protocol = 0; protocol <= atoi(argv[1]); protocol++) {
			int fd = socket(atoi(argv[0]), kinds[i], protocol);

			at += (size_t)snprintf(text + at, sizeof(text) - at, "%d ",
					       fd < 0 ? errno : 0);
			close(fd);
		}
		text[at] = 0;
		say("kind", (snprintf(text + at, 32, "%d", kinds[i]), text + at));
		text[at] = 0;
		say("results", text);
		at = 0;
	}
	return 0;
}

#if defined(__x86_64__)
static int int80(const void *number)
{
	int result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(*(const int *)number), "b"(0), "c"(0), "d"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return result > 0 ? 0 : -result & 255;
}

static int x32(const void *number)
{
	long result = syscall(0x40000000L + *(const long *)number, 0, 0, 0);

	return result >= 0 ? 0 : errno;
}

/* The smallest 32-bit program: exit(7) by int 0x80. */
static int elf32(const void *unused)
{
	static const unsigned char image[] = {
		0x7f, 'E',  'L',  'F',  1, 1,    1,    0, 0, 0,    0,    0,    0,    0,
		0,    0,    2,    0,    3, 0,    1,    0, 0, 0,    0x54, 0x80, 4,    8,
		0x34, 0,    0,    0,    0, 0,    0,    0, 0, 0,    0,    0,    0x34, 0,
		0x20, 0,    1,    0,    0, 0,    0,    0, 0, 0,    1,    0,    0,    0,
		0,    0,    0,    0,    0, 0x80, 4,    8, 0, 0x80, 4,    8,    0x60, 0,
		0,    0,    0x60, 0,    0, 0,    5,    0, 0, 0,    0,    0x10, 0,    0,
		0x31, 0xc0, 0x40, 0xb3, 7, 0xcd, 0x80, 0, 0, 0,    0,    0};
	char *none[] = {(char *)"elf32", NULL};
	int fd = memfd_create("elf32", 0);

	(void)unused;
	if (fd < 0 || write(fd, image, sizeof(image)) < 0)
		return 254;
	syscall(SYS_execveat, fd, "", none, none + 1, AT_EMPTY_PATH);
	return errno;
}

static void say_child(const char *key, int end)
{
	char text[32];

	snprintf(text, sizeof(text),
		 end >= 256 ? "signal %d"
		 : end      ? "errno %d"
			    : "ok",
		 end >= 256 ? end - 256 : end);
	say(key, text);
}

int kernel_abi(int argc, char **argv)
{
	const int getpid32 = 20, socketcall = 102;
	const long getpid64 = SYS_getpid, execve_x32 = 520;

	if (argc != 1)
		return 2;
	if (strcmp(argv[0], "int80") == 0)
		say_child("int80", in_child(int80, &getpid32));
	else if (strcmp(argv[0], "socketcall") == 0)
		say_child("socketcall", in_child(int80, &socketcall));
	else if (strcmp(argv[0], "x32") == 0)
		say_child("x32", in_child(x32, &getpid64));
	else if (strcmp(argv[0], "x32_execve") == 0)
		say_child("x32_execve", in_child(x32, &execve_x32));
	else if (strcmp(argv[0], "elf32") == 0)
		say_child("elf32", in_child(elf32, NULL));
	else
		return 2;
	return 0;
}
#else
int kernel_abi(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return 2;
}
#endif
