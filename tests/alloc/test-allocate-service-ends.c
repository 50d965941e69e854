// SPDX-License-Identifier: Apache-2.0
/* How requests end without a segment: timed out, cancelled, joined, shut down; and how latches
 * open. */
#include <errno.h>

#include "tests/alloc/service-fixture.h"

static void test_timeout(void)
{
	Fixture f;
	unsigned n = 0;

	fixture_init(&f, "a size=1M ahead=0 timeout=5", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	/* Until one has come as far as the provider in its 5 ms. */
	do {
		expect_end(&f, submit(&f, 0, "a/1"), ALLOCATE_TIMED_OUT, -EAGAIN);
		n++;
	} while (entered(&f, 0) == 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_TIMEOUTS), ==, n);
	g_assert_cmpuint(counter(&f, 0, ALLOC_WAITS), ==, n);

	/* The segment comes late, and is the next one's. */
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	wait_ready(&f, 0, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_EXPIRED), ==, 1);
	expect_ready(&f, submit(&f, 0, "a/2"));
	g_assert_cmpuint(counter(&f, 0, ALLOC_HITS), ==, 1);
	g_assert_cmpuint(prepared(&f, 0), ==, 1);
	fixture_deinit(&f);
}

/* However slow the disk: the create gets a file in time, the work is not thrown away, and the next create has it. */
static void test_slow_preparation_fails_no_create(void)
{
	static const SegmentTarget target = { .dir_fd = -1, .name = "name" };
	Fixture f;
	AllocateRequest *request;
	Segment *cold = NULL;

	fixture_init(&f, "a size=1G ahead=0 timeout=20", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	request = submit(&f, 0, "a/1");
	wait_entered(&f, 0, 1);
	expect_end(&f, request, ALLOCATE_TIMED_OUT, -EAGAIN);
	g_assert_cmpint(allocate_service_prepare_cold(f.service, nth_class(&f, 0), &cold), ==, 0);
	g_assert_cmpint(allocate_service_publish(f.service, cold, &target), ==, 0);
	allocate_service_retire(f.service, cold);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	wait_ready(&f, 0, 1);
	expect_ready(&f, submit(&f, 0, "a/2"));
	g_assert_cmpuint(entered(&f, 0), ==, 1);
	fixture_deinit(&f);
}

/* Segments belong to a class, not to the path that they were made for: none lies there for ever. */
static void test_unclaimed_serves_another_path(void)
{
	enum { N = 5 };
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	/* One may still be at the release of the last segment: then the only one would not go on for nobody. */
	fixture_start(&f, 2);
	for (unsigned i = 0; i < N; i++) {
		g_autofree char *gone = g_strdup_printf("a/here/%u", i);
		g_autofree char *instead = g_strdup_printf("a/there/%u", i);
		unsigned n = entered(&f, 0);

		TEST_WAIT_UNTIL(fake_provider_alive(f.provider) == 0);
		fake_provider_hold(f.provider, nth_class(&f, 0));
		request = submit(&f, 0, gone);
		wait_entered(&f, 0, n + 1);
		allocate_service_cancel(f.service, request);
		expect_end(&f, request, ALLOCATE_CANCELLED, -EINTR);
		fake_provider_let_all(f.provider, nth_class(&f, 0));
		wait_ready(&f, 0, 1);
		expect_ready(&f, submit(&f, 0, instead));
	}
	g_assert_cmpuint(counter(&f, 0, ALLOC_EXPIRED), ==, N);
	g_assert_cmpuint(prepared(&f, 0), ==, N);
	TEST_WAIT_UNTIL(fake_provider_alive(f.provider) == 0);
	fixture_deinit(&f);
}

static void test_timeout_in_queue(void)
{
	Fixture f;
	AllocateRequest *first, *second;

	fixture_init(&f, "a size=2M ahead=0", "b size=1M ahead=0 timeout=5", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	first = submit(&f, 0, "a/1");
	wait_entered(&f, 0, 1);
	second = submit(&f, 1, "b/1");
	expect_end(&f, second, ALLOCATE_TIMED_OUT, -EAGAIN);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, first);
	settle(&f);
	g_assert_cmpuint(entered(&f, 1), ==, 0);
	fixture_deinit(&f);
}

static void test_cancel_queued(void)
{
	Fixture f;
	AllocateRequest *first, *second;

	fixture_init(&f, "a size=2M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	first = submit(&f, 0, "a/1");
	wait_entered(&f, 0, 1);
	second = submit(&f, 0, "a/2");
	allocate_service_cancel(f.service, second);
	expect_end(&f, second, ALLOCATE_CANCELLED, -EINTR);
	g_assert_cmpuint(counter(&f, 0, ALLOC_CANCELLED), ==, 1);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, first);
	settle(&f);
	g_assert_cmpuint(entered(&f, 0), ==, 1);
	fixture_deinit(&f);
}

static void test_cancel_preparing(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	request = submit(&f, 0, "a/1");
	wait_entered(&f, 0, 1);
	allocate_service_cancel(f.service, request);
	expect_end(&f, request, ALLOCATE_CANCELLED, -EINTR);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	wait_ready(&f, 0, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_EXPIRED), ==, 1);
	fixture_deinit(&f);
}

