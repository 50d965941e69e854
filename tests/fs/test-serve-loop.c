// SPDX-License-Identifier: Apache-2.0
/* With a kernel of the test's own at the other end of a socket. Linked with --wrap=pthread_create. */
#include "fs/serve-loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/test-util.h"

/* A tick that does not come while a test runs. */
#define NO_TICK_NS ((int64_t)3600 * 1000000000)

/* Requests about these inodes are held; those about others are answered at once. */
enum { HELD = 2, ALSO_HELD, N_HELD_INODES };
#define QUICK 9

typedef struct Fixture {
	int kernel_fd;
	struct fuse_session *session;
	ServeLoop *loop;
	pthread_t runner;
	unsigned n_threads_before;
	uint64_t last_unique;
	Mutex lock;
	Cond changed;
	/* Protected by lock. */
	unsigned n_held;
	bool let[N_HELD_INODES];
	pthread_t answered_by;
	bool ended;
	int result;
} Fixture;

/* Calls until one fails, and how many do then. The linker's wrapping leaves no other way in than globals. */
static atomic_uint fail_nth, n_fail;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	if (fail_nth > 1) {
		fail_nth--;
	} else if (fail_nth == 1 && n_fail > 0) {
		n_fail--;
		return EAGAIN;
	}
	return __real_pthread_create(thread, attr, run, arg);
}

// the filesystem

static void answer(fuse_req_t req, fuse_ino_t inode)
{
	Fixture *f = fuse_req_userdata(req);

	mutex_lock(&f->lock);
	if (inode < N_HELD_INODES) {
		f->n_held++;
		cond_broadcast(&f->changed);
		while (!f->let[inode])
			cond_wait(&f->changed, &f->lock);
		f->n_held--;
	}
	f->answered_by = pthread_self();
	mutex_unlock(&f->lock);
	fuse_reply_err(req, ENOTSUP);
}

static void on_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	(void)fi;
	answer(req, inode);
}

static void on_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	(void)fi;
	answer(req, inode);
}

static void on_setattr(fuse_req_t req, fuse_ino_t inode, struct stat *attr, int valid, struct fuse_file_info *fi)
{
	(void)attr, (void)valid, (void)fi;
	answer(req, inode);
}

static void on_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)size, (void)offset, (void)fi;
	answer(req, inode);
}

static void on_write(fuse_req_t req, fuse_ino_t inode, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	(void)data, (void)size, (void)offset, (void)fi;
	answer(req, inode);
}

static void on_fsync(fuse_req_t req, fuse_ino_t inode, int datasync, struct fuse_file_info *fi)
{
	(void)datasync, (void)fi;
	answer(req, inode);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t inode, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	(void)mode, (void)offset, (void)length, (void)fi;
	answer(req, inode);
}

static const struct fuse_lowlevel_ops operations = {
	.getattr = on_getattr,
	.open = on_open,
	.setattr = on_setattr,
	.read = on_read,
	.write = on_write,
	.fsync = on_fsync,
	.fsyncdir = on_fsync,
	.fallocate = on_fallocate,
};

// the kernel

static uint64_t ask_with(Fixture *f, uint32_t opcode, uint64_t inode, const void *arg, size_t size)
{
	/* More than any argument has, and the data of a write. */
	size_t length = sizeof(struct fuse_in_header) + MAX(size, (size_t)256);
	g_autofree char *message = g_malloc0(length);
	struct fuse_in_header *header = (struct fuse_in_header *)message;

	*header = (struct fuse_in_header){
		.len = length, .opcode = opcode, .unique = ++f->last_unique, .nodeid = inode,
	};
	if (arg)
		memcpy(header + 1, arg, size);
	g_assert_cmpint(send(f->kernel_fd, message, length, 0), ==, length);
	return f->last_unique;
}

static uint64_t ask(Fixture *f, uint32_t opcode, uint64_t inode)
{
	return ask_with(f, opcode, inode, NULL, 0);
}

