// SPDX-License-Identifier: Apache-2.0
/* What gets done, in which order, and who gets it. */
#include <errno.h>
#include <string.h>

#include "tests/alloc/service-fixture.h"

static void test_hit(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=2", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 2);
	fake_provider_hold(f.provider, nth_class(&f, 0));

	request = submit(&f, 0, "a/1");
	g_assert_true(latch_is_open(&request->latch));
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 1);
	expect_ready(&f, request);
	g_assert_cmpuint(counter(&f, 0, ALLOC_HITS), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_WAITS), ==, 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_TAKEN), ==, 1);

	fake_provider_let_all(f.provider, nth_class(&f, 0));
	wait_ready(&f, 0, 2);
	g_assert_cmpuint(counter(&f, 0, ALLOC_PREPARED), ==, 3);
	fixture_deinit(&f);
}

static void test_take(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f, "a size=1M ahead=1", "b size=2M ahead=0", NULL);
	g_assert_null(allocate_service_take(f.service, nth_class(&f, 0)));
	fixture_start(&f, 1);
	wait_ready(&f, 0, 1);
	segment = allocate_service_take(f.service, nth_class(&f, 0));
	g_assert_nonnull(segment);
	g_assert_true(segment->class == nth_class(&f, 0));
	g_assert_null(allocate_service_take(f.service, nth_class(&f, 1)));
	allocate_service_retire(f.service, segment);
	g_assert_cmpuint(counter(&f, 0, ALLOC_HITS), ==, 1);
	g_assert_cmpuint(counter(&f, 1, ALLOC_HITS), ==, 0);
	fixture_deinit(&f);
}

/* The oldest first: what is warm longest is also what the page cache would drop first. */
static void test_pool_order(void)
{
	Fixture f;
	Segment *segments[2];

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	for (size_t i = 0; i < 2; i++) {
		AllocateRequest *request = submit(&f, 0, "a/1");

		g_assert_true(latch_wait_until(&request->latch, monotonic_ns() + TEST_PATIENCE_NS));
		segments[i] = allocate_request_steal_segment(request);
		allocate_request_unref(request);
	}
	allocate_service_give_back(f.service, segments[1]);
	allocate_service_give_back(f.service, segments[0]);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 2);
	g_assert_true(allocate_service_take(f.service, nth_class(&f, 0)) == segments[1]);
	g_assert_true(allocate_service_take(f.service, nth_class(&f, 0)) == segments[0]);
	allocate_service_retire(f.service, segments[0]);
	allocate_service_retire(f.service, segments[1]);
	fixture_deinit(&f);
}

static void test_wait(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	request = submit(&f, 0, "a/1");
	wait_entered(&f, 0, 1);
	g_assert_false(latch_is_open(&request->latch));
	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	expect_ready(&f, request);
	g_assert_cmpuint(counter(&f, 0, ALLOC_HITS), ==, 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_WAITS), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_PREPARED), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_TAKEN), ==, 1);
	fixture_deinit(&f);
}

static void test_submit_before_start(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	request = submit(&f, 0, "a/1");
	g_assert_false(latch_is_open(&request->latch));
	fixture_start(&f, 1);
	expect_ready(&f, request);
	fixture_deinit(&f);
}

static void test_refill(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f, "a size=1M ahead=3", "b size=2M ahead=1", NULL);
	fixture_start(&f, 1);
	settle(&f);
	g_assert_cmpuint(entered(&f, 0), ==, 3);
	g_assert_cmpuint(entered(&f, 1), ==, 1);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 3);

	for (unsigned i = 0; i < 2; i++) {
		segment = allocate_service_take(f.service, nth_class(&f, 0));
		g_assert_nonnull(segment);
		allocate_service_retire(f.service, segment);
	}
	settle(&f);
	g_assert_cmpuint(entered(&f, 0), ==, 5);
	g_assert_cmpuint(entered(&f, 1), ==, 1);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 3);
	fixture_deinit(&f);
}

