/* What ordinary C programs use: threads, shared memory, timers, signals, descriptors, processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SHOW(name, expression) printf("%-16s %s\n", name, (expression) ? "ok" : strerror(errno))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int counter;

static void *count(void *unused)
{
	for (int i = 0; i < 10000; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		pthread_mutex_unlock(&lock);
	}
	return unused;
}

static int threads(void)
{
	pthread_t ids[8];

	for (int i = 0; i < 8; i++)
		if (pthread_create(&ids[i], NULL, count, NULL) != 0)
			return 0;
	for (int i = 0; i < 8; i++)
		pthread_join(ids[i], NULL);
	return counter == 80000;
}

static int shared_memory(void)
{
	int fd = shm_open("/honest", O_CREAT | O_RDWR, 0600), status;
	int *word;

	if (fd < 0 || ftruncate(fd, 4096) != 0)
		return 0;
	word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (word == MAP_FAILED)
		return 0;
	if (fork() == 0) {
		*word = 42;
		_exit(0);
	}
	wait(&status);
	return *word == 42 && shm_unlink("/honest") == 0;
}

static int system_v(void)
{
	struct {
		long type;
		char text[8];
	} message = {1, "hello"};
	int queue = msgget(IPC_PRIVATE, 0600), memory = shmget(IPC_PRIVATE, 4096, 0600);
	int semaphores = semget(IPC_PRIVATE, 2, 0600);

	return queue >= 0 && memory >= 0 && semaphores >= 0 &&
	       msgsnd(queue, &message, sizeof(message.text), 0) == 0 &&
	       msgrcv(queue, &message, sizeof(message.text), 1, 0) == sizeof(message.text) &&
	       shmat(memory, NULL, 0) != (void *)-1 && msgctl(queue, IPC_RMID, NULL) == 0 &&
	       shmctl(memory, IPC_RMID, NULL) == 0 && semctl(semaphores, 0, IPC_RMID) == 0;
}

static int posix_queue(void)
{
	struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 16};
	mqd_t queue = mq_open("/honest", O_CREAT | O_RDWR, 0600, &attr);
	char text[16];

	return queue >= 0 && mq_send(queue, "x", 1, 0) == 0 &&
	       mq_receive(queue, text, sizeof(text), NULL) == 1 && mq_unlink("/honest") == 0;
}

static int events(void)
{
	struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
	int timer = timerfd_create(CLOCK_MONOTONIC, 0), event = eventfd(1, 0),
	    poll = epoll_create1(0);
	struct epoll_event wanted = {.events = EPOLLIN}, got;
	uint64_t number;
	sigset_t set;
	int signals;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, 0);
	raise(SIGUSR1);
	return timer >= 0 && event >= 0 && poll >= 0 && signals >= 0 &&
	       timerfd_settime(timer, 0, &soon, NULL) == 0 &&
	       epoll_ctl(poll, EPOLL_CTL_ADD, timer, &wanted) == 0 &&
	       epoll_wait(poll, &got, 1, 5000) == 1 && read(event, &number, 8) == 8 &&
	       read(signals, &(struct signalfd_siginfo){0}, sizeof(struct signalfd_siginfo)) > 0;
}

static int watching(void)
{
	char buffer[512];
	int watch = inotify_init1(IN_CLOEXEC);

	return watch >= 0 && inotify_add_watch(watch, ".", IN_CREATE) >= 0 &&
	       close(open("made", O_CREAT | O_WRONLY, 0600)) == 0 &&
	       read(watch, buffer, sizeof(buffer)) > 0;
}

static int files(void)
{
	int fd = open("data", O_CREAT | O_RDWR, 0600), copy = open("copy", O_CREAT | O_RDWR, 0600);
	int memory = memfd_create("m", MFD_ALLOW_SEALING);
	struct flock whole = {.l_type = F_WRLCK};
	int pipes[2];

	return fd >= 0 && fallocate(fd, 0, 0, 8192) == 0 && fcntl(fd, F_SETLK, &whole) == 0 &&
	       pwrite(fd, "abc", 3, 100) == 3 &&
	       copy_file_range(fd, NULL, copy, NULL, 200, 0) == 200 &&
	       fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE) == 0 && pipe2(pipes, O_CLOEXEC) == 0 &&
	       splice(fd, &(loff_t){0}, pipes[1], NULL, 64, 0) == 64 && link("data", "twin") == 0 &&
	       symlink("data", "sym") == 0 && rename("twin", "other") == 0 && fsync(fd) == 0;
}

static int descriptors(void)
{
	int pair[2], passed = -1;
	char space[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
	struct iovec piece = {&byte, 1};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = space,
				 .msg_controllen = sizeof(space)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return 0;
	*header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(header), &pair[0], sizeof(int));
	if (sendmsg(pair[0], &message, 0) != 1 || recvmsg(pair[1], &message, 0) != 1)
		return 0;
	memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return fcntl(passed, F_GETFD) >= 0;
}

static int code(void)
{
	/* As a JIT does it. */
	unsigned char *page =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0 &&
	       mlock(page, 4096) == 0 && madvise(page, 4096, MADV_DONTDUMP) == 0;
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	SHOW("threads", threads());
	SHOW("shared memory", shared_memory());
	SHOW("system v", system_v());
	SHOW("posix queue", posix_queue());
	SHOW("events", events());
	SHOW("watching", watching());
	SHOW("files", files());
	SHOW("descriptors", descriptors());
	SHOW("code", code());
	SHOW("popen", pclose(popen("exit 0", "r")) == 0);
	return 0;
}