/* Which request is answered next. */
static uint64_t next_answer(Fixture *f)
{
	struct pollfd answers = { .fd = f->kernel_fd, .events = POLLIN };
	char message[4096];
	ssize_t n;

	g_assert_cmpint(poll(&answers, 1, TEST_PATIENCE_NS / 1000000), ==, 1);
	n = recv(f->kernel_fd, message, sizeof(message), 0);
	g_assert_cmpint(n, >=, sizeof(struct fuse_out_header));
	return ((struct fuse_out_header *)message)->unique;
}

static void expect_answer(Fixture *f, uint64_t unique)
{
	g_assert_cmpuint(next_answer(f), ==, unique);
}

static void begin(Fixture *f)
{
	struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };

	expect_answer(f, ask_with(f, FUSE_INIT, 0, &init, sizeof(init)));
}

// the loop

static void *run(void *arg)
{
	Fixture *f = arg;
	int r = serve_loop_run(f->loop);

	mutex_lock(&f->lock);
	f->result = r;
	f->ended = true;
	mutex_unlock(&f->lock);
	return NULL;
}

static void fixture_init(Fixture *f, int64_t tick_ns)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	g_autofree char *device = NULL;
	int fds[2];

	*f = (Fixture){ .n_threads_before = test_count_threads() };
	mutex_init(&f->lock);
	cond_init(&f->changed);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), ==, 0);
	f->kernel_fd = fds[0];
	device = g_strdup_printf("/dev/fd/%d", fds[1]);
	fuse_opt_add_arg(&args, "test");
	f->session = fuse_session_new(&args, &operations, sizeof(operations), f);
	g_assert_nonnull(f->session);
	g_assert_cmpint(fuse_session_mount(f->session, device), ==, 0);
	f->loop = serve_loop_new(f->session, tick_ns);
	g_assert_nonnull(f->loop);
	fuse_opt_free_args(&args);
}

static void fixture_start(Fixture *f)
{
	g_assert_cmpint(thread_start(&f->runner, "runner", run, f), ==, 0);
	begin(f);
}

static void fixture_join(Fixture *f)
{
	pthread_join(f->runner, NULL);
	g_assert_true(f->ended);
	/* One that was joined, or has ended by itself, may be in the list for a moment. */
	TEST_WAIT_UNTIL(test_count_threads() <= f->n_threads_before);
}

static void fixture_deinit(Fixture *f)
{
	f->loop = serve_loop_free(f->loop);
	fuse_session_destroy(f->session);
	if (f->kernel_fd >= 0)
		close(f->kernel_fd);
	cond_deinit(&f->changed);
	mutex_deinit(&f->lock);
}

static void fixture_stop(Fixture *f)
{
	serve_loop_stop(f->loop);
	fixture_join(f);
	g_assert_cmpint(f->result, ==, 0);
	fixture_deinit(f);
}

static void wait_held(Fixture *f, unsigned n)
{
	MUTEX_SCOPE(&f->lock);

	while (f->n_held < n)
		g_assert_true(cond_wait_until(&f->changed, &f->lock, monotonic_ns() + TEST_PATIENCE_NS));
	g_assert_cmpuint(f->n_held, ==, n);
}

static void let(Fixture *f, unsigned inode)
{
	MUTEX_SCOPE(&f->lock);

	f->let[inode] = true;
	cond_broadcast(&f->changed);
}

static pthread_t answered_by(Fixture *f)
{
	MUTEX_SCOPE(&f->lock);

	return f->answered_by;
}

static void *do_nothing(void *arg)
{
	return arg;
}

static void test_one_thread_while_quick(void)
{
	pthread_t first;
	Fixture f;

	fixture_init(&f, NO_TICK_NS);
	fixture_start(&f);
	expect_answer(&f, ask(&f, FUSE_GETATTR, QUICK));
	first = answered_by(&f);
	for (unsigned i = 0; i < 10 * SERVE_LOOK_EVERY; i++) {
		expect_answer(&f, ask(&f, FUSE_GETATTR, QUICK));
		g_assert_true(pthread_equal(answered_by(&f), first));
	}
	/* The runner, the one with the turn, and a spare one. */
	g_assert_cmpuint(test_count_threads(), ==, f.n_threads_before + 3);
	fixture_stop(&f);
}

