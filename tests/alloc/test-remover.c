// SPDX-License-Identifier: Apache-2.0
/* What is closed in the background: soon, all of it, and waited for. */
#include "alloc/remover.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

typedef struct Fixture {
	FakeSys sys;
	Remover remover;
	Mutex lock;
	Cond changed;
	/* Protected by lock. Closings that may go on, that came, and whether one came on this thread. */
	unsigned n_let;
	unsigned n_entered;
	pthread_t owner;
	bool closed_by_owner;
} Fixture;

static void before(void *arg, FakeSysCall call)
{
	Fixture *f = arg;

	g_assert_cmpint(call, ==, FAKE_SYS_CLOSE);
	MUTEX_SCOPE(&f->lock);
	f->n_entered++;
	if (pthread_equal(pthread_self(), f->owner)) {
		f->closed_by_owner = true;
		return;
	}
	while (f->n_let == 0)
		cond_wait(&f->changed, &f->lock);
	f->n_let--;
}

static void let(Fixture *f, unsigned n)
{
	MUTEX_SCOPE(&f->lock);
	f->n_let += n;
	cond_broadcast(&f->changed);
}

static unsigned entered(Fixture *f)
{
	MUTEX_SCOPE(&f->lock);
	return f->n_entered;
}

static void fixture_init(Fixture *f)
{
	*f = (Fixture){ .owner = pthread_self() };
	mutex_init(&f->lock);
	cond_init(&f->changed);
	fake_sys_init(&f->sys, true);
	f->sys.before = before;
	f->sys.before_arg = f;
	remover_init(&f->remover, &f->sys.base);
}

static void fixture_deinit(Fixture *f)
{
	remover_stop(&f->remover);
	remover_deinit(&f->remover);
	fake_sys_deinit(&f->sys);
	cond_deinit(&f->changed);
	mutex_deinit(&f->lock);
}

static void bury(Fixture *f, uint64_t bytes)
{
	int fd = open("/dev/null", O_PATH | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	remover_bury(&f->remover, fd, bytes);
}

static void test_in_background(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(remover_start(&f.remover), ==, 0);
	g_assert_false(remover_is_busy(&f.remover));
	bury(&f, 100);
	bury(&f, 20);
	TEST_WAIT_UNTIL(entered(&f) == 1);
	g_assert_cmpuint(remover_pending_bytes(&f.remover), ==, 120);
	g_assert_cmpuint(remover_pending_files(&f.remover), ==, 2);
	g_assert_true(remover_is_busy(&f.remover));
	let(&f, 1);
	TEST_WAIT_UNTIL(remover_pending_bytes(&f.remover) == 20);
	TEST_WAIT_UNTIL(remover_pending_files(&f.remover) == 1);
	g_assert_true(remover_is_busy(&f.remover));
	let(&f, 1);
	TEST_WAIT_UNTIL(!remover_is_busy(&f.remover));
	g_assert_cmpuint(remover_pending_bytes(&f.remover), ==, 0);
	g_assert_cmpuint(remover_pending_files(&f.remover), ==, 0);
	g_assert_false(f.closed_by_owner);
	fixture_deinit(&f);
}

typedef struct Waiter {
	Fixture *f;
	atomic_bool begun;
	bool waited;
} Waiter;

static void *wait_for_all(void *arg)
{
	Waiter *waiter = arg;

	atomic_store(&waiter->begun, true);
	waiter->waited = remover_wait(&waiter->f->remover);
	g_assert_cmpuint(remover_pending_bytes(&waiter->f->remover), ==, 0);
	return NULL;
}

/* One that comes while two are pending; it may be too slow for that. */
static bool wait_once(Fixture *f)
{
	Waiter waiter = { .f = f };
	pthread_t thread;

	bury(f, 1);
	bury(f, 1);
	g_assert_cmpint(thread_start(&thread, "waiter", wait_for_all, &waiter), ==, 0);
	TEST_WAIT_UNTIL(atomic_load(&waiter.begun));
	test_yield();
	let(f, 2);
	pthread_join(thread, NULL);
	return waiter.waited;
}

static void test_wait(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(remover_start(&f.remover), ==, 0);
	g_assert_false(remover_wait(&f.remover));
	TEST_WAIT_UNTIL(wait_once(&f));
	g_assert_false(remover_wait(&f.remover));
	fixture_deinit(&f);
}

static void test_not_running(void)
{
	Fixture f;

	fixture_init(&f);
	bury(&f, 5);
	g_assert_true(f.closed_by_owner);
	g_assert_cmpuint(remover_pending_bytes(&f.remover), ==, 0);
	g_assert_false(remover_wait(&f.remover));
	fixture_deinit(&f);
}

/* Stopping closes what is left; the test's own check would see a descriptor that stays. */
static void test_stop(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(remover_start(&f.remover), ==, 0);
	for (int i = 0; i < 3; i++)
		bury(&f, 1);
	let(&f, 3);
	remover_stop(&f.remover);
	g_assert_cmpuint(entered(&f), ==, 3);
	g_assert_cmpuint(remover_pending_bytes(&f.remover), ==, 0);
	bury(&f, 1);
	g_assert_true(f.closed_by_owner);
	fixture_deinit(&f);
}

/* Who removes faster than that can be done pays for it himself. */
static void test_too_many(void)
{
	Fixture f;
	unsigned n = 0;

	fixture_init(&f);
	g_assert_cmpint(remover_start(&f.remover), ==, 0);
	for (; !f.closed_by_owner && n < 5000; n++)
		bury(&f, 1);
	g_assert_true(f.closed_by_owner);
	let(&f, n);
	TEST_WAIT_UNTIL(!remover_is_busy(&f.remover));
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/remover/in-background", test_in_background);
	test_add("/remover/wait", test_wait);
	test_add("/remover/not-running", test_not_running);
	test_add("/remover/stop", test_stop);
	test_add("/remover/too-many", test_too_many);
	return g_test_run();
}