static void test_several_threads_fill(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=4", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 3);
	/* All at once: with fewer threads this would hang. */
	wait_entered(&f, 0, 3);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	wait_ready(&f, 0, 4);
	fixture_deinit(&f);
}

/* Also before one that is under way already, however long that takes. */
static void test_urgent_before_ahead(void)
{
	Fixture f;

	fixture_init(&f, "ahead size=8M ahead=2", "urgent size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	wait_entered(&f, 0, 1);
	expect_ready(&f, submit(&f, 1, "urgent/1"));
	g_assert_cmpuint(fake_provider_returned(f.provider, FAKE_PREPARE, nth_class(&f, 0)), ==, 0);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	wait_ready(&f, 0, 2);
	g_assert_true(fake_provider_nth_entered(f.provider, 0) == nth_class(&f, 0));
	g_assert_true(fake_provider_nth_entered(f.provider, 1) == nth_class(&f, 1));
	g_assert_true(fake_provider_nth_entered(f.provider, 2) == nth_class(&f, 0));
	fixture_deinit(&f);
}

static void test_larger_first(void)
{
	Fixture f;
	AllocateRequest *blocker, *small, *large;

	fixture_init(&f, "blocker size=1M ahead=0", "small size=2M ahead=0",
		     "large size=3M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	blocker = submit(&f, 0, "blocker/1");
	wait_entered(&f, 0, 1);
	small = submit(&f, 1, "small/1");
	large = submit(&f, 2, "large/2");
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, blocker);
	expect_ready(&f, small);
	expect_ready(&f, large);
	g_assert_true(fake_provider_nth_entered(f.provider, 1) == nth_class(&f, 2));
	g_assert_true(fake_provider_nth_entered(f.provider, 2) == nth_class(&f, 1));
	fixture_deinit(&f);
}

static void test_smaller_number_first(void)
{
	static const char *const PATHS[] = { "a/30.log", "a/4.log", "a/100.log" };
	static const size_t ORDER[] = { 1, 0, 2 };
	Fixture f;
	AllocateRequest *blocker, *requests[3];

	fixture_init(&f, "a size=1M ahead=0", "blocker size=2M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fake_provider_hold(f.provider, nth_class(&f, 1));
	fixture_start(&f, 1);
	blocker = submit(&f, 1, "blocker/1");
	wait_entered(&f, 1, 1);
	for (size_t i = 0; i < 3; i++)
		requests[i] = submit(&f, 0, PATHS[i]);
	fake_provider_let_all(f.provider, nth_class(&f, 1));
	expect_ready(&f, blocker);
	for (size_t i = 0; i < 3; i++) {
		wait_entered(&f, 0, i + 1);
		for (size_t j = i; j < 3; j++)
			g_assert_false(latch_is_open(&requests[ORDER[j]]->latch));
		fake_provider_let(f.provider, nth_class(&f, 0), 1);
		expect_ready(&f, requests[ORDER[i]]);
	}
	fixture_deinit(&f);
}

static void test_ahead_under_way_goes_to_waiter(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=1", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	wait_entered(&f, 0, 1);
	request = submit(&f, 0, "a/1");
	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	expect_ready(&f, request);
	g_assert_cmpuint(prepared(&f, 0), ==, 1);

	/* Its own place in the queue is given up: what comes next is the pool's. */
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	settle(&f);
	g_assert_cmpuint(prepared(&f, 0), ==, 2);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_EXPIRED), ==, 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_WAITS), ==, 1);
	fixture_deinit(&f);
}

/* What is still being made for a waiter that is gone is the pool's, and the pool's books stay
 * right. */