/* What begins a request that may take long; others are served meanwhile, and by no tick. */
static void test_what_takes_long(void)
{
	static char large[sizeof(struct fuse_write_in) + 64 * 1024 + 1];
	struct fuse_write_in *large_write = (struct fuse_write_in *)large;
	struct fuse_write_in synced = { .size = 1, .flags = O_DSYNC };
	struct fuse_setattr_in size = { .valid = FATTR_SIZE };
	struct fuse_open_in empties = { .flags = O_TRUNC };
	struct {
		uint32_t opcode;
		const void *arg;
		size_t size;
	} cases[] = {
		{ FUSE_READ, NULL, 0 },
		{ FUSE_FSYNC, NULL, 0 },
		{ FUSE_FSYNCDIR, NULL, 0 },
		{ FUSE_FALLOCATE, NULL, 0 },
		{ FUSE_WRITE, &synced, sizeof(synced) },
		{ FUSE_WRITE, large, sizeof(large) },
		{ FUSE_SETATTR, &size, sizeof(size) },
		{ FUSE_OPEN, &empties, sizeof(empties) },
	};

	large_write->size = sizeof(large) - sizeof(*large_write);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		uint64_t held;
		Fixture f;

		fixture_init(&f, NO_TICK_NS);
		fixture_start(&f);
		held = ask_with(&f, cases[i].opcode, HELD, cases[i].arg, cases[i].size);
		for (unsigned n = 0; n < 3; n++)
			expect_answer(&f, ask(&f, FUSE_GETATTR, QUICK));
		wait_held(&f, 1);
		let(&f, HELD);
		expect_answer(&f, held);
		fixture_stop(&f);
	}
}

static void test_quick_one_that_is_held_up(void)
{
	uint64_t held[5];
	Fixture f;

	fixture_init(&f, SERVE_TICK_NS);
	fixture_start(&f);
	for (unsigned i = 0; i < G_N_ELEMENTS(held); i++) {
		held[i] = ask(&f, FUSE_GETATTR, HELD);
		wait_held(&f, i + 1);
		expect_answer(&f, ask(&f, FUSE_GETATTR, QUICK));
	}
	let(&f, HELD);
	for (unsigned i = 0; i < G_N_ELEMENTS(held); i++) {
		uint64_t unique = next_answer(&f);

		g_assert_cmpuint(unique, >=, held[0]);
		g_assert_cmpuint(unique, <=, held[G_N_ELEMENTS(held) - 1]);
	}
	fixture_stop(&f);
}

/* Asked for together, so that there is more whenever one looks. The first request was the kernel's own. */
static void test_more_than_one_can_do(void)
{
	uint64_t first, second, third;
	Fixture f;

	fixture_init(&f, NO_TICK_NS);
	fixture_start(&f);
	for (unsigned i = 2; i < SERVE_LOOK_EVERY; i++)
		expect_answer(&f, ask(&f, FUSE_GETATTR, QUICK));
	first = ask(&f, FUSE_GETATTR, HELD);
	wait_held(&f, 1);
	second = ask(&f, FUSE_GETATTR, ALSO_HELD);
	third = ask(&f, FUSE_GETATTR, QUICK);
	let(&f, HELD);
	expect_answer(&f, first);
	/* By another one, while the second is held. */
	expect_answer(&f, third);
	wait_held(&f, 1);
	let(&f, ALSO_HELD);
	expect_answer(&f, second);
	fixture_stop(&f);
}

