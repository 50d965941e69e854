// SPDX-License-Identifier: Apache-2.0
/*
 * Spare threads wait at an epoll, in which the device is armed for one shot when one of them is called: he comes as soon as
 * there is a request. Who comes in vain does no harm.
 *
 * That no request is left lying: whoever leaves the device with a request sees to it that there is a tick, and at a tick
 * somebody is called if nobody is at the device and none has left it since the last one.
 */
#include "fs/serve-loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/sync.h"

/* A write of more is a copy that takes its time. */
#define LARGE_BYTES (64 * 1024)

struct ServeLoop {
	struct fuse_session *session;
	int64_t tick_ns;
	int epoll_fd;
	/* Readable once all are to return. */
	int stop_fd;
	/* Readable at a tick. */
	int tick_fd;
	/* Somebody waits for the next request. */
	atomic_bool attended;
	/* The device is armed, or was. */
	atomic_bool called;
	/* There will be a tick. */
	atomic_bool ticking;
	/* Requests so far, and at the last tick. */
	atomic_uint_fast64_t n_taken;
	atomic_uint_fast64_t n_taken_then;
	/* There always is one, unless there are too many threads. */
	atomic_uint n_spare;
	Mutex lock;
	/* Protected by lock. Of ServeThread, borrowed: who takes one out ends it. */
	GPtrArray *threads;
};

typedef struct ServeThread {
	ServeLoop *loop;
	pthread_t thread;
	struct fuse_buf request;
} ServeThread;

#ifdef __SANITIZE_ADDRESS__
/* A thread that is cancelled leaves the marks of its frames on its stack. At its end the sanitizer would stumble over them,
 * where it takes back the stack for signals that it gives each thread. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "use_sigaltstack=0";
}
#endif

static void *thread_run(void *arg);

static void thread_free(ServeThread *self)
{
	free(self->request.mem);
	g_free(self);
}

static int watch(const ServeLoop *loop, int operation, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(loop->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

/* If there is a request, or as soon as there is one, a spare thread comes. */
static void call_another(ServeLoop *loop)
{
	if (atomic_load(&loop->attended))
		return;
	atomic_store(&loop->called, true);
	watch(loop, EPOLL_CTL_MOD, fuse_session_fd(loop->session), EPOLLIN | EPOLLONESHOT);
}

/* False if somebody else does. */
static bool attend(ServeLoop *loop)
{
	if (atomic_exchange(&loop->attended, true))
		return false;
	if (atomic_load(&loop->called) && atomic_exchange(&loop->called, false))
		watch(loop, EPOLL_CTL_MOD, fuse_session_fd(loop->session), EPOLLONESHOT);
	return true;
}

static void keep_ticking(ServeLoop *loop)
{
	struct itimerspec after = {
		.it_value = { .tv_sec = loop->tick_ns / 1000000000, .tv_nsec = loop->tick_ns % 1000000000 },
	};

	if (!atomic_load(&loop->ticking) && !atomic_exchange(&loop->ticking, true))
		timerfd_settime(loop->tick_fd, 0, &after, NULL);
}

static void tick(ServeLoop *loop)
{
	uint64_t n_expired, n_taken;
	bool went_on;

	/* Another thread was faster. */
	if (read(loop->tick_fd, &n_expired, sizeof(n_expired)) < 0)
		return;
	n_taken = atomic_load(&loop->n_taken);
	went_on = atomic_exchange(&loop->n_taken_then, n_taken) != n_taken;
	/* Before it is asked who attends: who leaves the device looks at the two in the other order. */
	atomic_store(&loop->ticking, false);
	if (atomic_load(&loop->attended))
		return;
	if (!went_on)
		call_another(loop);
	keep_ticking(loop);
}

/* One more that is spare, unless there is one. 0 or -errno. */
static int add_thread(ServeLoop *loop)
{
	MUTEX_SCOPE(&loop->lock);
	ServeThread *added;
	int r;

	if (atomic_load(&loop->n_spare) > 0 || loop->threads->len >= SERVE_MAX_THREADS || fuse_session_exited(loop->session))
		return 0;
	added = g_new0(ServeThread, 1);
	added->loop = loop;
	atomic_fetch_add(&loop->n_spare, 1);
	r = thread_start(&added->thread, "warmfs-serve", thread_run, added);
	if (r == 0) {
		g_ptr_array_add(loop->threads, added);
	} else {
		atomic_fetch_sub(&loop->n_spare, 1);
		thread_free(added);
	}
	return r;
}

/* True if there are enough without it: it is not the loop's any more. */
static bool leave(ServeThread *self)
{
	ServeLoop *loop = self->loop;
	MUTEX_SCOPE(&loop->lock);

	if (atomic_load(&loop->n_spare) <= SERVE_MAX_SPARE || !g_ptr_array_remove_fast(loop->threads, self))
		return false;
	atomic_fetch_sub(&loop->n_spare, 1);
	thread_detach(self->thread);
	return true;
}

