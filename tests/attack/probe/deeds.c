/* Deeds with kernel facilities, sockets, and what lies in the file system. Nothing is written: a
 * file that opens for writing has said enough. */
#include "probe.h"

#include <dirent.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/time.h>

static long make_map(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1};

	return syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
}

static long count_events(void)
{
	struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
				       .size = sizeof(attr),
				       .config = PERF_COUNT_SW_TASK_CLOCK};

	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static long ring(void)
{
	struct io_uring_params params = {0};

	return syscall(SYS_io_uring_setup, 2, &params);
}

static long catch_faults(void)
{
	return syscall(SYS_userfaultfd, 0);
}

static long join_keyring(void)
{
	return syscall(SYS_keyctl, 1, NULL);
}

static long keep_key(void)
{
	return syscall(SYS_add_key, "user", "attack", "x", 1, -2);
}

/* Whoever may load modules is told that this is none. */
static long load_module(void)
{
	long result = syscall(SYS_init_module, "none", 4, "");

	return result < 0 && errno == ENOEXEC ? 0 : result;
}

/* A magic number that is none: refused after the right was checked. */
static long restart(void)
{
	long result = syscall(SYS_reboot, 1, 2, 3, NULL);

	return result < 0 && errno == EINVAL ? 0 : result;
}

static long name_host(void)
{
	return sethostname("sandbox", 7);
}

static long swap_on(void)
{
	long result = swapon("/proc/version", 0);

	return result < 0 && errno == EINVAL ? 0 : result;
}

static long account(void)
{
	long result = syscall(SYS_acct, "/nowhere/at/all");

	return result < 0 && errno == ENOENT ? 0 : result;
}

static long read_log(void)
{
	static char text[4096];

	return klogctl(3, text, sizeof(text));
}

static long open_ports(void)
{
#ifdef SYS_iopl
	return syscall(SYS_iopl, 3);
#else
	errno = ENOSYS;
	return -1;
#endif
}

static long raw_socket(void)
{
	return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}

static long packet_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static long ping_socket(void)
{
	return socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
}

/* A record as user space writes them (AUDIT_USER), with an answer asked for; its errno is negative.
 */
static long forge_audit(void)
{
	struct {
		uint32_t length;
		uint16_t type, flags;
		uint32_t sequence, pid;
		char text[8];
	} record = {24, 1005, 5, 1, 0, "attack"};
	const struct timeval patience = {.tv_sec = 1};
	int32_t answer[64] = {0};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 9);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
	    send(fd, &record, sizeof(record), 0) < 0 || recv(fd, answer, sizeof(answer), 0) < 20)
		return -1;
	errno = -answer[4];
	return answer[4] ? -1 : 0;
}

static long uevent_netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 15);
}

static long vsock(void)
{
	return socket(AF_VSOCK, SOCK_STREAM, 0);
}

/* Flags of interface 1. The answer's errno, negative, is in its fifth word. */
static long set_loopback(uint32_t flags)
{
	struct {
		uint32_t length;
		uint16_t type, flags;
		uint32_t sequence, pid;
		uint8_t family, pad;
		uint16_t device;
		int32_t index;
		uint32_t flag_bits, change;
	} request = {32, 16, 5, 1, 0, 0, 0, 0, 1, flags, 1};
	int32_t answer[16] = {0};
	int fd = socket(AF_NETLINK, SOCK_RAW, 0);

	if (fd < 0 || send(fd, &request, sizeof(request), 0) < 0 ||
	    recv(fd, answer, sizeof(answer), 0) < 20)
		return -1;
	errno = -answer[4];
	return answer[4] == 0 ? 0 : -1;
}

static long lower_loopback(void)
{
	long result = set_loopback(0);

	/* Where it worked, it shall be over at once. */
	if (result == 0)
		set_loopback(1);
	return result;
}