static void test_as_many_as_allowed(void)
{
	unsigned n_asked = SERVE_MAX_THREADS + 10;
	Fixture f;

	fixture_init(&f, SERVE_TICK_NS);
	fixture_start(&f);
	for (unsigned i = 0; i < n_asked; i++)
		ask(&f, i % 2 ? FUSE_GETATTR : FUSE_FSYNC, HELD);
	wait_held(&f, SERVE_MAX_THREADS);
	/* With the runner. */
	g_assert_cmpuint(test_count_threads(), ==, f.n_threads_before + SERVE_MAX_THREADS + 1);
	let(&f, HELD);
	for (unsigned i = 0; i < n_asked; i++)
		next_answer(&f);
	/* The others end, but for the one with the turn. */
	TEST_WAIT_UNTIL(test_count_threads() <= f.n_threads_before + SERVE_MAX_SPARE + 2);
	expect_answer(&f, ask(&f, FUSE_GETATTR, QUICK));
	fixture_stop(&f);
}

static void test_stopped_while_held(void)
{
	uint64_t held;
	Fixture f;

	fixture_init(&f, SERVE_TICK_NS);
	fixture_start(&f);
	held = ask(&f, FUSE_FSYNC, HELD);
	wait_held(&f, 1);
	serve_loop_stop(f.loop);
	mutex_lock(&f.lock);
	g_assert_false(f.ended);
	mutex_unlock(&f.lock);
	let(&f, HELD);
	expect_answer(&f, held);
	fixture_join(&f);
	g_assert_cmpint(f.result, ==, 0);
	fixture_deinit(&f);
}

static void test_stopped_before(void)
{
	Fixture f;

	fixture_init(&f, SERVE_TICK_NS);
	serve_loop_stop(f.loop);
	g_assert_cmpint(serve_loop_run(f.loop), ==, 0);
	fixture_deinit(&f);
}

static void test_device_that_ends(void)
{
	Fixture f;

	fixture_init(&f, SERVE_TICK_NS);
	fixture_start(&f);
	expect_answer(&f, ask(&f, FUSE_GETATTR, QUICK));
	close(f.kernel_fd);
	f.kernel_fd = -1;
	fixture_join(&f);
	g_assert_cmpint(f.result, ==, 0);
	fixture_deinit(&f);
}

static void test_no_thread(void)
{
	Fixture f;

	fixture_init(&f, SERVE_TICK_NS);
	fail_nth = 1;
	n_fail = 1;
	g_assert_cmpint(serve_loop_run(f.loop), ==, -EAGAIN);
	g_assert_cmpuint(n_fail, ==, 0);
	fixture_deinit(&f);
}

/* It serves with what it has, and with more as soon as there can be more. */
static void test_no_more_threads(void)
{
	uint64_t held;
	Fixture f;

	fixture_init(&f, SERVE_TICK_NS);
	/* The runner and the first one there can be. */
	fail_nth = 3;
	n_fail = 1000;
	fixture_start(&f);
	for (unsigned i = 0; i < 3; i++)
		expect_answer(&f, ask(&f, FUSE_GETATTR, QUICK));
	g_assert_cmpuint(n_fail, <, 1000);
	n_fail = 0;
	held = ask(&f, FUSE_FSYNC, HELD);
	let(&f, HELD);
	expect_answer(&f, held);
	fixture_stop(&f);
}

int main(int argc, char **argv)
{
	pthread_t first;

	/* The thread sanitizer adds one of its own to the first. */
	thread_start(&first, "first", do_nothing, NULL);
	pthread_join(first, NULL);
	g_test_init(&argc, &argv, NULL);
	test_add("/serve-loop/one-thread-while-quick", test_one_thread_while_quick);
	test_add("/serve-loop/what-takes-long", test_what_takes_long);
	test_add("/serve-loop/quick-one-that-is-held-up", test_quick_one_that_is_held_up);
	test_add("/serve-loop/more-than-one-can-do", test_more_than_one_can_do);
	test_add("/serve-loop/as-many-as-allowed", test_as_many_as_allowed);
	test_add("/serve-loop/stopped-while-held", test_stopped_while_held);
	test_add("/serve-loop/stopped-before", test_stopped_before);
	test_add("/serve-loop/device-that-ends", test_device_that_ends);
	test_add("/serve-loop/no-thread", test_no_thread);
	test_add("/serve-loop/no-more-threads", test_no_more_threads);
	return g_test_run();
}