/* The segment of one who went away goes to one who waits, before the pool. */
static void test_cancel_preparing_serves_other(void)
{
	Fixture f;
	AllocateRequest *gone, *other;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	gone = submit(&f, 0, "a/1");
	wait_entered(&f, 0, 1);
	other = submit(&f, 0, "a/2");
	allocate_service_cancel(f.service, gone);
	expect_end(&f, gone, ALLOCATE_CANCELLED, -EINTR);
	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	expect_ready(&f, other);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	settle(&f);
	g_assert_cmpuint(entered(&f, 0), ==, 1);
	fixture_deinit(&f);
}

static void test_cancel_ended(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=1", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 0, 1);
	request = submit(&f, 0, "a/1");
	allocate_service_cancel(f.service, request);
	expect_ready(&f, request);
	g_assert_cmpuint(counter(&f, 0, ALLOC_CANCELLED), ==, 0);
	fixture_deinit(&f);
}

typedef struct Opened {
	Mutex lock;
	Cond changed;
	bool open;
	pthread_t by;
} Opened;

static void note_opened(void *arg)
{
	Opened *opened = arg;

	MUTEX_SCOPE(&opened->lock);
	opened->open = true;
	opened->by = pthread_self();
	cond_broadcast(&opened->changed);
}

/* The caller of cancel may hold a lock that the latch's function takes. */
static void test_cancel_opens_elsewhere(void)
{
	Fixture f;
	Opened opened = { .open = false };
	AllocateRequest *request;

	mutex_init(&opened.lock);
	cond_init(&opened.changed);
	fixture_init(&f, "a size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	request = submit(&f, 0, "a/1");
	g_assert_true(latch_on_open(&request->latch, note_opened, &opened));
	mutex_lock(&opened.lock);
	allocate_service_cancel(f.service, request);
	while (!opened.open)
		g_assert_true(cond_wait_until(&opened.changed, &opened.lock,
					      monotonic_ns() + TEST_PATIENCE_NS));
	g_assert_false(pthread_equal(opened.by, pthread_self()));
	mutex_unlock(&opened.lock);
	expect_end(&f, request, ALLOCATE_CANCELLED, -EINTR);
	fixture_deinit(&f);
	cond_deinit(&opened.changed);
	mutex_deinit(&opened.lock);
}

/* A leader that is being prepared, and n that joined it. */
static void join(Fixture *f, AllocateRequest *requests[], size_t n)
{
	requests[0] = submit(f, 0, "a/same");
	wait_entered(f, 0, 1);
	for (size_t i = 1; i < n; i++)
		requests[i] = submit(f, 0, "a/same");
	g_assert_cmpuint(counter(f, 0, ALLOC_JOINED), ==, n - 1);
}

static void test_join_leader_ready(void)
{
	Fixture f;
	AllocateRequest *requests[3];

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	join(&f, requests, 3);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, requests[0]);
	expect_end(&f, requests[1], ALLOCATE_FAILED, -EEXIST);
	expect_end(&f, requests[2], ALLOCATE_FAILED, -EEXIST);
	settle(&f);
	g_assert_cmpuint(entered(&f, 0), ==, 1);
	/* The path is free again. */
	expect_ready(&f, submit(&f, 0, "a/same"));
	g_assert_cmpuint(counter(&f, 0, ALLOC_JOINED), ==, 2);
	fixture_deinit(&f);
}

