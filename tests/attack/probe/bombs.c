/* Floods of everything a kernel hands out. Each stops itself first (`poise`), so that the suite can
 * read the caps of the sandbox from the host before it lets go, and ends by itself in time. */
#include "probe.h"

#include <limits.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/timerfd.h>

enum { MANY = 200000 };

/* How long a flood goes on, for those that nothing else ends. */
static long seconds = 2;

static bool time_left(void)
{
	static struct timespec start;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!start.tv_sec)
		start = now;
	return now.tv_sec - start.tv_sec < seconds;
}

/* How often `one` worked before it failed three times in a row. */
static long repeat(long (*one)(long))
{
	long count = 0, failures = 0;

	while (failures < 3 && count < MANY && time_left()) {
		if (one(count) < 0)
			failures++;
		else
			count++, failures = 0;
	}
	return count;
}

static long one_fork(long i)
{
	pid_t pid = fork();

	(void)i;
	if (pid == 0) {
		signal(SIGTERM, SIG_IGN);
		for (;;)
			pause();
	}
	return pid;
}

static long forks(void)
{
	return repeat(one_fork);
}

/* Every child forks as well. */
static long fork_bomb(void)
{
	for (int i = 0; time_left(); i++)
		if (fork() < 0)
			nap(1);
	return 0;
}

static void *idle(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}

static long one_thread(long i)
{
	pthread_t thread;
	pthread_attr_t attr;

	(void)i;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
	errno = pthread_create(&thread, &attr, idle, NULL);
	return errno ? -1 : 0;
}

static long threads(void)
{
	return repeat(one_thread);
}

static long one_zombie(long i)
{
	pid_t pid = fork();

	(void)i;
	if (pid == 0)
		_exit(0);
	return pid;
}

static long zombies(void)
{
	return repeat(one_zombie);
}

/* Thousands of orphans for init to reap, one generation after the other. */
static long orphans(void)
{
	long count = 0;

	while (time_left()) {
		pid_t pid = fork();

		if (pid == 0) {
			fork();
			_exit(0);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0), count++;
	}
	return count;
}

static long spinning_children(void)
{
	long count = 0;

	while (count < 64 && time_left()) {
		pid_t pid = fork();

		if (pid == 0)
			for (;;)
				;
		if (pid < 0)
			break;
		count++;
	}
	return count;
}

static long anonymous(void)
{
	for (long done = 0; time_left(); done += 1 << 20) {
		char *block = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (block == MAP_FAILED)
			return done;
		memset(block, 1, 1 << 20);
	}
	return 0;
}

static long fill(int fd, long most)
{
	static char block[65536];
	long done = 0;

	memset(block, 'b', sizeof(block));
	while (done < most && time_left()) {
		ssize_t one = write(fd, block, sizeof(block));

		if (one <= 0)
			break;
		done += one;
	}
	return done;
}

static long memory_file(void)
{
	return fill(memfd_create("bomb", 0), 1L << 32);
}

static long shm_file(void)
{
	return fill(open("/dev/shm/bomb", O_RDWR | O_CREAT, 0600), 1L << 32);
}

static long scratch_file(void)
{
	return fill(open("/work/bomb", O_RDWR | O_CREAT, 0600), 1L << 32);
}

/* Names are gone, descriptors hold the blocks. */
static long unlinked_files(void)
{
	long done = 0;

	for (int i = 0; i < 200 && time_left(); i++) {
		int fd = open("/tmp/gone", O_RDWR | O_CREAT, 0600);

		unlink("/tmp/gone");
		done += fill(fd, 4 << 20);
	}
	return done;
}

static long one_segment(long i)
{
	int id = shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600);
	void *at = id < 0 ? (void *)-1 : shmat(id, NULL, 0);

	(void)i;
	if (at == (void *)-1)
		return -1;
	memset(at, 1, 1 << 20);
	return shmdt(at);
}

static long segments(void)
{
	return repeat(one_segment);
}

static long one_semaphore_set(long i)
{
	(void)i;
	return semget(IPC_PRIVATE, 1000, IPC_CREAT | 0600);
}

