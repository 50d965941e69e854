// SPDX-License-Identifier: Apache-2.0
/* What errors do, and to whom; space, and the bounds of the pool. */
#include <errno.h>

#include "tests/alloc/service-fixture.h"

static Segment *take_one(Fixture *f, size_t nth)
{
	AllocateRequest *request = submit(f, nth, "taken");
	Segment *segment;

	g_assert_true(latch_wait_until(&request->latch, monotonic_ns() + TEST_PATIENCE_NS));
	segment = allocate_request_steal_segment(request);
	g_assert_nonnull(segment);
	allocate_request_unref(request);
	return segment;
}

/* At every attempt the same: one attempt is enough. */
static void test_lasting_error(void)
{
	static const int ERRORS[] = { -EINVAL, -EROFS, -EACCES, -EFBIG, -ENOSPC, -EDQUOT };
	Fixture f;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	for (unsigned i = 0; i < G_N_ELEMENTS(ERRORS); i++) {
		fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), ERRORS[i],
				   FAKE_FOREVER);
		expect_end(&f, submit(&f, 0, "a/1"), ALLOCATE_FAILED, ERRORS[i]);
		g_assert_cmpuint(entered(&f, 0), ==, i + 1);
	}
	g_assert_cmpuint(counter(&f, 0, ALLOC_FAILED), ==, G_N_ELEMENTS(ERRORS));
	g_assert_cmpuint(counter(&f, 0, ALLOC_ERRORS), ==, G_N_ELEMENTS(ERRORS));
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "a/1"), ==,
			 G_N_ELEMENTS(ERRORS));
	fixture_deinit(&f);
}

static void test_passing_error_once(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, 1);
	expect_ready(&f, submit(&f, 0, "a/1"));
	g_assert_cmpuint(entered(&f, 0), ==, 2);
	g_assert_cmpuint(counter(&f, 0, ALLOC_FAILED), ==, 0);
	fixture_deinit(&f);
}

static void test_passing_error_stays(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -ENOMEM, FAKE_FOREVER);
	expect_end(&f, submit(&f, 0, "a/1"), ALLOCATE_FAILED, -ENOMEM);
	g_assert_cmpuint(entered(&f, 0), ==, 3);
	g_assert_cmpuint(counter(&f, 0, ALLOC_FAILED), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_ERRORS), ==, 3);
	fixture_deinit(&f);
}

/* Neither does the failure of one touch another, nor does the success of one excuse another. */
static void test_error_is_the_requests_own(void)
{
	Fixture f;
	AllocateRequest *bad, *good, *other;

	fixture_init(&f, "a size=2M ahead=0", "b size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	bad = submit(&f, 0, "a/1");
	good = submit(&f, 0, "a/2");
	other = submit(&f, 1, "b/1");
	wait_entered(&f, 0, 1);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EINVAL, 1);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_end(&f, bad, ALLOCATE_FAILED, -EINVAL);
	expect_ready(&f, good);
	expect_ready(&f, other);
	g_assert_cmpuint(counter(&f, 1, ALLOC_ERRORS), ==, 0);

	/* One that is ready is handed out, whatever happens to those after it. */
	allocate_service_give_back(f.service, take_one(&f, 1));
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EINVAL, FAKE_FOREVER);
	expect_end(&f, submit(&f, 0, "a/3"), ALLOCATE_FAILED, -EINVAL);
	g_assert_cmpint(allocate_service_status(f.service, 1).error, ==, 0);
	expect_ready(&f, submit(&f, 1, "b/2"));
	expect_ready(&f, submit(&f, 1, "b/3"));
	g_assert_cmpint(allocate_service_status(f.service, 0).error, ==, -EINVAL);
	fixture_deinit(&f);
}

/* Every way in which a create can end opens its latch, long before it would time out. */
static void test_every_end_opens_the_latch(void)
{
	Fixture f;
	AllocateRequest *requests[3];

	fixture_init(&f, "a size=1M ahead=0 timeout=3600s", NULL);
	fixture_start(&f, 1);
	expect_ready(&f, submit(&f, 0, "a/ready"));
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EINVAL, 1);
	expect_end(&f, submit(&f, 0, "a/lasting"), ALLOCATE_FAILED, -EINVAL);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, 3);
	expect_end(&f, submit(&f, 0, "a/passing"), ALLOCATE_FAILED, -EIO);
	/* Interrupted from within, though nobody has asked for it. */
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -ECANCELED, 1);
	expect_end(&f, submit(&f, 0, "a/cancelled"), ALLOCATE_FAILED, -ECANCELED);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	for (size_t i = 0; i < 3; i++)
		requests[i] = submit(&f, 0, i == 0 ? "a/interrupted" : "a/stopped");
	allocate_service_cancel(f.service, requests[0]);
	expect_end(&f, requests[0], ALLOCATE_CANCELLED, -EINTR);
	allocate_service_stop(f.service);
	expect_end(&f, requests[1], ALLOCATE_FAILED, -ESHUTDOWN);
	expect_end(&f, requests[2], ALLOCATE_FAILED, -ESHUTDOWN);
	fixture_deinit(&f);
}