static void test_abandoned_counts_for_pool(void)
{
	Fixture f;
	AllocateRequest *request;
	Segment *segment;

	fixture_init(&f, "a size=1M ahead=1", NULL);
	fixture_start(&f, 1);
	settle(&f);
	for (unsigned round = 0; round < 3; round++) {
		unsigned n = entered(&f, 0);

		segment = allocate_service_take(f.service, nth_class(&f, 0));
		fake_provider_hold(f.provider, nth_class(&f, 0));
		request = submit(&f, 0, "a/1");
		wait_entered(&f, 0, n + 1);
		allocate_service_cancel(f.service, request);
		expect_end(&f, request, ALLOCATE_CANCELLED, -EINTR);
		allocate_service_retire(f.service, segment);
		fake_provider_let_all(f.provider, nth_class(&f, 0));
		settle(&f);
		/* Another one may have been on its way already when the waiter left. */
		g_assert_cmpuint(entered(&f, 0), <=, n + 2);
		while (allocate_service_ready(f.service, 0) > 1)
			allocate_service_retire(f.service,
						allocate_service_take(f.service, nth_class(&f, 0)));
		settle(&f);
		g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 1);
	}
	fixture_deinit(&f);
}

static void test_many_waiters_no_thread(void)
{
	enum { N = 1000 };
	Fixture f;
	AllocateRequest *requests[N];
	unsigned n_threads;

	fixture_init(&f, "a size=1M ahead=2", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 2);
	wait_entered(&f, 0, 2);
	n_threads = test_count_threads();
	for (size_t i = 0; i < N; i++) {
		g_autofree char *path = g_strdup_printf("a/%zu", i);

		requests[i] = submit(&f, 0, path);
	}
	/* Fewer, if one of an earlier test is only now gone. */
	g_assert_cmpuint(test_count_threads(), <=, n_threads);
	g_assert_cmpuint(counter(&f, 0, ALLOC_WAITS), ==, N);
	for (size_t i = 0; i < N; i += 2) {
		allocate_service_cancel(f.service, requests[i]);
		expect_end(&f, requests[i], ALLOCATE_CANCELLED, -EINTR);
	}
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	for (size_t i = 1; i < N; i += 2)
		expect_ready(&f, requests[i]);
	TEST_WAIT_UNTIL(allocate_service_ready(f.service, 0) >= 2);
	g_assert_cmpuint(counter(&f, 0, ALLOC_TAKEN), ==, N / 2);
	g_assert_cmpuint(counter(&f, 0, ALLOC_CANCELLED), ==, N / 2);
	fixture_deinit(&f);
}

static void test_give_back_to_pool(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f, "a size=1M ahead=1", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 1);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	segment = allocate_service_take(f.service, nth_class(&f, 0));
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 0);
	allocate_service_give_back(f.service, segment);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 1);
	g_assert_true(allocate_service_take(f.service, nth_class(&f, 0)) == segment);
	allocate_service_give_back(f.service, segment);
	g_assert_cmpuint(counter(&f, 0, ALLOC_TAKEN), ==, 0);
	fixture_deinit(&f);
}

static void test_give_back_to_waiter(void)
{
	Fixture f;
	Segment *segment;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=1", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 1);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	segment = allocate_service_take(f.service, nth_class(&f, 0));
	request = submit(&f, 0, "a/1");
	wait_entered(&f, 0, 2);
	g_assert_false(latch_is_open(&request->latch));
	allocate_service_give_back(f.service, segment);
	expect_ready(&f, request);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	TEST_WAIT_UNTIL(allocate_service_ready(f.service, 0) >= 1);
	fixture_deinit(&f);
}

static void test_cold(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	g_assert_cmpint(allocate_service_prepare_cold(f.service, nth_class(&f, 0), &segment), ==,
			0);
	g_assert_true(segment->cold);
	allocate_service_give_back(f.service, segment);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 0);
	g_assert_cmpuint(fake_provider_returned(f.provider, FAKE_DISCARD, NULL), ==, 1);

	/* Again and again, so that some find the thread asleep. */
	for (unsigned i = 1; i <= 50; i++) {
		g_assert_cmpint(
			allocate_service_prepare_cold(f.service, nth_class(&f, 0), &segment), ==,
			0);
		allocate_service_retire(f.service, segment);
		fake_provider_wait_returned(f.provider, FAKE_RELEASE, NULL, i);
	}
	g_assert_cmpuint(counter(&f, 0, ALLOC_TAKEN), ==, 0);

	fake_provider_fail(f.provider, FAKE_PREPARE_COLD, NULL, -EIO, 1);
	g_assert_cmpint(allocate_service_prepare_cold(f.service, nth_class(&f, 0), &segment), ==,
			-EIO);
	fixture_deinit(&f);
}

