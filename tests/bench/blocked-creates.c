// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks many creates at once:
 *
 *	blocked-creates DIR COUNT NAME
 *
 * COUNT threads each make a directory of their own below DIR (the kernel holds the parent's lock
 *while a create waits) and create NAME in it. Once every thread is inside that call it prints
 *"blocked". Then for each byte on its standard input it prints how many creates have returned; at
 *end of input, or by a signal, it ends, whatever its threads wait for.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CREATES_MAX   4096
#define STACK_BYTES   ((size_t)64 << 10)
#define POLL_DELAY_US 10000
/* A minute: threads that cannot get that far by then never will. */
#define POLLS_MAX 6000

typedef struct Create {
	char path[PATH_MAX];
	/* 0 before the thread runs. */
	_Atomic pid_t thread;
} Create;

static const char *name;
static atomic_int n_returned;

static _Noreturn void die(const char *what, int error)
{
	fprintf(stderr, "blocked-creates: %s: %s\n", what, strerror(error));
	exit(1);
}

static void *create_run(void *arg)
{
	Create *create = arg;
	int dir, fd;

	dir = open(create->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		die(create->path, errno);
	atomic_store(&create->thread, (pid_t)syscall(SYS_gettid));
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		fprintf(stderr, "blocked-creates: %s/%s: %s\n", create->path, name,
			strerror(errno));
	atomic_fetch_add(&n_returned, 1);
	return NULL;
}

static void create_start(Create *create, const char *top, int nth, const pthread_attr_t *attributes)
{
	pthread_t thread;
	int error;

	snprintf(create->path, sizeof(create->path), "%s/%06d", top, nth);
	if (mkdir(create->path, 0755) < 0)
		die(create->path, errno);
	error = pthread_create(&thread, attributes, create_run, create);
	if (error)
		die("thread", error);
}

/* Whether the thread is asleep in openat: the kernel names the call a sleeping thread is in. */
static int create_is_blocked(Create *create)
{
	char path[64], text[32];
	pid_t thread = atomic_load(&create->thread);
	long call = -1;
	FILE *file;

	if (!thread)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", thread);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fgets(text, sizeof(text), file) && sscanf(text, "%ld", &call) != 1)
		call = -1;
	fclose(file);
	return call == SYS_openat;
}

static void wait_until_blocked(Create *creates, int count)
{
	int nth = 0;

	for (int poll = 0; nth < count; poll++) {
		if (atomic_load(&n_returned) > 0)
			die("a create did not block", EPROTO);
		if (poll == POLLS_MAX)
			die("not every create blocked", ETIMEDOUT);
		while (nth < count && create_is_blocked(&creates[nth]))
			nth++;
		usleep(POLL_DELAY_US);
	}
}

int main(int argc, char **argv)
{
	int count = argc == 4 ? atoi(argv[2]) : 0;
	pthread_attr_t attributes;
	Create *creates;

	if (count < 1 || count > CREATES_MAX) {
		fprintf(stderr, "usage: blocked-creates DIR COUNT NAME (COUNT from 1 to %d)\n",
			CREATES_MAX);
		return 2;
	}
	name = argv[3];
	creates = calloc((size_t)count, sizeof(*creates));
	if (!creates)
		die("creates", ENOMEM);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < count; i++)
		create_start(&creates[i], argv[1], i, &attributes);
	wait_until_blocked(creates, count);
	printf("blocked\n");
	fflush(stdout);
	while (getchar() != EOF) {
		printf("returned=%d\n", atomic_load(&n_returned));
		fflush(stdout);
	}
	_exit(0);
}