static long semaphores(void)
{
	return repeat(one_semaphore_set);
}

static long one_message(long i)
{
	static struct {
		long type;
		char text[8192];
	} message = {1, {0}};
	static int queue = -1;

	(void)i;
	if (queue < 0 || msgsnd(queue, &message, sizeof(message.text), IPC_NOWAIT) != 0)
		queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	return queue;
}

static long messages(void)
{
	return repeat(one_message);
}

static long one_posix_queue(long i)
{
	char name[32];

	snprintf(name, sizeof(name), "/bomb%ld", i);
	return (long)mq_open(name, O_CREAT | O_RDWR, 0600, NULL);
}

static long posix_queues(void)
{
	return repeat(one_posix_queue);
}

static long one_full_pipe(long i)
{
	int ends[2];

	(void)i;
	if (pipe2(ends, O_NONBLOCK) != 0)
		return -1;
	fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	fill(ends[1], 1 << 20);
	return 0;
}

/* Descriptors run out in one process, not in many. */
static long in_many(long (*one)(long))
{
	long count = repeat(one);

	for (int i = 0; i < 40 && fork() == 0; i++)
		count = repeat(one);
	return count;
}

static long pipes(void)
{
	return in_many(one_full_pipe);
}

static long one_full_socket(long i)
{
	int ends[2];

	(void)i;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
		return -1;
	fill(ends[0], 4 << 20);
	return 0;
}

static long unix_sockets(void)
{
	return in_many(one_full_socket);
}

/* Bytes that loopback sockets hold for readers that never come. */
static long sockets_full(int type)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, type, 0);
	long held = 0;

	if (bind(listener, (struct sockaddr *)&address, size) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &size) != 0)
		return -1;
	listen(listener, 1000);
	for (int i = 0; i < 110 && held < 256L << 20 && time_left(); i++) {
		int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);

		if (fd < 0 ||
		    (connect(fd, (struct sockaddr *)&address, size) != 0 && errno != EINPROGRESS))
			break;
		if (type == SOCK_STREAM)
			accept(listener, NULL, NULL);
		held += fill(fd, 16 << 20);
	}
	return held;
}

static long tcp_buffers(void)
{
	return sockets_full(SOCK_STREAM);
}

/* What arrives where nobody reads is kept; what does not fit is dropped, and sent all the same. */
static long udp_buffers(void)
{
	static char block[32768];
	int fds[240];
	long held = 0;
	size_t count = 0;

	for (; count < COUNT(fds) && time_left(); count++) {
		struct sockaddr_in address = {.sin_family = AF_INET,
					      .sin_addr = {htonl(INADDR_LOOPBACK)}};
		socklen_t size = sizeof(address);

		fds[count] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		if (fds[count] < 0 || bind(fds[count], (struct sockaddr *)&address, size) != 0 ||
		    getsockname(fds[count], (struct sockaddr *)&address, &size) != 0 ||
		    connect(fds[count], (struct sockaddr *)&address, size) != 0)
			break;
		for (int n = 0; n < 12; n++)
			send(fds[count], block, 16384, 0);
	}
	for (size_t i = 0; i < count; i++)
		for (ssize_t got; (got = recv(fds[i], block, sizeof(block), 0)) > 0;)
			held += got;
	return held;
}

static long one_inotify(long i)
{
	int fd = inotify_init1(IN_NONBLOCK);

	(void)i;
	return fd < 0 ? -1 : inotify_add_watch(fd, "/work", IN_ALL_EVENTS);
}

static long inotifies(void)
{
	return in_many(one_inotify);
}

static long one_watch(long i)
{
	static int fd = -1;
	char name[64];

	if (fd < 0)
		fd = inotify_init1(IN_NONBLOCK);
	snprintf(name, sizeof(name), "/tmp/w%ld", i);
	mkdir(name, 0700);
	return inotify_add_watch(fd, name, IN_ALL_EVENTS);
}

static long watches(void)
{
	return repeat(one_watch);
}

static long one_epoll(long i)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = epoll_create1(0);

	(void)i;
	return fd < 0 ? -1 : epoll_ctl(fd, EPOLL_CTL_ADD, 0, &event) * 0;
}