/* What was taken is unmapped before the next is prepared, but nobody waits for that. */
static void test_retire_order(void)
{
	Fixture f;
	Segment *cold;
	AllocateRequest *request;

	fixture_init(&f, "a size=2M ahead=2", "b size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fake_provider_hold(f.provider, nth_class(&f, 1));
	fixture_start(&f, 1);
	wait_entered(&f, 0, 1);
	g_assert_cmpint(allocate_service_prepare_cold(f.service, nth_class(&f, 0), &cold), ==, 0);
	allocate_service_retire(f.service, cold);
	request = submit(&f, 1, "b/1");
	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	wait_entered(&f, 1, 1);
	g_assert_cmpuint(fake_provider_entered(f.provider, FAKE_RELEASE, NULL), ==, 0);
	fake_provider_let(f.provider, nth_class(&f, 1), 1);
	wait_entered(&f, 0, 2);
	g_assert_cmpuint(fake_provider_entered(f.provider, FAKE_RELEASE, NULL), ==, 1);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, request);
	fixture_deinit(&f);
}

/* However long creates keep waiting: what was taken meanwhile does not pile up, mapped, without
 * bound. */
static void test_retire_is_not_starved(void)
{
	enum { N = 500, BOUND = 200 };
	Fixture f;
	AllocateRequest *request, *next;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	request = submit(&f, 0, "a/0");
	for (unsigned i = 1; i <= N; i++) {
		g_autofree char *path = g_strdup_printf("a/%u", i);

		wait_entered(&f, 0, i);
		/* There is always one in the queue when the thread looks. */
		next = submit(&f, 0, path);
		fake_provider_let(f.provider, nth_class(&f, 0), 1);
		expect_ready(&f, request);
		request = next;
	}
	wait_entered(&f, 0, N + 1);
	g_assert_cmpuint(fake_provider_alive(f.provider), <=, BOUND);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, request);
	fixture_deinit(&f);
}

static void test_publish_is_the_providers(void)
{
	static const SegmentTarget target = { .dir_fd = -1, .name = "name" };
	Fixture f;
	Segment *segment;

	fixture_init(&f, "a size=1M ahead=1", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 1);
	segment = allocate_service_take(f.service, nth_class(&f, 0));
	fake_provider_fail(f.provider, FAKE_PUBLISH, NULL, -EEXIST, 1);
	g_assert_cmpint(allocate_service_publish(f.service, segment, &target), ==, -EEXIST);
	g_assert_cmpint(allocate_service_publish(f.service, segment, &target), ==, 0);
	allocate_service_retire(f.service, segment);
	fixture_deinit(&f);
}

static void test_describe(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=2", "b size=2M ahead=0", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 2);
	fake_provider_hold(f.provider, nth_class(&f, 1));
	request = submit(&f, 1, "b/1");
	g_autofree char *a = allocate_service_describe(f.service, 0);
	g_autofree char *b = allocate_service_describe(f.service, 1);
	g_assert_true(g_str_has_prefix(a, "class a: taken=0 hits=0 "));
	g_assert_nonnull(strstr(a, " prepared=2 "));
	g_assert_nonnull(strstr(a, " ready=2 ahead=2 lacking=0 preparing=0 waiting=0 queued=0 "));
	g_assert_true(g_str_has_suffix(a, " error=0 state=ok"));
	g_assert_true(g_str_has_prefix(b, "class b: "));
	g_assert_nonnull(strstr(b, " ready=0 ahead=0 lacking=0 "));
	g_assert_nonnull(strstr(b, " waiting=1 "));
	for (AllocCounter which = 0; which < _ALLOC_COUNTER_MAX; which++) {
		g_autofree char *word = g_strdup_printf(" %s=", alloc_counter_name(which));

		g_assert_nonnull(strstr(a, word));
	}
	fake_provider_let_all(f.provider, nth_class(&f, 1));
	expect_ready(&f, request);
	fixture_deinit(&f);
}