#define MAX_ERRNO 133

static int say_neither(void *arg, const SegmentClass *class, const atomic_bool *cancel)
{
	(void)arg;
	(void)class;
	(void)cancel;
	return 1;
}

/* Whatever a provider answers, waited for or ahead, the next one is served by the same threads. */
static void test_threads_survive_any_error(void)
{
	Fixture f;
	unsigned n_threads;

	fixture_init(&f, "a size=1M ahead=0", "b size=1M ahead=1", NULL);
	fixture_start(&f, 1);
	settle(&f);
	n_threads = test_count_threads();
	for (int error = 1; error <= MAX_ERRNO; error++) {
		fake_provider_fail(f.provider, FAKE_PREPARE, NULL, -error, FAKE_FOREVER);
		if (error % 7 == 0)
			allocate_service_retire(f.service, take_one(&f, 1));
		expect_end(&f, submit(&f, 0, "a/1"), ALLOCATE_FAILED, -error);
		fake_provider_fail(f.provider, FAKE_PREPARE, NULL, 0, 0);
		expect_ready(&f, submit(&f, 0, "a/1"));
		wait_ready(&f, 1, 1);
	}
	/* Not even an answer that is none. */
	fake_provider_on_prepare(f.provider, say_neither, NULL);
	expect_end(&f, submit(&f, 0, "a/1"), ALLOCATE_FAILED, -EIO);
	fake_provider_on_prepare(f.provider, NULL, NULL);
	expect_ready(&f, submit(&f, 0, "a/1"));
	g_assert_cmpuint(test_count_threads(), ==, n_threads);
	fixture_deinit(&f);
}

/* A class that never succeeds does not keep another one from its segments. */
static void test_bad_class_harms_no_other(void)
{
	Fixture f;

	fixture_init(&f, "bad size=4M ahead=2", "good size=1M ahead=2", NULL);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, FAKE_FOREVER);
	fixture_start(&f, 1);
	wait_ready(&f, 1, 2);
	for (int i = 0; i < 20; i++) {
		expect_ready(&f, submit(&f, 1, "good/1"));
		wait_ready(&f, 1, 2);
	}
	g_assert_cmpuint(counter(&f, 1, ALLOC_ERRORS), ==, 0);
	fixture_deinit(&f);
}

static void test_delayed_is_cancelled(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, FAKE_FOREVER);
	/* A second attempt, should it come before the end, does not get far. */
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	request = submit(&f, 0, "a/1");
	TEST_WAIT_UNTIL(counter(&f, 0, ALLOC_ERRORS) == 1);
	allocate_service_cancel(f.service, request);
	expect_end(&f, request, ALLOCATE_CANCELLED, -EINTR);
	/* The path is free, and nobody is left who would try again. */
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), 0, 0);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, submit(&f, 0, "a/1"));
	g_assert_cmpuint(entered(&f, 0), ==, 2);
	g_assert_cmpuint(counter(&f, 0, ALLOC_JOINED), ==, 0);
	fixture_deinit(&f);
}

/* The pauses between attempts are longer than the class's patience. */
static void test_delayed_times_out(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=0 timeout=20", NULL);
	fixture_start(&f, 1);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, FAKE_FOREVER);
	do
		expect_end(&f, submit(&f, 0, "a/1"), ALLOCATE_TIMED_OUT, -EAGAIN);
	while (fake_provider_returned(f.provider, FAKE_PREPARE, nth_class(&f, 0)) == 0);
	fixture_deinit(&f);
}

/* A segment of somebody else's comes while the request waits for its second attempt. */
static void test_delayed_is_served(void)
{
	Fixture f;
	AllocateRequest *holder, *request;
	Segment *segment;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	holder = submit(&f, 0, "a/0");
	g_assert_true(latch_wait_until(&holder->latch, monotonic_ns() + TEST_PATIENCE_NS));
	segment = allocate_request_steal_segment(holder);
	allocate_request_unref(holder);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, FAKE_FOREVER);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	request = submit(&f, 0, "a/1");
	TEST_WAIT_UNTIL(counter(&f, 0, ALLOC_ERRORS) == 1);
	allocate_service_give_back(f.service, segment);
	expect_ready(&f, request);
	fixture_deinit(&f);
}