/* What the suite listens on outside: a port, and an abstract name, in one file. */
static long reach(int family)
{
	struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	char text[128];
	int number, fd = socket(family, SOCK_STREAM, 0);

	if (fd < 0 || read_text("/opt/attack/listeners", text, sizeof(text)) < 0 ||
	    sscanf(text, "%d %90s", &number, name.sun_path + 1) != 2)
		return -1;
	port.sin_port = htons((uint16_t)number);
	if (family == AF_INET)
		return connect(fd, (struct sockaddr *)&port, sizeof(port));
	return connect(fd, (struct sockaddr *)&name,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				   strlen(name.sun_path + 1)));
}

static long host_port(void)
{
	return reach(AF_INET);
}

static long host_abstract(void)
{
	return reach(AF_UNIX);
}

const struct row kernel_deeds[] = {
	{"host_port", host_port},
	{"host_abstract", host_abstract},
	{"make_map", make_map},
	{"count_events", count_events},
	{"ring", ring},
	{"catch_faults", catch_faults},
	{"join_keyring", join_keyring},
	{"keep_key", keep_key},
	{"load_module", load_module},
	{"restart", restart},
	{"name_host", name_host},
	{"swap_on", swap_on},
	{"account", account},
	{"read_log", read_log},
	{"open_ports", open_ports},
	{"raw_socket", raw_socket},
	{"packet_socket", packet_socket},
	{"ping_socket", ping_socket},
	{"forge_audit", forge_audit},
	{"uevent_netlink", uevent_netlink},
	{"vsock", vsock},
	{"lower_loopback", lower_loopback},
};
const size_t kernel_count = COUNT(kernel_deeds);

/* Where paths begin: at the root, or at the directory that is descriptor 0. */
static int origin = AT_FDCWD;

static const char *from_origin(const char *path)
{
	return origin == AT_FDCWD ? path : path + 1;
}

static long for_writing(const char *path)
{
	return open(path, O_WRONLY | O_CLOEXEC);
}