static long epolls(void)
{
	return in_many(one_epoll);
}

static long one_timerfd(long i)
{
	struct itimerspec soon = {{0, 100000}, {0, 100000}};
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);

	(void)i;
	return fd < 0 ? -1 : timerfd_settime(fd, 0, &soon, NULL);
}

static long timerfds(void)
{
	return in_many(one_timerfd);
}

static long one_timer(long i)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	struct itimerspec soon = {{0, 100000}, {0, 100000}};
	timer_t timer;

	(void)i;
	signal(SIGRTMIN, SIG_IGN);
	return timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &soon, NULL)
		       ? -1
		       : 0;
}

static long timers(void)
{
	return repeat(one_timer);
}

static long one_eventfd(long i)
{
	(void)i;
	return eventfd(0, 0);
}

static long descriptors(void)
{
	return in_many(one_eventfd);
}

static long one_file(long i)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "/work/%ld", i);
	fd = open(name, O_CREAT | O_WRONLY, 0600);
	return fd < 0 ? -1 : close(fd);
}

static long files(void)
{
	return repeat(one_file);
}

static long one_hard_link(long i)
{
	char name[32];

	snprintf(name, sizeof(name), "/work/l%ld", i);
	if (i == 0)
		close(open("/work/target", O_CREAT | O_WRONLY, 0600));
	return link("/work/target", name);
}

static long hard_links(void)
{
	return repeat(one_hard_link);
}

static long one_level(long i)
{
	(void)i;
	return mkdir("d", 0700) || chdir("d") ? -1 : 0;
}

static long deep(void)
{
	return repeat(one_level);
}

static long one_missing(long i)
{
	char name[280];

	snprintf(name, sizeof(name), "/usr/%0200ld", i);
	return access(name, F_OK) == 0 ? -1 : 0;
}

static long missing_names(void)
{
	return repeat(one_missing);
}

static long one_xattr(long i)
{
	static char value[60000];
	char name[32];

	snprintf(name, sizeof(name), "user.x%ld", i);
	return (long)syscall(SYS_setxattr, "/work", name, value, sizeof(value), 0);
}

static long xattrs(void)
{
	return repeat(one_xattr);
}

static long page_cache(void)
{
	static char block[1 << 20];
	long got = 0;
	int fd = open("/opt/attack/big", O_RDONLY);

	for (ssize_t one; fd >= 0 && time_left() && (one = read(fd, block, sizeof(block))) > 0;)
		got += one;
	return got;
}

static long one_mapping(long i)
{
	return mmap(NULL, 4096, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
		       ? -1
		       : 0;
}

static long mappings(void)
{
	return repeat(one_mapping);
}

/* Page tables without pages: a read of each of many gigabytes maps the zero page. */
static long page_tables(void)
{
	long count = 0;

	for (; count < 64 && time_left(); count++) {
		volatile char *area = mmap(NULL, 1L << 30, PROT_READ,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (area == MAP_FAILED)
			break;
		for (long at = 0; at < 1L << 30 && time_left(); at += 1 << 21)
			(void)area[at];
	}
	return count;
}

static long locked(void)
{
	void *area =
		mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mlock(area, 16 << 20) == 0 ? 1 : 0;
}

static long core_dump(void)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	setrlimit(RLIMIT_CORE, &all);
	for (int i = 0; i < 20; i++) {
		if (fork() == 0) {
			memset(mmap(NULL, 1 << 20, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			       1, 1 << 20);
			abort();
		}
	}
	while (wait(NULL) > 0)
		;
	return 0;
}

static long one_signal(long i)
{
	const union sigval value = {.sival_int = (int)i};

	return sigqueue(getpid(), SIGRTMIN + 1, value);
}

static long queued_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	return repeat(one_signal);
}

/* Descriptors in flight, in sockets that nobody holds but each other. */
static long one_in_flight(long i)
{
	char space[CMSG_SPACE(sizeof(int) * 2)] = {0};
	struct iovec piece = {space, 1};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = space,
				 .msg_controllen = sizeof(space)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int ends[2];
	long result;

	(void)i;
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) != 0)
		return -1;
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(ends));
	memcpy(CMSG_DATA(header), ends, sizeof(ends));
	result = sendmsg(ends[0], &message, 0);
	close(ends[0]);
	close(ends[1]);
	return result;
}