static void test_class_pauses_and_recovers(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=2", NULL);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, 2);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 2);
	settle(&f);
	/* Two that were queued at the beginning failed; it is told once. */
	g_assert_cmpuint(entered(&f, 0), ==, 4);
	g_assert_cmpuint(counter(&f, 0, ALLOC_ERRORS), ==, 2);
	g_assert_cmpuint(
		test_log_count(&f.log, LOG_LEVEL_WARNING, "cannot prepare a segment ahead"), ==, 1);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_NOTICE, "can be prepared again"), ==, 1);
	fixture_deinit(&f);
}

/* While the class pauses, a create gets its segment all the same. */
static void test_pause_holds_no_create_up(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=1", NULL);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EINVAL, 1);
	fixture_start(&f, 1);
	fake_provider_wait_returned(f.provider, FAKE_PREPARE, nth_class(&f, 0), 1);
	expect_ready(&f, submit(&f, 0, "a/1"));
	/* That it went well ends the pause. */
	wait_ready(&f, 0, 1);
	fixture_deinit(&f);
}

static void test_other_class_gives_way(void)
{
	Fixture f;

	fixture_init(&f, "large size=4M ahead=1", "small size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 1);
	fake_provider_limit_space(f.provider, 4 << 20);
	expect_ready(&f, submit(&f, 1, "small/1"));
	g_assert_cmpuint(counter(&f, 0, ALLOC_GAVE_WAY), ==, 1);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 0);
	g_assert_cmpuint(fake_provider_returned(f.provider, FAKE_DISCARD, nth_class(&f, 0)), ==, 1);
	g_assert_cmpuint(counter(&f, 1, ALLOC_ERRORS), ==, 0);
	fixture_deinit(&f);
}

static void test_nothing_gives_way(void)
{
	Fixture f;

	fixture_init(&f, "large size=4M ahead=1", "small size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 1);
	fake_provider_limit_space(f.provider, 0);
	expect_end(&f, submit(&f, 1, "small/1"), ALLOCATE_FAILED, -ENOSPC);
	g_assert_cmpuint(counter(&f, 0, ALLOC_GAVE_WAY), ==, 1);
	g_assert_cmpuint(counter(&f, 1, ALLOC_FAILED), ==, 1);
	fixture_deinit(&f);
}

/* What is only prepared ahead takes no space from others, and asks before it takes any. */
static void test_ahead_takes_no_space(void)
{
	Fixture f;

	fixture_init(&f, "a size=4M ahead=1", "b size=1M ahead=1", NULL);
	fixture_start(&f, 1);
	settle(&f);
	Segment *segment = allocate_service_take(f.service, nth_class(&f, 1));
	/* All that is there, and no room for one more. */
	fake_provider_limit_space(f.provider, (5 << 20) + (64 << 10));
	unsigned n = entered(&f, 1);
	allocate_service_retire(f.service, segment);
	TEST_WAIT_UNTIL(counter(&f, 1, ALLOC_ERRORS) > 0 || entered(&f, 1) > n);
	g_assert_cmpuint(counter(&f, 0, ALLOC_GAVE_WAY), ==, 0);
	fixture_deinit(&f);
}

static void test_check_space_before_ahead(void)
{
	Fixture f;

	fixture_init(&f, "a size=4M ahead=1", NULL);
	fake_provider_limit_space(f.provider, 4 << 10);
	fixture_start(&f, 1);
	TEST_WAIT_UNTIL(test_log_count(&f.log, LOG_LEVEL_WARNING, "ahead") > 0);
	g_assert_cmpuint(entered(&f, 0), ==, 0);
	/* Nobody looks at the reserve for a create that waits. */
	fake_provider_limit_space(f.provider, 8 << 20);
	expect_ready(&f, submit(&f, 0, "a/1"));
	fixture_deinit(&f);
}

static void test_give_way_order(void)
{
	Fixture f;

	fixture_init(&f, "small size=1M ahead=2", "large size=4M ahead=1", "middle size=2M ahead=1",
		     NULL);
	g_assert_false(allocate_service_give_way(f.service));
	fixture_start(&f, 1);
	wait_ready(&f, 0, 2);
	wait_ready(&f, 1, 1);
	wait_ready(&f, 2, 1);
	/* Nothing is made anew meanwhile. */
	for (size_t i = 0; i < 3; i++)
		fake_provider_hold(f.provider, nth_class(&f, i));
	g_assert_true(allocate_service_give_way(f.service));
	g_assert_cmpuint(allocate_service_ready(f.service, 1), ==, 0);
	g_assert_true(allocate_service_give_way(f.service));
	g_assert_cmpuint(allocate_service_ready(f.service, 2), ==, 0);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 2);
	g_assert_true(allocate_service_give_way(f.service));
	g_assert_true(allocate_service_give_way(f.service));
	g_assert_false(allocate_service_give_way(f.service));
	fixture_deinit(&f);
}