static void test_join_leader_failed(void)
{
	Fixture f;
	AllocateRequest *requests[3];

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	join(&f, requests, 3);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EINVAL, 1);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	for (size_t i = 0; i < 3; i++)
		expect_end(&f, requests[i], ALLOCATE_FAILED, -EINVAL);
	expect_ready(&f, submit(&f, 0, "a/same"));
	fixture_deinit(&f);
}

/* The first of those that joined takes the place, and the segment that is under way. */
static void test_join_leader_cancelled(void)
{
	Fixture f;
	AllocateRequest *requests[4];

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	join(&f, requests, 4);
	allocate_service_cancel(f.service, requests[0]);
	expect_end(&f, requests[0], ALLOCATE_CANCELLED, -EINTR);
	for (size_t i = 1; i < 4; i++)
		g_assert_false(latch_is_open(&requests[i]->latch));
	/* Later ones join the new leader. */
	AllocateRequest *late = submit(&f, 0, "a/same");
	g_assert_cmpuint(counter(&f, 0, ALLOC_JOINED), ==, 4);

	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	expect_ready(&f, requests[1]);
	expect_end(&f, requests[2], ALLOCATE_FAILED, -EEXIST);
	expect_end(&f, requests[3], ALLOCATE_FAILED, -EEXIST);
	expect_end(&f, late, ALLOCATE_FAILED, -EEXIST);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	settle(&f);
	g_assert_cmpuint(entered(&f, 0), ==, 1);
	fixture_deinit(&f);
}

/* The thread sleeps while the leader waits for its second attempt: the heir has to wake it. */
static void test_join_delayed_leader_cancelled(void)
{
	Fixture f;
	AllocateRequest *leader, *follower;

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fixture_start(&f, 1);
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, 1);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	leader = submit(&f, 0, "a/same");
	follower = submit(&f, 0, "a/same");
	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	TEST_WAIT_UNTIL(counter(&f, 0, ALLOC_ERRORS) == 1);
	allocate_service_cancel(f.service, leader);
	expect_end(&f, leader, ALLOCATE_CANCELLED, -EINTR);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, follower);
	fixture_deinit(&f);
}