static long in_flight(void)
{
	return repeat(one_in_flight);
}

static long exec_loop(void)
{
	volatile long count = 0;

	while (time_left()) {
		pid_t pid = vfork();

		if (pid == 0) {
			execl("/opt/attack/probe", "probe", NULL);
			_exit(9);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0), count++;
	}
	return count;
}

static long huge_arguments(void)
{
	static char *argv[2000];
	char *word = malloc(131072);

	memset(word, 'a', 131071);
	word[131071] = 0;
	for (size_t i = 0; i < COUNT(argv) - 1; i++)
		argv[i] = word;
	execv("/opt/attack/probe", argv);
	return errno == E2BIG ? 0 : -1;
}

/* A job that is busy in the kernel when it is killed: writers into one file, all at once. */
static void *write_on(void *unused)
{
	static char block[1 << 20];
	int fd = open("/work/slow", O_RDWR | O_CREAT, 0600);

	(void)unused;
	for (;;)
		if (pwrite(fd, block, sizeof(block), 0) < 0)
			return NULL;
}

static long slow_death(void)
{
	for (int i = 0; i < 900; i++) {
		pthread_t thread;
		pthread_attr_t attr;

		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 16384);
		if (pthread_create(&thread, &attr, write_on, NULL) != 0)
			break;
	}
	nap(10000);
	return 0;
}

static long stopped_children(void)
{
	for (int i = 0; i < 50; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			raise(SIGSTOP);
			_exit(0);
		}
	}
	return 0;
}

static long raise_of_limits(void)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	long raised = 0;

	for (int which = 0; which < 16; which++) {
		struct rlimit before;

		getrlimit(which, &before);
		raised += before.rlim_max != RLIM_INFINITY && setrlimit(which, &all) == 0;
	}
	return raised;
}

static const struct {
	const char *name;
	long (*run)(void);
} kinds[] = {
	{"forks", forks},
	{"fork_bomb", fork_bomb},
	{"threads", threads},
	{"zombies", zombies},
	{"orphans", orphans},
	{"spinning_children", spinning_children},
	{"anonymous", anonymous},
	{"memory_file", memory_file},
	{"shm_file", shm_file},
	{"scratch_file", scratch_file},
	{"unlinked_files", unlinked_files},
	{"segments", segments},
	{"semaphores", semaphores},
	{"messages", messages},
	{"posix_queues", posix_queues},
	{"pipes", pipes},
	{"unix_sockets", unix_sockets},
	{"tcp_buffers", tcp_buffers},
	{"udp_buffers", udp_buffers},
	{"inotifies", inotifies},
	{"watches", watches},
	{"epolls", epolls},
	{"timerfds", timerfds},
	{"timers", timers},
	{"descriptors", descriptors},
	{"files", files},
	{"hard_links", hard_links},
	{"deep", deep},
	{"missing_names", missing_names},
	{"xattrs", xattrs},
	{"page_cache", page_cache},
	{"mappings", mappings},
	{"page_tables", page_tables},
	{"locked", locked},
	{"core_dump", core_dump},
	{"queued_signals", queued_signals},
	{"in_flight", in_flight},
	{"exec_loop", exec_loop},
	{"huge_arguments", huge_arguments},
	{"slow_death", slow_death},
	{"stopped_children", stopped_children},
	{"raise_of_limits", raise_of_limits},
};

/* bomb KIND WORD: the word is how the suite finds the process. */
int bombs(int argc, char **argv)
{
	if (argc == 3)
		seconds = atol(argv[2]);
	for (size_t i = 0; argc >= 2 && i < COUNT(kinds); i++) {
		if (strcmp(kinds[i].name, argv[0]) != 0)
			continue;
		poise();
		time_left();
		say_number(argv[0], kinds[i].run());
		return 0;
	}
	return 2;
}