/* Somebody else fills the disk, and asks nobody. */
static void test_pool_shrinks_by_itself(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=3", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 3);
	fake_provider_limit_space(f.provider, 1 << 20);
	wait_ready(&f, 0, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_GAVE_WAY), ==, 2);
	/* As soon as there is space again, it is as before. */
	fake_provider_limit_space(f.provider, 8 << 20);
	wait_ready(&f, 0, 3);
	fixture_deinit(&f);
}

static void test_cold_makes_others_give_way(void)
{
	Fixture f;
	Segment *cold;

	fixture_init(&f, "large size=4M ahead=1", "small size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 1);
	fake_provider_limit_space(f.provider, 4 << 20);
	g_assert_cmpint(allocate_service_prepare_cold(f.service, nth_class(&f, 1), &cold), ==, 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_GAVE_WAY), ==, 1);
	allocate_service_give_back(f.service, cold);
	fixture_deinit(&f);
}

/* A request that nobody waits for any more costs nobody his segments. */
static void test_gone_waiter_needs_no_way(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "large size=4M ahead=1", "small size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	settle(&f);
	fake_provider_hold(f.provider, nth_class(&f, 1));
	request = submit(&f, 1, "small/1");
	wait_entered(&f, 1, 1);
	allocate_service_cancel(f.service, request);
	expect_end(&f, request, ALLOCATE_CANCELLED, -EINTR);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 1), -ENOSPC, 1);
	fake_provider_let_all(f.provider, nth_class(&f, 1));
	settle(&f);
	g_assert_cmpuint(counter(&f, 0, ALLOC_GAVE_WAY), ==, 0);
	fixture_deinit(&f);
}

static void test_quota(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=5 quota=2500K", NULL);
	fixture_start(&f, 1);
	settle(&f);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 2);
	g_assert_cmpuint(entered(&f, 0), ==, 2);
	expect_ready(&f, submit(&f, 0, "a/1"));
	settle(&f);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 2);
	fixture_deinit(&f);
}

/* Also what is being prepared for those who wait counts, and it goes to one after the other. */
static void test_quota_bounds_waiting(void)
{
	Fixture f;
	AllocateRequest *requests[3];

	fixture_init(&f, "a size=1M ahead=1 quota=1M", "b size=1K ahead=1", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 4);
	for (size_t i = 0; i < 3; i++) {
		g_autofree char *path = g_strdup_printf("a/%zu", i);

		requests[i] = submit(&f, 0, path);
	}
	wait_entered(&f, 0, 1);
	wait_ready(&f, 1, 1);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	for (size_t i = 0; i < 3; i++) {
		expect_ready(&f, requests[i]);
		/* Whoever has got one makes room for the next only when he is done with it. */
		g_assert_cmpuint(entered(&f, 0), <=, i + 2);
	}
	settle(&f);
	g_assert_cmpuint(allocate_service_ready(f.service, 0), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_OVER_QUOTA), ==, 0);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/allocate-service/lasting-error", test_lasting_error);
	test_add("/allocate-service/passing-error-once", test_passing_error_once);
	test_add("/allocate-service/passing-error-stays", test_passing_error_stays);
	test_add("/allocate-service/B3-an-error-belongs-to-its-request",
		 test_error_is_the_requests_own);
	test_add("/allocate-service/B1-every-end-opens-the-latch", test_every_end_opens_the_latch);
	test_add("/allocate-service/B2-the-threads-survive-any-error", test_threads_survive_any_error);
	test_add("/allocate-service/bad-class-harms-no-other", test_bad_class_harms_no_other);
	test_add("/allocate-service/delayed-is-cancelled", test_delayed_is_cancelled);
	test_add("/allocate-service/delayed-times-out", test_delayed_times_out);
	test_add("/allocate-service/delayed-is-served", test_delayed_is_served);
	test_add("/allocate-service/class-pauses-and-recovers", test_class_pauses_and_recovers);
	test_add("/allocate-service/pause-holds-no-create-up", test_pause_holds_no_create_up);
	test_add("/allocate-service/other-class-gives-way", test_other_class_gives_way);
	test_add("/allocate-service/nothing-gives-way", test_nothing_gives_way);
	test_add("/allocate-service/ahead-takes-no-space", test_ahead_takes_no_space);
	test_add("/allocate-service/check-space-before-ahead", test_check_space_before_ahead);
	test_add("/allocate-service/give-way-order", test_give_way_order);
	test_add("/allocate-service/pool-shrinks-by-itself", test_pool_shrinks_by_itself);
	test_add("/allocate-service/cold-makes-others-give-way", test_cold_makes_others_give_way);
	test_add("/allocate-service/gone-waiter-needs-no-way", test_gone_waiter_needs_no_way);
	test_add("/allocate-service/quota", test_quota);
	test_add("/allocate-service/quota-bounds-waiting", test_quota_bounds_waiting);
	return g_test_run();
}