static void test_join_follower_cancelled(void)
{
	Fixture f;
	AllocateRequest *requests[3];

	fixture_init(&f, "a size=1M ahead=0", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	join(&f, requests, 3);
	allocate_service_cancel(f.service, requests[1]);
	expect_end(&f, requests[1], ALLOCATE_CANCELLED, -EINTR);
	fake_provider_let_all(f.provider, nth_class(&f, 0));
	expect_ready(&f, requests[0]);
	expect_end(&f, requests[2], ALLOCATE_FAILED, -EEXIST);
	fixture_deinit(&f);
}

static void test_join_all_time_out(void)
{
	Fixture f;
	AllocateRequest *requests[3];

	fixture_init(&f, "a size=1M ahead=0 timeout=5", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 1);
	for (size_t i = 0; i < 3; i++)
		requests[i] = submit(&f, 0, "a/same");
	for (size_t i = 0; i < 3; i++)
		expect_end(&f, requests[i], ALLOCATE_TIMED_OUT, -EAGAIN);
	g_assert_cmpuint(counter(&f, 0, ALLOC_TIMEOUTS), ==, 3);
	fixture_deinit(&f);
}

static void test_stop_ends_every_state(void)
{
	Fixture f;
	AllocateRequest *delayed, *preparing, *joined, *queued;

	fixture_init(&f, "a size=1M ahead=0", "b size=2M ahead=2", NULL);
	fixture_start(&f, 1);
	wait_ready(&f, 1, 2);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fake_provider_fail(f.provider, FAKE_PREPARE, nth_class(&f, 0), -EIO, FAKE_FOREVER);
	delayed = submit(&f, 0, "a/delayed");
	wait_entered(&f, 0, 1);
	fake_provider_let(f.provider, nth_class(&f, 0), 1);
	preparing = submit(&f, 0, "a/preparing");
	/* Either of them by now; the other one waits for its turn. */
	wait_entered(&f, 0, 2);
	joined = submit(&f, 0, "a/preparing");
	queued = submit(&f, 0, "a/queued");

	allocate_service_stop(f.service);
	expect_end(&f, delayed, ALLOCATE_FAILED, -ESHUTDOWN);
	expect_end(&f, preparing, ALLOCATE_FAILED, -ESHUTDOWN);
	expect_end(&f, joined, ALLOCATE_FAILED, -ESHUTDOWN);
	expect_end(&f, queued, ALLOCATE_FAILED, -ESHUTDOWN);
	g_assert_cmpuint(allocate_service_ready(f.service, 1), ==, 2);
	fixture_deinit(&f);
}

static void test_after_stop(void)
{
	Fixture f;
	Segment *segment, *cold;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=2", NULL);
	fixture_start(&f, 2);
	wait_ready(&f, 0, 2);
	segment = allocate_service_take(f.service, nth_class(&f, 0));
	allocate_service_stop(f.service);
	unsigned n_entered = entered(&f, 0);

	request = submit(&f, 0, "a/1");
	g_assert_true(latch_is_open(&request->latch));
	allocate_service_cancel(f.service, request);
	expect_end(&f, request, ALLOCATE_FAILED, -ESHUTDOWN);
	g_assert_null(allocate_service_take(f.service, nth_class(&f, 0)));
	allocate_service_give_back(f.service, segment);
	g_assert_cmpint(allocate_service_prepare_cold(f.service, nth_class(&f, 0), &cold), ==, 0);
	allocate_service_retire(f.service, cold);
	allocate_service_stop(f.service);
	g_assert_cmpuint(entered(&f, 0), ==, n_entered);
	g_assert_cmpuint(fake_provider_returned(f.provider, FAKE_DISCARD, NULL), ==, 0);
	fixture_deinit(&f);
}

static void test_stop_interrupts_preparations(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=4", NULL);
	fake_provider_hold(f.provider, nth_class(&f, 0));
	fixture_start(&f, 2);
	wait_entered(&f, 0, 2);
	/* Joins the threads: that it returns at all is the point. */
	allocate_service_stop(f.service);
	g_assert_cmpuint(fake_provider_returned(f.provider, FAKE_PREPARE, NULL), ==, 2);
	g_assert_cmpuint(prepared(&f, 0), ==, 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_ERRORS), ==, 0);
	fixture_deinit(&f);
}

/* Several times, so that in some of them all threads sleep already. */
static void test_stop_idle(void)
{
	for (int round = 0; round < 10; round++) {
		Fixture f;

		fixture_init(&f, "a size=1M ahead=3", NULL);
		fake_provider_hold(f.provider, nth_class(&f, 0));
		fixture_start(&f, 3);
		wait_entered(&f, 0, 3);
		fake_provider_let_all(f.provider, nth_class(&f, 0));
		wait_ready(&f, 0, 3);
		allocate_service_stop(f.service);
		allocate_service_stop(f.service);
		fixture_deinit(&f);
	}
}

/* A latch's function may call anything of the service: were a lock of it held, this would hang. */
typedef struct Caller {
	Fixture *f;
	AllocateRequest *request;
	Mutex lock;
	/* Protected by lock. */
	unsigned n_calls;
} Caller;

static void give_back_if_any(AllocateService *service, AllocateRequest *request)
{
	Segment *segment = allocate_request_steal_segment(request);

	if (segment)
		allocate_service_give_back(service, segment);
}

static void call_everything(void *arg)
{
	Caller *caller = arg;
	AllocateService *service = caller->f->service;
	/* One that nothing else is asked of. */
	const SegmentClass *class = nth_class(caller->f, 2);
	AllocateRequest *another = allocate_service_submit(service, class, "from-latch");
	Segment *segment;

	g_assert_true(latch_is_open(&caller->request->latch));
	allocate_service_cancel(service, another);
	allocate_service_cancel(service, caller->request);
	if (latch_is_open(&another->latch))
		give_back_if_any(service, another);
	allocate_request_unref(another);
	segment = allocate_service_take(service, class);
	if (segment)
		allocate_service_retire(service, segment);
	give_back_if_any(service, caller->request);
	g_assert_cmpint(allocate_service_prepare_cold(service, class, &segment), ==, 0);
	allocate_service_give_back(service, segment);
	allocate_service_give_way(service);
	g_free(allocate_service_describe(service, 0));
	allocate_service_ready(service, 0);
	MUTEX_SCOPE(&caller->lock);
	caller->n_calls++;
}