/* Also while its workers are busy, or there are none. */
static void test_answers(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=1", NULL);
	g_assert_true(allocate_service_answers(f.service, monotonic_ns()));
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	wait_entered(&f, 0, 1);
	for (int i = 0; i < 3; i++)
		g_assert_true(allocate_service_answers(f.service, monotonic_ns() + TEST_PATIENCE_NS));
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	wait_ready(&f, 0, 1);
	g_assert_true(allocate_service_answers(f.service, monotonic_ns() + TEST_PATIENCE_NS));
	allocate_service_stop(f.service);
	g_assert_true(allocate_service_answers(f.service, monotonic_ns()));
	fixture_deinit(&f);
}

typedef struct Gate {
	Latch entered;
	Latch let;
} Gate;

static void block_at(void *arg)
{
	Gate *gate = arg;

	latch_open(&gate->entered);
	latch_wait_until(&gate->let, DEADLINE_NEVER);
}

/* What hangs here is the thread that opens the latches of those who have gone. */
static void test_does_not_answer(void)
{
	AllocateRequest *request;
	Gate gate;
	Fixture f;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	latch_init(&gate.entered);
	latch_init(&gate.let);
	fixture_start(&f, 1);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	request = submit(&f, 0, "a/1");
	g_assert_true(latch_on_open(&request->latch, block_at, &gate));
	allocate_service_cancel(f.service, request);
	g_assert_true(latch_wait_until(&gate.entered, monotonic_ns() + TEST_PATIENCE_NS));
	g_assert_false(allocate_service_answers(f.service, monotonic_ns()));
	latch_open(&gate.let);
	g_assert_true(allocate_service_answers(f.service, monotonic_ns() + TEST_PATIENCE_NS));
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	allocate_request_unref(request);
	fixture_deinit(&f);
	latch_deinit(&gate.entered);
	latch_deinit(&gate.let);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/allocate-service/hit", test_hit);
	test_add("/allocate-service/take", test_take);
	test_add("/allocate-service/pool-order", test_pool_order);
	test_add("/allocate-service/wait", test_wait);
	test_add("/allocate-service/submit-before-start", test_submit_before_start);
	test_add("/allocate-service/refill", test_refill);
	test_add("/allocate-service/several-threads-fill", test_several_threads_fill);
	test_add("/allocate-service/B18-a-waiting-create-before-a-larger-one-ahead",
		 test_urgent_before_ahead);
	test_add("/allocate-service/larger-first", test_larger_first);
	test_add("/allocate-service/smaller-number-first", test_smaller_number_first);
	test_add("/allocate-service/ahead-under-way-goes-to-waiter",
		 test_ahead_under_way_goes_to_waiter);
	test_add("/allocate-service/abandoned-counts-for-pool", test_abandoned_counts_for_pool);
	test_add("/allocate-service/many-waiters-no-thread", test_many_waiters_no_thread);
	test_add("/allocate-service/give-back-to-pool", test_give_back_to_pool);
	test_add("/allocate-service/give-back-to-waiter", test_give_back_to_waiter);
	test_add("/allocate-service/cold", test_cold);
	test_add("/allocate-service/retire-order", test_retire_order);
	test_add("/allocate-service/retire-is-not-starved", test_retire_is_not_starved);
	test_add("/allocate-service/publish-is-the-providers", test_publish_is_the_providers);
	test_add("/allocate-service/describe", test_describe);
	test_add("/allocate-service/answers", test_answers);
	test_add("/allocate-service/does-not-answer", test_does_not_answer);
	return g_test_run();
}