static bool takes_long(const struct fuse_buf *request)
{
	const struct fuse_in_header *header = request->mem;
	const void *arg = header + 1;
	const struct fuse_write_in *write = arg;

	switch (header->opcode) {
	case FUSE_READ:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	case FUSE_OPEN:
		return ((const struct fuse_open_in *)arg)->flags & O_TRUNC;
	case FUSE_SETATTR:
		return ((const struct fuse_setattr_in *)arg)->valid & FATTR_SIZE;
	case FUSE_WRITE:
		return write->size > LARGE_BYTES || (write->flags & (O_SYNC | O_DSYNC));
	default:
		return false;
	}
}

static bool is_more(const ServeLoop *loop)
{
	struct pollfd device = { .fd = fuse_session_fd(loop->session), .events = POLLIN };

	return poll(&device, 1, 0) > 0;
}

/* The only place where a thread may be cancelled. */
static int take(const ServeLoop *loop, struct fuse_buf *request)
{
	int r;

	thread_allow_cancel(true);
	r = fuse_session_receive_buf(loop->session, request);
	thread_allow_cancel(false);
	return r;
}

static void serve(ServeLoop *loop, struct fuse_buf *request)
{
	uint64_t n_taken;
	int r;

	while (attend(loop)) {
		r = take(loop, request);
		atomic_store(&loop->attended, false);
		if (r == -EINTR)
			continue;
		if (r <= 0) {
			serve_loop_stop(loop);
			return;
		}
		n_taken = atomic_fetch_add(&loop->n_taken, 1);
		keep_ticking(loop);
		if (takes_long(request) || (n_taken % SERVE_LOOK_EVERY == 0 && is_more(loop)))
			call_another(loop);
		fuse_session_process_buf(loop->session, request);
	}
}

static void be_called(ServeThread *self)
{
	ServeLoop *loop = self->loop;

	if (atomic_load(&loop->attended))
		return;
	/* If there can be none, this one comes back. */
	if (atomic_fetch_sub(&loop->n_spare, 1) == 1)
		add_thread(loop);
	serve(loop, &self->request);
	atomic_fetch_add(&loop->n_spare, 1);
}

static void *thread_run(void *arg)
{
	ServeThread *self = arg;
	ServeLoop *loop = self->loop;
	struct epoll_event event;

	thread_allow_cancel(false);
	while (!fuse_session_exited(loop->session)) {
		if (epoll_wait(loop->epoll_fd, &event, 1, -1) != 1 || event.data.fd == loop->stop_fd)
			continue;
		if (event.data.fd == loop->tick_fd) {
			tick(loop);
			continue;
		}
		be_called(self);
		if (leave(self)) {
			thread_free(self);
			break;
		}
	}
	return NULL;
}

static int set_up(ServeLoop *loop)
{
	int r;

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->stop_fd = eventfd(0, EFD_CLOEXEC);
	loop->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->stop_fd < 0 || loop->tick_fd < 0)
		return -errno;
	r = watch(loop, EPOLL_CTL_ADD, fuse_session_fd(loop->session), EPOLLONESHOT);
	if (r == 0)
		r = watch(loop, EPOLL_CTL_ADD, loop->stop_fd, EPOLLIN);
	/* One of them is woken by it. */
	if (r == 0)
		r = watch(loop, EPOLL_CTL_ADD, loop->tick_fd, EPOLLIN | EPOLLET);
	return r;
}

ServeLoop *serve_loop_new(struct fuse_session *session, int64_t tick_ns)
{
	ServeLoop *loop = g_new0(ServeLoop, 1);
	int r;

	loop->session = session;
	loop->tick_ns = tick_ns;
	loop->epoll_fd = loop->stop_fd = loop->tick_fd = -1;
	loop->threads = g_ptr_array_new();
	mutex_init(&loop->lock);
	r = set_up(loop);
	if (r < 0) {
		loop = serve_loop_free(loop);
		errno = -r;
	}
	return loop;
}

ServeLoop *serve_loop_free(ServeLoop *loop)
{
	if (!loop)
		return NULL;
	cleanup_fd(&loop->tick_fd);
	cleanup_fd(&loop->stop_fd);
	cleanup_fd(&loop->epoll_fd);
	mutex_deinit(&loop->lock);
	g_ptr_array_unref(loop->threads);
	g_free(loop);
	return NULL;
}

/* One that has not ended by itself, or NULL. */
static ServeThread *take_thread(ServeLoop *loop)
{
	MUTEX_SCOPE(&loop->lock);

	return loop->threads->len > 0 ? g_ptr_array_remove_index_fast(loop->threads, loop->threads->len - 1) : NULL;
}

static void end_threads(ServeLoop *loop)
{
	ServeThread *ending;

	while ((ending = take_thread(loop))) {
		thread_cancel(ending->thread);
		pthread_join(ending->thread, NULL);
		thread_free(ending);
	}
}

int serve_loop_run(ServeLoop *loop)
{
	struct pollfd stop = { .fd = loop->stop_fd, .events = POLLIN };
	int r = add_thread(loop);

	if (r < 0)
		return r;
	call_another(loop);
	while (poll(&stop, 1, -1) != 1)
		;
	end_threads(loop);
	return 0;
}

void serve_loop_stop(ServeLoop *loop)
{
	uint64_t one = 1;

	fuse_session_exit(loop->session);
	/* Never full: it is not stopped that often. */
	if (write(loop->stop_fd, &one, sizeof(one)) < 0)
		g_assert_not_reached();
}