static unsigned n_calls(Caller *caller)
{
	MUTEX_SCOPE(&caller->lock);
	return caller->n_calls;
}

static void caller_start(Caller *caller, Fixture *f, size_t nth)
{
	*caller = (Caller){ .f = f };
	mutex_init(&caller->lock);
	caller->request = submit(f, nth, "path");
	/* Held, or with a short timeout that may have passed already. */
	if (!latch_on_open(&caller->request->latch, call_everything, caller))
		call_everything(caller);
}

static void caller_end(Caller *caller, AllocateState state)
{
	TEST_WAIT_UNTIL(n_calls(caller) > 0);
	g_assert_cmpuint(n_calls(caller), ==, 1);
	g_assert_cmpint(caller->request->state, ==, state);
	allocate_request_unref(caller->request);
	mutex_deinit(&caller->lock);
}

static void test_latches_open_without_lock(void)
{
	Fixture f;
	Caller caller;
	const SegmentClass *class;

	fixture_init(&f, "a size=1M ahead=0", "short size=1M ahead=0 timeout=5",
		     "other size=1M ahead=0", NULL);
	class = nth_class(&f, 0);
	fake_provider_hold(f.provider, class);
	fixture_start(&f, 1);

	caller_start(&caller, &f, 0);
	wait_entered(&f, 0, 1);
	fake_provider_let(f.provider, class, 1);
	caller_end(&caller, ALLOCATE_READY);

	fake_provider_fail(f.provider, FAKE_PREPARE, class, -EINVAL, 1);
	caller_start(&caller, &f, 0);
	fake_provider_let(f.provider, class, 1);
	caller_end(&caller, ALLOCATE_FAILED);

	/* Keeps the thread busy, so that the next ones wait. */
	AllocateRequest *blocker = submit(&f, 0, "blocker");
	caller_start(&caller, &f, 1);
	caller_end(&caller, ALLOCATE_TIMED_OUT);
	caller_start(&caller, &f, 0);
	allocate_service_cancel(f.service, caller.request);
	caller_end(&caller, ALLOCATE_CANCELLED);
	caller_start(&caller, &f, 0);
	allocate_service_stop(f.service);
	caller_end(&caller, ALLOCATE_FAILED);
	expect_end(&f, blocker, ALLOCATE_FAILED, -ESHUTDOWN);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/allocate-service/timeout", test_timeout);
	test_add("/allocate-service/B5-a-slow-preparation-fails-no-create",
		 test_slow_preparation_fails_no_create);
	test_add("/allocate-service/B14-an-unclaimed-segment-serves-another-path",
		 test_unclaimed_serves_another_path);
	test_add("/allocate-service/timeout-in-queue", test_timeout_in_queue);
	test_add("/allocate-service/cancel-queued", test_cancel_queued);
	test_add("/allocate-service/cancel-preparing", test_cancel_preparing);
	test_add("/allocate-service/cancel-preparing-serves-other",
		 test_cancel_preparing_serves_other);
	test_add("/allocate-service/cancel-ended", test_cancel_ended);
	test_add("/allocate-service/cancel-opens-elsewhere", test_cancel_opens_elsewhere);
	test_add("/allocate-service/join-leader-ready", test_join_leader_ready);
	test_add("/allocate-service/join-leader-failed", test_join_leader_failed);
	test_add("/allocate-service/join-leader-cancelled", test_join_leader_cancelled);
	test_add("/allocate-service/join-delayed-leader-cancelled",
		 test_join_delayed_leader_cancelled);
	test_add("/allocate-service/join-follower-cancelled", test_join_follower_cancelled);
	test_add("/allocate-service/join-all-time-out", test_join_all_time_out);
	test_add("/allocate-service/stop-ends-every-state", test_stop_ends_every_state);
	test_add("/allocate-service/after-stop", test_after_stop);
	test_add("/allocate-service/stop-interrupts-preparations",
		 test_stop_interrupts_preparations);
	test_add("/allocate-service/stop-idle", test_stop_idle);
	test_add("/allocate-service/latches-open-without-lock", test_latches_open_without_lock);
	return g_test_run();
}
