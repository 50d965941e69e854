// SPDX-License-Identifier: Apache-2.0
#include "alloc/latch.h"

#include <stdatomic.h>

#include "tests/lib/test-util.h"

static void test_wait_open(void)
{
	Latch latch;

	latch_init(&latch);
	g_assert_false(latch_is_open(&latch));
	latch_open(&latch);
	g_assert_true(latch_is_open(&latch));
	g_assert_true(latch_wait_until(&latch, DEADLINE_NEVER));
	/* An open latch is open, however late it is. */
	g_assert_true(latch_wait_until(&latch, 0));
	latch_deinit(&latch);
}

static void test_wait_timeout(void)
{
	Latch latch;

	latch_init(&latch);
	g_assert_false(latch_wait_until(&latch, 0));
	g_assert_false(latch_wait_until(&latch, monotonic_ns() + 2 * 1000 * 1000));
	g_assert_false(latch_is_open(&latch));
	latch_deinit(&latch);
}

typedef struct Waiters {
	Latch latch;
	atomic_uint n;
} Waiters;

static void *wait_for_it(void *arg)
{
	Waiters *waiters = arg;

	atomic_fetch_add(&waiters->n, 1);
	g_assert_true(latch_wait_until(&waiters->latch, monotonic_ns() + TEST_PATIENCE_NS));
	return NULL;
}

static void *open_it(void *arg)
{
	latch_open(arg);
	return NULL;
}

/* Most of them, if not always all, wait already when it opens. */
static void test_wakes_all(void)
{
	for (int round = 0; round < 20; round++) {
		Waiters waiters = { .n = 0 };
		pthread_t threads[8];

		latch_init(&waiters.latch);
		for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
			g_assert_cmpint(thread_start(&threads[i], "waiter", wait_for_it, &waiters),
					==, 0);
		TEST_WAIT_UNTIL(atomic_load(&waiters.n) == G_N_ELEMENTS(threads));
		latch_open(&waiters.latch);
		for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
			pthread_join(threads[i], NULL);
		latch_deinit(&waiters.latch);
	}
}

typedef struct Called {
	Latch *latch;
	atomic_uint n;
	bool was_open;
} Called;

/* With no lock of the latch held: asking it must not hang. */
static void note_call(void *arg)
{
	Called *called = arg;

	called->was_open = latch_is_open(called->latch);
	latch_open(called->latch);
	atomic_fetch_add(&called->n, 1);
}

static void test_func(void)
{
	Latch latch;
	Called called = { .latch = &latch };

	latch_init(&latch);
	g_assert_true(latch_on_open(&latch, note_call, &called));
	g_assert_cmpuint(called.n, ==, 0);
	latch_open(&latch);
	g_assert_cmpuint(called.n, ==, 1);
	g_assert_true(called.was_open);
	latch_open(&latch);
	g_assert_cmpuint(called.n, ==, 1);
	latch_deinit(&latch);
}

static void test_func_too_late(void)
{
	Latch latch;
	Called called = { .latch = &latch };

	latch_init(&latch);
	latch_open(&latch);
	g_assert_false(latch_on_open(&latch, note_call, &called));
	latch_open(&latch);
	g_assert_cmpuint(called.n, ==, 0);
	latch_deinit(&latch);
}

/* Opened by several, with a function that comes at the same time: it runs once, or is refused. */
static void test_race(void)
{
	for (int round = 0; round < 500; round++) {
		Latch latch;
		Called called = { .latch = &latch };
		pthread_t threads[3];
		bool left;

		latch_init(&latch);
		for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
			g_assert_cmpint(thread_start(&threads[i], "opener", open_it, &latch), ==,
					0);
		left = latch_on_open(&latch, note_call, &called);
		for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
			pthread_join(threads[i], NULL);
		g_assert_cmpuint(called.n, ==, left ? 1 : 0);
		latch_deinit(&latch);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/latch/wait-open", test_wait_open);
	test_add("/latch/wait-timeout", test_wait_timeout);
	test_add("/latch/wakes-all", test_wakes_all);
	test_add("/latch/func", test_func);
	test_add("/latch/func-too-late", test_func_too_late);
	test_add("/latch/race", test_race);
	return g_test_run();
}