static long reading(const char *path)
{
	char byte;
	int fd = openat(origin, from_origin(path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -1;
	/* An empty cover is not the file; the memory of a process has no first byte, and the
	 * kernel's log no record that short. */
	errno = 0;
	if (read(fd, &byte, 1) == 1 || errno == EIO || errno == EINVAL)
		return 0;
	errno = errno ? errno : ENODATA;
	return -1;
}

static long listing(const char *path)
{
	int fd = openat(origin, from_origin(path), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (dir == NULL)
		return -1;
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			return 0;
	errno = ENODATA;
	return -1;
}

#define WRITES(name, path)                                                                         \
	static long name(void)                                                                     \
	{                                                                                          \
		return for_writing(path);                                                          \
	}
#define READS(name, path)                                                                          \
	static long name(void)                                                                     \
	{                                                                                          \
		return reading(path);                                                              \
	}
#define LISTS(name, path)                                                                          \
	static long name(void)                                                                     \
	{                                                                                          \
		return listing(path);                                                              \
	}

WRITES(write_core_pattern, "/proc/sys/kernel/core_pattern")
WRITES(write_modprobe, "/proc/sys/kernel/panic")
WRITES(write_drop_caches, "/proc/sys/vm/drop_caches")
WRITES(write_sysrq, "/proc/sysrq-trigger")
WRITES(write_ip_forward, "/proc/sys/net/ipv4/ip_forward")
WRITES(write_binary, "/opt/attack/env")
WRITES(write_etc, "/etc/passwd")
WRITES(write_init_score, "/proc/1/oom_score_adj")
WRITES(write_zero_device, "/dev/mem")
READS(read_kcore, "/proc/kcore")
READS(read_kallsyms, "/proc/kallsyms")
READS(read_cmdline, "/proc/cmdline")
READS(read_interrupts, "/proc/interrupts")
READS(read_keys, "/proc/key-users")
READS(read_sysvipc, "/proc/sysvipc/shm")

/* With one of our own, since the file is empty on a host where nobody holds any. */
static long read_locks(void)
{
	int fd = memfd_create("lock", MFD_CLOEXEC);

	return fd < 0 || flock(fd, LOCK_EX) != 0 ? -1 : reading("/proc/locks");
}

READS(read_partitions, "/proc/diskstats")
READS(read_slabinfo, "/proc/slabinfo")
READS(read_modules, "/proc/buddyinfo")
READS(read_secret, "/opt/attack/secret")
READS(read_shadow, "/etc/shadow")
READS(init_environ, "/proc/1/environ")
READS(init_maps, "/proc/1/maps")
READS(init_mem, "/proc/1/mem")
READS(init_stack, "/proc/1/stack")
READS(init_syscall, "/proc/1/syscall")
READS(read_kmsg, "/dev/kmsg")
LISTS(init_root, "/proc/1/root")
LISTS(init_cwd, "/proc/1/cwd")
LISTS(init_fds, "/proc/1/fd")
LISTS(list_sys, "/sys/kernel")
LISTS(list_cgroups, "/sys/fs/cgroup")
LISTS(list_root_home, "/root")
LISTS(list_run, "/run")
LISTS(list_var, "/var/lib")
LISTS(list_scsi, "/proc/bus")
LISTS(list_fs, "/proc/fs")
LISTS(list_irq, "/proc/irq")

static long init_exe(void)
{
	char path[256];

	return readlink("/proc/1/exe", path, sizeof(path));
}

/* Only in a directory of the suite's own. */
static long plant_file(void)
{
	int fd = open("/opt/attack/planted", O_WRONLY | O_CREAT, 0666);

	unlink("/opt/attack/planted");
	return fd;
}

static long link_out(void)
{
	long result = link("/opt/attack/env", "/opt/attack/linked");

	unlink("/opt/attack/linked");
	return result;
}

static long touch_binary(void)
{
	return utimensat(origin, from_origin("/opt/attack/env"), NULL, 0);
}

const struct row file_deeds[] = {
	{"write_core_pattern", write_core_pattern},
	{"write_panic", write_modprobe},
	{"write_drop_caches", write_drop_caches},
	{"write_sysrq", write_sysrq},
	{"write_ip_forward", write_ip_forward},
	{"write_binary", write_binary},
	{"write_etc", write_etc},
	{"write_init_score", write_init_score},
	{"write_mem", write_zero_device},
	{"read_kcore", read_kcore},
	{"read_kallsyms", read_kallsyms},
	{"read_cmdline", read_cmdline},
	{"read_interrupts", read_interrupts},
	{"read_key_users", read_keys},
	{"read_sysvipc", read_sysvipc},
	{"read_locks", read_locks},
	{"read_diskstats", read_partitions},
	{"read_slabinfo", read_slabinfo},
	{"read_buddyinfo", read_modules},
	{"read_secret", read_secret},
	{"read_shadow", read_shadow},
	{"init_environ", init_environ},
	{"init_maps", init_maps},
	{"init_mem", init_mem},
	{"init_stack", init_stack},
	{"init_syscall", init_syscall},
	{"read_kmsg", read_kmsg},
	{"init_root", init_root},
	{"init_cwd", init_cwd},
	{"init_fds", init_fds},
	{"init_exe", init_exe},
	{"list_sys", list_sys},
	{"list_cgroups", list_cgroups},
	{"list_root_home", list_root_home},
	{"list_run", list_run},
	{"list_var", list_var},
	{"list_bus", list_scsi},
	{"list_fs", list_fs},
	{"list_irq", list_irq},
	{"plant_file", plant_file},
	{"link_out", link_out},
	{"touch_binary", touch_binary},
};
const size_t file_count = COUNT(file_deeds);

int deeds_through(int argc, char **argv)
{
	origin = 0;
	return argc == 1 ? run_row(file_deeds, file_count, argv[0]) : 2;
}
