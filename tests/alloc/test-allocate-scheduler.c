// SPDX-License-Identifier: Apache-2.0
/* What is done next, for whom, and when: without threads, by a clock that the test sets. */
#include <errno.h>
#include <string.h>

#include "alloc/allocate-waiting.h"
#include "alloc/class-change.h"
#include "tests/lib/test-util.h"

#define MS_NS INT64_C(1000000)
#define S_NS  (1000 * MS_NS)

typedef struct Fixture {
	Clock clock;
	int64_t now_ns;
	LiveBytes live;
	uint64_t live_bytes;
	TestLog log;
	ClassRules *rules;
	AllocateScheduler scheduler;
} Fixture;

static int64_t now_ns(const Clock *clock)
{
	return ((const Fixture *)clock)->now_ns;
}

static uint64_t live_bytes(void *arg, const SegmentClass *class)
{
	(void)class;
	return ((Fixture *)arg)->live_bytes;
}

/* Classes as for test_class_new, up to a NULL. */
static void G_GNUC_NULL_TERMINATED fixture_init(Fixture *f, unsigned n_threads, ...)
{
	const char *text;
	va_list args;

	*f = (Fixture){ .clock = { .now_ns = now_ns }, .now_ns = 1000 * S_NS };
	f->live = (LiveBytes){ .of_class = live_bytes, .arg = f };
	test_log_init(&f->log);
	f->rules = class_rules_new();
	va_start(args, n_threads);
	while ((text = va_arg(args, const char *)))
		class_rules_add(f->rules, test_class_new(text));
	va_end(args);
	allocate_scheduler_init(&f->scheduler, f->rules, &f->clock, &f->live, &f->log.log);
	f->scheduler.n_threads = n_threads;
	f->scheduler.filling = true;
}

static void fixture_deinit(Fixture *f)
{
	Segment *segment;

	for (size_t i = 0; i < f->scheduler.n_classes; i++)
		while ((segment = segment_pool_take(&f->scheduler.classes[i].pool)))
			g_free(segment);
	while ((segment = g_queue_pop_head(&f->scheduler.surplus)))
		g_free(segment);
	while ((segment = g_queue_pop_head(&f->scheduler.retired)))
		g_free(segment);
	allocate_scheduler_deinit(&f->scheduler);
	class_rules_free(f->rules);
	test_log_deinit(&f->log);
}

static const SegmentClass *nth_class(Fixture *f, size_t nth)
{
	return class_rules_nth(f->rules, nth);
}

static AllocateRequest *submit(Fixture *f, size_t nth, const char *path)
{
	return allocate_scheduler_submit(&f->scheduler, nth_class(f, nth), path);
}

static uint64_t counter(Fixture *f, size_t nth, AllocCounter which)
{
	return alloc_counters_get(&f->scheduler.classes[nth].pool.counters, which);
}

static AllocStatus status(Fixture *f, size_t nth)
{
	return allocate_scheduler_status(&f->scheduler, nth);
}

/* The request that a worker would be at now, or NULL if there is none to begin with. */
static AllocateRequest *next(Fixture *f)
{
	Work work;

	if (!allocate_scheduler_next(&f->scheduler, &work))
		return NULL;
	g_assert_nonnull(work.request);
	return work.request;
}

static AllocateRequest *next_of(Fixture *f, size_t nth, const char *path)
{
	AllocateRequest *request = next(f);

	g_assert_nonnull(request);
	g_assert_true(request->class == nth_class(f, nth));
	g_assert_cmpstr(request->path, ==, path);
	return request;
}

static void finish(Fixture *f, AllocateRequest *request, int r)
{
	Segment *segment = NULL;

	if (r == 0) {
		segment = g_new0(Segment, 1);
		segment->class = request->class;
	}
	allocate_scheduler_finish(&f->scheduler, request, r, segment);
	allocate_request_unref(request);
	end_list_open(&f->scheduler.ended);
	end_list_open(&f->scheduler.timed_out);
}

/* Prepares all that there is to prepare. */
static void fill(Fixture *f)
{
	AllocateRequest *request;

	while ((request = next(f)))
		finish(f, request, 0);
}

static void expect_end(AllocateRequest *request, AllocateState state, int error)
{
	g_assert_true(latch_is_open(&request->latch) || request->state == ALLOCATE_READY);
	g_assert_cmpint(request->state, ==, state);
	g_assert_cmpint(request->error, ==, error);
	g_free(allocate_request_steal_segment(request));
	allocate_request_unref(request);
}

static void cancel(Fixture *f, AllocateRequest *request)
{
	allocate_waiting_end(&f->scheduler, request, ALLOCATE_CANCELLED, -EINTR);
	end_list_open(&f->scheduler.ended);
	expect_end(request, ALLOCATE_CANCELLED, -EINTR);
}

/* Lets time pass, and what is due happen. When the next thing is. */
static int64_t pass(Fixture *f, int64_t ns)
{
	int64_t next_ns;

	f->now_ns += ns;
	next_ns = allocate_scheduler_mind(&f->scheduler);
	end_list_open(&f->scheduler.ended);
	end_list_open(&f->scheduler.timed_out);
	return next_ns;
}

/* Has a segment of the class been used, as a create does that is served at once. */
static void use_ready(Fixture *f, size_t nth)
{
	Segment *segment = allocate_scheduler_take(&f->scheduler, nth_class(f, nth));
	Work work;

	g_assert_nonnull(segment);
	allocate_scheduler_retire(&f->scheduler, segment);
	g_assert_true(allocate_scheduler_next(&f->scheduler, &work));
	g_assert_true(work.retired == segment);
	g_free(work.retired);
	allocate_scheduler_cleaned_up(&f->scheduler);
}

/* The larger size comes first among those who wait, and only among them. */
static void test_waiting_before_larger_ahead(void)
{
	Fixture f;
	AllocateRequest *small, *large;

	fixture_init(&f, 1, "ahead size=1G ahead=4", "small size=1K ahead=0", "large size=1M ahead=0", NULL);
	small = submit(&f, 1, "small/1");
	large = submit(&f, 2, "large/1");
	finish(&f, next_of(&f, 2, "large/1"), 0);
	finish(&f, next_of(&f, 1, "small/1"), 0);
	expect_end(large, ALLOCATE_READY, 0);
	expect_end(small, ALLOCATE_READY, 0);
	finish(&f, next_of(&f, 0, NULL), 0);
	fixture_deinit(&f);
}

/* Each time the class goes first that has the smallest share of what it wants. */
static void test_fair_ahead(void)
{
	static const size_t ORDER[] = { 0, 1, 0, 0, 1, 0, 0, 0 };
	Fixture f;

	fixture_init(&f, 1, "deep size=1G ahead=6", "small size=1M ahead=2", NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(ORDER); i++)
		finish(&f, next_of(&f, ORDER[i], NULL), 0);
	g_assert_null(next(&f));
	fixture_deinit(&f);
}

/* However fast the segments of one class are used up, the other does not stay without. */
static void test_no_class_starves(void)
{
	Fixture f;

	fixture_init(&f, 1, "deep size=1G ahead=8", "small size=1M ahead=2", NULL);
	finish(&f, next_of(&f, 0, NULL), 0);
	for (unsigned i = 0; i < 20; i++) {
		use_ready(&f, 0);
		finish(&f, next(&f), 0);
		if (status(&f, 0).ready == 0)
			finish(&f, next(&f), 0);
	}
	g_assert_cmpuint(status(&f, 1).ready, >=, 1);
	fixture_deinit(&f);
}

/* All threads are at something that nobody waits for: a create does not wait for them. */
static void test_thread_for_waiting(void)
{
	Fixture f;
	AllocateRequest *ahead[2], *waiting[3];

	fixture_init(&f, 2, "large size=1G ahead=4", "small size=1M ahead=0", NULL);
	for (size_t i = 0; i < 2; i++)
		ahead[i] = next_of(&f, 0, NULL);
	g_assert_null(next(&f));
	for (size_t i = 0; i < 3; i++) {
		g_autofree char *path = g_strdup_printf("small/%zu", i);

		waiting[i] = submit(&f, 1, path);
	}
	AllocateRequest *first = next_of(&f, 1, "small/0");
	/* One at a time, while the others are busy. */
	g_assert_null(next(&f));
	finish(&f, ahead[0], 0);
	g_assert_null(next(&f));
	finish(&f, first, 0);
	finish(&f, ahead[1], 0);
	AllocateRequest *second = next_of(&f, 1, "small/1");
	finish(&f, next_of(&f, 1, "small/2"), 0);
	finish(&f, second, 0);
	for (size_t i = 0; i < 3; i++)
		expect_end(waiting[i], ALLOCATE_READY, 0);
	fixture_deinit(&f);
}

/* The same for what is cleaned up. */
static void test_thread_for_waiting_while_cleaning_up(void)
{
	Fixture f;
	Segment *segment;
	AllocateRequest *waiting;
	Work work;

	fixture_init(&f, 1, "a size=1M ahead=1", NULL);
	fill(&f);
	segment = allocate_scheduler_take(&f.scheduler, nth_class(&f, 0));
	allocate_scheduler_retire(&f.scheduler, segment);
	g_assert_true(allocate_scheduler_next(&f.scheduler, &work));
	g_assert_true(work.retired == segment);
	g_assert_null(next(&f));
	waiting = submit(&f, 0, "a/1");
	finish(&f, next_of(&f, 0, "a/1"), 0);
	expect_end(waiting, ALLOCATE_READY, 0);
	g_free(segment);
	allocate_scheduler_cleaned_up(&f.scheduler);
	fixture_deinit(&f);
}

/* A segment of the class is on its way already: making another one would only slow that down. */
static void test_on_its_way(void)
{
	Fixture f;
	AllocateRequest *ahead, *first, *second;

	fixture_init(&f, 2, "a size=1M ahead=1", NULL);
	ahead = next_of(&f, 0, NULL);
	first = submit(&f, 0, "a/1");
	g_assert_null(next(&f));
	/* It serves one, and here are two. */
	second = submit(&f, 0, "a/2");
	AllocateRequest *of_first = next_of(&f, 0, "a/1");
	g_assert_null(next(&f));
	finish(&f, ahead, 0);
	expect_end(first, ALLOCATE_READY, 0);
	/* What was to be for the first is now for the second. */
	g_assert_null(next(&f));
	finish(&f, of_first, 0);
	expect_end(second, ALLOCATE_READY, 0);
	fixture_deinit(&f);
}

static void test_on_its_way_fails(void)
{
	Fixture f;
	AllocateRequest *ahead, *waiting;

	fixture_init(&f, 1, "a size=1M ahead=1", NULL);
	ahead = next_of(&f, 0, NULL);
	waiting = submit(&f, 0, "a/1");
	g_assert_null(next(&f));
	finish(&f, ahead, -EIO);
	finish(&f, next_of(&f, 0, "a/1"), 0);
	expect_end(waiting, ALLOCATE_READY, 0);
	fixture_deinit(&f);
}

/* However many large ones come, a small one has its turn. */
static void test_waiting_is_not_starved(void)
{
	Fixture f;
	AllocateRequest *small, *large;
	unsigned n_before = 0;

	fixture_init(&f, 1, "large size=1G ahead=0", "small size=1K ahead=0", NULL);
	small = submit(&f, 1, "small/1");
	for (;;) {
		g_autofree char *path = g_strdup_printf("large/%u", n_before);

		large = submit(&f, 0, path);
		finish(&f, next(&f), 0);
		if (latch_is_open(&small->latch))
			break;
		expect_end(large, ALLOCATE_READY, 0);
		g_assert_cmpuint(++n_before, <, 100);
	}
	g_assert_cmpuint(n_before, ==, 8);
	expect_end(small, ALLOCATE_READY, 0);
	finish(&f, next_of(&f, 0, "large/8"), 0);
	expect_end(large, ALLOCATE_READY, 0);
	fixture_deinit(&f);
}

/* Everybody is busy: the worker ahead, in class 0, and the thread for those who wait with what somebody waits for, in class 1.
 * There is another class, 2. */
typedef struct Busy {
	Fixture f;
	AllocateRequest *ahead;
	/* Whoever waits goes away; the other one is the same, as its worker has it. */
	AllocateRequest *gone, *of_gone;
} Busy;

static void busy_init(Busy *busy)
{
	Fixture *f = &busy->f;

	fixture_init(f, 1, "large size=1G ahead=1", "small size=1M ahead=0", "other size=2M ahead=0", NULL);
	busy->ahead = next_of(f, 0, NULL);
	busy->gone = submit(f, 1, "small/1");
	busy->of_gone = next_of(f, 1, "small/1");
}

/* Nothing more is to be done, and nobody is at work. */
static void busy_deinit(Busy *busy)
{
	finish(&busy->f, busy->ahead, 0);
	g_assert_null(next(&busy->f));
	g_assert_cmpuint(busy->f.scheduler.n_background + busy->f.scheduler.n_urgent, ==, 0);
	fixture_deinit(&busy->f);
}

/* Whoever goes away while his segment is made must not keep the thread from those of other classes who stay. */
static void test_abandoned_makes_room(void)
{
	AllocateRequest *stays, *of_stays;
	Busy busy;

	busy_init(&busy);
	cancel(&busy.f, busy.gone);
	g_assert_true(atomic_load(&busy.of_gone->cancel));
	g_assert_false(atomic_load(&busy.ahead->cancel));
	stays = submit(&busy.f, 2, "other/1");
	of_stays = next_of(&busy.f, 2, "other/1");
	finish(&busy.f, busy.of_gone, -ECANCELED);
	finish(&busy.f, of_stays, 0);
	expect_end(stays, ALLOCATE_READY, 0);
	g_assert_cmpuint(counter(&busy.f, 1, ALLOC_ERRORS), ==, 0);
	busy_deinit(&busy);
}

/* As long as there is a thread for those who stay, it is not thrown away. */
static void test_abandoned_goes_on(void)
{
	Fixture f;
	AllocateRequest *gone, *of_gone;

	fixture_init(&f, 1, "a size=1M ahead=0", NULL);
	gone = submit(&f, 0, "a/1");
	of_gone = next_of(&f, 0, "a/1");
	cancel(&f, gone);
	g_assert_false(atomic_load(&of_gone->cancel));
	finish(&f, of_gone, 0);
	g_assert_cmpuint(status(&f, 0).ready, ==, 1);
	fixture_deinit(&f);
}

/* All workers are busy, one of them at what nobody waits for any more: as it was begun already, it is for the next one
 * of its class, who would only wait for that worker, and then for all of the work. */
static void test_abandoned_is_taken_up(void)
{
	Fixture f;
	AllocateRequest *ahead, *gone, *of_gone, *next_one, *last;

	fixture_init(&f, 1, "a size=1M ahead=1", NULL);
	ahead = next_of(&f, 0, NULL);
	gone = submit(&f, 0, "a/1");
	cancel(&f, submit(&f, 0, "a/0"));
	next_one = submit(&f, 0, "a/2");
	of_gone = next_of(&f, 0, "a/1");
	cancel(&f, next_one);
	cancel(&f, gone);
	g_assert_true(atomic_load(&of_gone->cancel));
	/* The one waits for what was begun ahead, the other takes that up. */
	next_one = submit(&f, 0, "a/3");
	g_assert_true(atomic_load(&of_gone->cancel));
	last = submit(&f, 0, "a/4");
	g_assert_false(atomic_load(&of_gone->cancel));
	g_assert_null(next(&f));
	finish(&f, of_gone, 0);
	expect_end(next_one, ALLOCATE_READY, 0);
	g_assert_null(next(&f));
	finish(&f, ahead, 0);
	expect_end(last, ALLOCATE_READY, 0);
	g_assert_cmpuint(f.scheduler.n_background + f.scheduler.n_urgent, ==, 0);
	fixture_deinit(&f);
}

/* One of its class is in the queue already. */
static void test_abandoned_is_inherited(void)
{
	AllocateRequest *stays;
	Busy busy;

	busy_init(&busy);
	stays = submit(&busy.f, 1, "small/2");
	cancel(&busy.f, busy.gone);
	g_assert_false(atomic_load(&busy.of_gone->cancel));
	g_assert_null(next(&busy.f));
	finish(&busy.f, busy.of_gone, 0);
	expect_end(stays, ALLOCATE_READY, 0);
	busy_deinit(&busy);
}

/* It had ended already, as it was told to: that is no error, and whoever counted on it has its turn. */
static void test_abandoned_is_taken_up_too_late(void)
{
	AllocateRequest *stays;
	Busy busy;

	busy_init(&busy);
	cancel(&busy.f, busy.gone);
	stays = submit(&busy.f, 1, "small/2");
	g_assert_null(next(&busy.f));
	finish(&busy.f, busy.of_gone, -ECANCELED);
	g_assert_cmpuint(counter(&busy.f, 1, ALLOC_ERRORS), ==, 0);
	finish(&busy.f, next_of(&busy.f, 1, "small/2"), 0);
	expect_end(stays, ALLOCATE_READY, 0);
	busy_deinit(&busy);
}

/* The worker is needed for another class, which waits longer: it is not kept at it. */
static void test_abandoned_is_not_taken_from_others(void)
{
	AllocateRequest *other, *same;
	Busy busy;

	busy_init(&busy);
	other = submit(&busy.f, 2, "other/1");
	cancel(&busy.f, busy.gone);
	same = submit(&busy.f, 1, "small/2");
	g_assert_true(atomic_load(&busy.of_gone->cancel));
	finish(&busy.f, busy.of_gone, -ECANCELED);
	finish(&busy.f, next_of(&busy.f, 2, "other/1"), 0);
	expect_end(other, ALLOCATE_READY, 0);
	finish(&busy.f, next_of(&busy.f, 1, "small/2"), 0);
	expect_end(same, ALLOCATE_READY, 0);
	busy_deinit(&busy);
}

static void test_expired(void)
{
	Fixture f;
	AllocateRequest *gone, *of_gone;

	fixture_init(&f, 1, "a size=1M ahead=0 timeout=1s", NULL);
	gone = submit(&f, 0, "a/1");
	of_gone = next_of(&f, 0, "a/1");
	g_assert_cmpint(pass(&f, 0), ==, f.now_ns + S_NS);
	pass(&f, S_NS - 1);
	g_assert_false(latch_is_open(&gone->latch));
	pass(&f, 1);
	expect_end(gone, ALLOCATE_TIMED_OUT, -EAGAIN);
	finish(&f, of_gone, 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_EXPIRED), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_SUPERSEDED), ==, 0);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_NOTICE, "a/1 came too late (expired"), ==, 1);
	g_assert_cmpuint(status(&f, 0).ready, ==, 1);
	fixture_deinit(&f);
}

/* The next one of the same path has taken the place of who went away. */
static void test_superseded(void)
{
	Fixture f;
	AllocateRequest *gone, *heir, *of_gone;

	fixture_init(&f, 1, "a size=1M ahead=0", NULL);
	gone = submit(&f, 0, "a/1");
	heir = submit(&f, 0, "a/1");
	of_gone = next_of(&f, 0, "a/1");
	cancel(&f, gone);
	finish(&f, of_gone, 0);
	expect_end(heir, ALLOCATE_READY, 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_SUPERSEDED), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_EXPIRED), ==, 0);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_NOTICE, "a/1 came too late (superseded"), ==, 1);
	g_assert_null(next(&f));
	fixture_deinit(&f);
}

/* Another segment served the waiter first; the one made for it is the pool's. */
static void test_superseded_by_segment(void)
{
	Fixture f;
	AllocateRequest *request, *of_request;
	Segment *segment;

	fixture_init(&f, 1, "a size=1M ahead=1", NULL);
	fill(&f);
	segment = allocate_scheduler_take(&f.scheduler, nth_class(&f, 0));
	request = submit(&f, 0, "a/1");
	of_request = next_of(&f, 0, "a/1");
	allocate_scheduler_give_back(&f.scheduler, segment);
	end_list_open(&f.scheduler.ended);
	expect_end(request, ALLOCATE_READY, 0);
	finish(&f, of_request, 0);
	g_assert_cmpuint(counter(&f, 0, ALLOC_SUPERSEDED), ==, 1);
	g_assert_cmpuint(status(&f, 0).ready, ==, 1);
	fixture_deinit(&f);
}

/* One that fails again and again costs three attempts in a fifth of a second, and its waiter gets the error. */
static void test_retries_of_waiting(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, 1, "a size=1M ahead=0", NULL);
	request = submit(&f, 0, "a/1");
	finish(&f, next_of(&f, 0, "a/1"), -EIO);
	g_assert_cmpint(pass(&f, 0), ==, f.now_ns + 40 * MS_NS);
	pass(&f, 40 * MS_NS - 1);
	g_assert_null(next(&f));
	pass(&f, 1);
	finish(&f, next_of(&f, 0, "a/1"), -EIO);
	pass(&f, 160 * MS_NS - 1);
	g_assert_null(next(&f));
	pass(&f, 1);
	finish(&f, next_of(&f, 0, "a/1"), -ENOMEM);
	expect_end(request, ALLOCATE_FAILED, -ENOMEM);
	g_assert_cmpuint(counter(&f, 0, ALLOC_ERRORS), ==, 3);
	AllocFailures failures = allocate_scheduler_status(&f.scheduler, 0).failures;
	g_assert_cmpuint(failures.by_errno[EIO], ==, 2);
	g_assert_cmpuint(failures.by_errno[ENOMEM], ==, 1);
	fixture_deinit(&f);
}

static void test_no_retry_of_lasting(void)
{
	static const int ERRORS[] = { -EROFS, -EACCES, -ENOSPC, -EDQUOT, -ENODEV, -EINVAL };
	Fixture f;

	fixture_init(&f, 1, "a size=1M ahead=0", NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(ERRORS); i++) {
		AllocateRequest *request = submit(&f, 0, "a/1");

		finish(&f, next_of(&f, 0, "a/1"), ERRORS[i]);
		expect_end(request, ALLOCATE_FAILED, ERRORS[i]);
	}
	fixture_deinit(&f);
}

/* Ahead there is no end of trying, but ever longer pauses: up to ten seconds. */
static void test_retries_of_ahead(void)
{
	Fixture f;
	AllocateRequest *request;
	unsigned n_attempts = 0;
	int64_t end_ns;

	fixture_init(&f, 1, "a size=1M ahead=2", NULL);
	end_ns = f.now_ns + 3600 * S_NS;
	while (f.now_ns < end_ns) {
		int64_t next_ns;

		while ((request = next(&f))) {
			finish(&f, request, -EIO);
			n_attempts++;
		}
		next_ns = pass(&f, 0);
		g_assert_cmpint(next_ns, >, f.now_ns);
		pass(&f, next_ns - f.now_ns);
	}
	g_assert_cmpuint(n_attempts, >, 350);
	g_assert_cmpuint(n_attempts, <, 370);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "cannot prepare"), ==, 1);
	fixture_deinit(&f);
}

/* The bug this is about: one error set a flag, and everybody failed until somebody succeeded. */
static void test_retries(void)
{
	test_retries_of_waiting();
	test_no_retry_of_lasting();
	test_retries_of_ahead();
}

static void test_degraded(void)
{
	Fixture f;
	AllocateRequest *request;
	char *line;

	fixture_init(&f, 1, "a size=1M ahead=1", "b size=1K ahead=1", NULL);
	finish(&f, next_of(&f, 0, NULL), -ENOSPC);
	finish(&f, next_of(&f, 1, NULL), 0);
	g_assert_cmpint(status(&f, 0).error, ==, -ENOSPC);
	g_assert_cmpint(status(&f, 1).error, ==, 0);
	request = submit(&f, 0, "a/1");
	finish(&f, next_of(&f, 0, "a/1"), -EROFS);
	expect_end(request, ALLOCATE_FAILED, -EROFS);
	AllocStatus degraded = status(&f, 0);
	line = alloc_status_to_line(&degraded);
	g_assert_true(g_str_has_suffix(line, " error=30 state=degraded"));
	g_free(line);

	/* The device can be written again, and nobody says so: it is found out. */
	pass(&f, 100 * MS_NS);
	finish(&f, next_of(&f, 0, NULL), 0);
	g_assert_cmpint(status(&f, 0).error, ==, 0);
	AllocStatus ok = status(&f, 0);
	line = alloc_status_to_line(&ok);
	g_assert_true(g_str_has_suffix(line, " error=0 state=ok"));
	g_free(line);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_NOTICE, "can be prepared again"), ==, 1);
	fixture_deinit(&f);
}

/* A preparation that succeeds at the second attempt is nothing to alarm anybody. */
static void test_passing_is_not_degraded(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, 1, "a size=1M ahead=0", NULL);
	request = submit(&f, 0, "a/1");
	finish(&f, next_of(&f, 0, "a/1"), -EIO);
	g_assert_cmpint(status(&f, 0).error, ==, 0);
	pass(&f, 40 * MS_NS);
	finish(&f, next_of(&f, 0, "a/1"), 0);
	expect_end(request, ALLOCATE_READY, 0);
	g_assert_cmpuint(f.log.lines->len, ==, 0);
	fixture_deinit(&f);
}

static void prepare_in(Fixture *f, int64_t ns)
{
	AllocateRequest *request = next(f);

	g_assert_nonnull(request);
	f->now_ns += ns;
	finish(f, request, 0);
}

static void test_slow(void)
{
	Fixture f;

	fixture_init(&f, 1, "a size=1G ahead=6 slow_ms=10", NULL);
	prepare_in(&f, 10 * MS_NS);
	g_assert_cmpuint(counter(&f, 0, ALLOC_SLOW), ==, 0);
	prepare_in(&f, 11 * MS_NS);
	g_assert_cmpuint(counter(&f, 0, ALLOC_SLOW), ==, 1);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING,
					"class a: slow: 11 ms to prepare 1G for the pool (slow_ms=10), queue "
					"length 0"), ==, 1);
	/* At most one line a second; the next one says how many there were. */
	prepare_in(&f, 20 * MS_NS);
	prepare_in(&f, 20 * MS_NS);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "slow"), ==, 1);
	f.now_ns += S_NS;
	prepare_in(&f, 12 * MS_NS);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "slow: 12 ms"), ==, 1);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "; and 2 more"), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_SLOW), ==, 4);
	AllocStatus now = status(&f, 0);
	g_assert_cmpuint(alloc_times_count(&now.prepare_times), ==, 5);
	g_assert_cmpuint(now.prepare_times.sum_us, ==, 73000);
	g_assert_cmpuint(alloc_times_percentile_us(&now.prepare_times, 50), ==, 16384);
	g_assert_cmpuint(alloc_times_percentile_us(&now.prepare_times, 99), ==, 32768);
	fixture_deinit(&f);
}

/* What it was kept waiting for the sake of others does not count. */
static void test_paced_is_not_slow(void)
{
	Fixture f;
	AllocateRequest *request;
	Segment *segment = g_new0(Segment, 1);

	fixture_init(&f, 1, "a size=1G ahead=1 slow_ms=10", NULL);
	request = next(&f);
	f.now_ns += 5000 * MS_NS;
	*segment = (Segment){ .class = nth_class(&f, 0), .paused_ns = 4990 * MS_NS };
	allocate_scheduler_finish(&f.scheduler, request, 0, segment);
	allocate_request_unref(request);
	g_assert_cmpuint(counter(&f, 0, ALLOC_SLOW), ==, 0);
	AllocStatus now = status(&f, 0);
	g_assert_cmpuint(now.prepare_times.sum_us, ==, 10000);
	fixture_deinit(&f);
}

static void wait_until_then(const Clock *clock, Cond *cond, Mutex *mutex, int64_t deadline_ns)
{
	(void)cond;
	(void)mutex;
	((Fixture *)clock)->now_ns = deadline_ns;
}

/* Whether preparing ahead is kept to a rate of next to nothing. */
static bool is_paced(Fixture *f)
{
	atomic_bool never = false;
	WarmStint stint;

	warm_stint_begin(&stint, f->scheduler.pace, &never);
	for (int i = 0; i < 2; i++)
		g_assert_cmpint(warm_stint_step(&stint, 1), ==, 0);
	warm_stint_end(&stint);
	return stint.paused_ns > 0;
}

/* While somebody waits, and not a moment longer, however that ends. */
static void test_pace_is_lifted(void)
{
	static const WarmPaceConfig config = { .rate_bytes = 1 };
	AllocateRequest *served, *late, *joined, *gone, *last;
	Fixture f;

	fixture_init(&f, 1, "a size=1M ahead=0 timeout=3s", NULL);
	f.clock.wait_until = wait_until_then;
	f.scheduler.pace = warm_pace_new(&config, &sys_kernel, &f.clock);
	g_assert_true(is_paced(&f));
	served = submit(&f, 0, "a/1");
	g_assert_false(is_paced(&f));
	finish(&f, next(&f), 0);
	g_assert_true(is_paced(&f));
	expect_end(served, ALLOCATE_READY, 0);

	late = submit(&f, 0, "a/2");
	joined = submit(&f, 0, "a/2");
	f.now_ns += 2 * S_NS;
	gone = submit(&f, 0, "a/3");
	f.now_ns += S_NS;
	allocate_scheduler_mind(&f.scheduler);
	end_list_open(&f.scheduler.timed_out);
	g_assert_false(is_paced(&f));
	expect_end(late, ALLOCATE_TIMED_OUT, -EAGAIN);
	expect_end(joined, ALLOCATE_TIMED_OUT, -EAGAIN);
	allocate_waiting_end(&f.scheduler, gone, ALLOCATE_CANCELLED, -EINTR);
	end_list_open(&f.scheduler.ended);
	g_assert_true(is_paced(&f));
	expect_end(gone, ALLOCATE_CANCELLED, -EINTR);

	last = submit(&f, 0, "a/4");
	allocate_waiting_end_all(&f.scheduler);
	end_list_open(&f.scheduler.ended);
	g_assert_true(is_paced(&f));
	expect_end(last, ALLOCATE_FAILED, -ESHUTDOWN);
	warm_pace_free(f.scheduler.pace);
	fixture_deinit(&f);
}

/* With a path, and with those who wait behind it. */
static void test_slow_for_waiting(void)
{
	Fixture f;
	AllocateRequest *first, *second;

	fixture_init(&f, 1, "a size=64M ahead=0", "quiet size=1M ahead=1 slow_ms=0", NULL);
	first = submit(&f, 0, "a/1");
	second = submit(&f, 0, "a/2");
	prepare_in(&f, 3 * S_NS);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING,
					"class a: slow: 3000 ms to prepare 64M for a/1 (slow_ms=10), queue "
					"length 1"), ==, 1);
	prepare_in(&f, 1);
	prepare_in(&f, 100 * S_NS);
	g_assert_cmpuint(counter(&f, 1, ALLOC_SLOW), ==, 0);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "quiet"), ==, 0);
	AllocStatus now = status(&f, 0);
	g_assert_cmpuint(alloc_times_count(&now.wait_times), ==, 2);
	g_assert_cmpuint(now.wait_times.sum_us, ==, counter(&f, 0, ALLOC_WAIT_US));
	g_assert_cmpuint(counter(&f, 0, ALLOC_WAIT_US), ==, 6000000);
	expect_end(first, ALLOCATE_READY, 0);
	expect_end(second, ALLOCATE_READY, 0);
	fixture_deinit(&f);
}

static void test_counts(void)
{
	Fixture f;
	AllocateRequest *hit, *miss, *joined;

	fixture_init(&f, 1, "a size=1M ahead=1", NULL);
	fill(&f);
	hit = submit(&f, 0, "a/1");
	miss = submit(&f, 0, "a/2");
	joined = submit(&f, 0, "a/2");
	AllocStatus now = status(&f, 0);
	g_assert_cmpuint(now.waiting, ==, 2);
	g_assert_cmpuint(now.queued, ==, 1);
	AllocateRequest *request = next_of(&f, 0, "a/2");
	now = status(&f, 0);
	g_assert_cmpuint(now.queued, ==, 0);
	g_assert_cmpuint(now.preparing, ==, 1);
	finish(&f, request, 0);
	expect_end(hit, ALLOCATE_READY, 0);
	expect_end(miss, ALLOCATE_READY, 0);
	expect_end(joined, ALLOCATE_FAILED, -EEXIST);
	g_assert_cmpuint(counter(&f, 0, ALLOC_HITS), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_MISSES), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_JOINED), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_WAITS), ==, 2);
	fixture_deinit(&f);
}

/* Pool and live segments together stay below the quota, also while some are neither. */
static void test_quota(void)
{
	Fixture f;
	Segment *segment;
	Work work;

	fixture_init(&f, 1, "a size=1M ahead=2 quota=3M", NULL);
	fill(&f);
	g_assert_cmpuint(status(&f, 0).ready, ==, 2);
	f.live_bytes = 1 << 20;
	segment = allocate_scheduler_take(&f.scheduler, nth_class(&f, 0));
	g_assert_null(next(&f));
	/* It is published, and live from then on. */
	f.live_bytes = 2 << 20;
	allocate_scheduler_retire(&f.scheduler, segment);
	g_assert_true(allocate_scheduler_next(&f.scheduler, &work));
	g_free(work.retired);
	allocate_scheduler_cleaned_up(&f.scheduler);
	g_assert_null(next(&f));
	g_assert_cmpuint(status(&f, 0).lacking, ==, 0);
	g_assert_cmpuint(status(&f, 0).live_bytes, ==, 2 << 20);
	/* Whoever closes and seals one says nothing: it is looked after. */
	g_assert_cmpint(pass(&f, 0), <=, f.now_ns + 250 * MS_NS);
	f.live_bytes = 1 << 20;
	pass(&f, 250 * MS_NS);
	finish(&f, next_of(&f, 0, NULL), 0);
	g_assert_null(next(&f));
	fixture_deinit(&f);
}

/* Nothing happens, for an hour: no worker is woken, and who minds the time has next to nothing to do. */
static void test_idle(void)
{
	unsigned n_rounds = 0;
	Fixture f;

	fixture_init(&f, 1, "a size=1M ahead=2", "b size=2M ahead=auto quota=64M", NULL);
	g_assert_true(allocate_scheduler_has_work(&f.scheduler));
	fill(&f);
	for (int64_t end_ns = f.now_ns + 3600 * S_NS; f.now_ns < end_ns; n_rounds++) {
		int64_t next_ns = MIN(pass(&f, 0), end_ns);

		/* The depth of auto goes down by one. */
		while (!g_queue_is_empty(&f.scheduler.surplus))
			g_free(g_queue_pop_head(&f.scheduler.surplus));
		g_assert_false(allocate_scheduler_has_work(&f.scheduler));
		f.now_ns = next_ns;
	}
	/* A look at the depth each minute. */
	g_assert_cmpuint(n_rounds, <=, 60);
	fixture_deinit(&f);
}

/* Whatever time or others bring is seen. */
static void test_has_work(void)
{
	Fixture f;
	AllocateRequest *request;
	Segment *segment;
	Work work;

	fixture_init(&f, 1, "a size=1M ahead=1 quota=2M", NULL);
	finish(&f, next_of(&f, 0, NULL), -EIO);
	g_assert_false(allocate_scheduler_has_work(&f.scheduler));
	pass(&f, pass(&f, 0) - f.now_ns);
	g_assert_true(allocate_scheduler_has_work(&f.scheduler));
	fill(&f);
	g_assert_false(allocate_scheduler_has_work(&f.scheduler));

	segment = allocate_scheduler_take(&f.scheduler, nth_class(&f, 0));
	f.live_bytes = 2 << 20;
	allocate_scheduler_retire(&f.scheduler, segment);
	g_assert_true(allocate_scheduler_has_work(&f.scheduler));
	g_assert_true(allocate_scheduler_next(&f.scheduler, &work));
	g_free(work.retired);
	allocate_scheduler_cleaned_up(&f.scheduler);
	g_assert_false(allocate_scheduler_has_work(&f.scheduler));
	f.live_bytes = 1 << 20;
	g_assert_true(allocate_scheduler_has_work(&f.scheduler));
	f.scheduler.filling = false;
	g_assert_false(allocate_scheduler_has_work(&f.scheduler));
	request = submit(&f, 0, "a/1");
	g_assert_true(allocate_scheduler_has_work(&f.scheduler));
	fill(&f);
	expect_end(request, ALLOCATE_READY, 0);
	fixture_deinit(&f);
}

/* Often while it becomes less, or may; seldom while nothing happens; not at all while there is nothing to give. */
static void test_space_is_looked_at(void)
{
	Fixture f;
	AllocateRequest *ahead;

	fixture_init(&f, 1, "a size=1M ahead=2", NULL);
	g_assert_cmpint(allocate_scheduler_space_ns(&f.scheduler, 0, false), ==, DEADLINE_NEVER);
	finish(&f, next_of(&f, 0, NULL), 0);
	ahead = next_of(&f, 0, NULL);
	g_assert_cmpint(allocate_scheduler_space_ns(&f.scheduler, f.now_ns, true), ==, f.now_ns + 250 * MS_NS);
	finish(&f, ahead, 0);
	g_assert_cmpint(allocate_scheduler_space_ns(&f.scheduler, f.now_ns, false), ==, f.now_ns + 250 * MS_NS);
	g_assert_cmpint(allocate_scheduler_space_ns(&f.scheduler, f.now_ns, true), ==, f.now_ns + 2 * S_NS);
	fixture_deinit(&f);
}

/* More became live meanwhile than there was when it was begun: it goes. */
static void test_quota_left_over(void)
{
	Fixture f;
	AllocateRequest *request;
	Work work;

	fixture_init(&f, 1, "a size=1M ahead=1 quota=1M", NULL);
	request = next_of(&f, 0, NULL);
	f.live_bytes = 1 << 20;
	finish(&f, request, 0);
	g_assert_cmpuint(status(&f, 0).ready, ==, 0);
	g_assert_true(allocate_scheduler_next(&f.scheduler, &work));
	g_assert_nonnull(work.surplus);
	g_free(work.surplus);
	allocate_scheduler_cleaned_up(&f.scheduler);
	g_assert_null(next(&f));
	fixture_deinit(&f);
}

/* A create waits a moment for open segments to be sealed, and no longer. */
static void test_quota_used_up(void)
{
	Fixture f;
	AllocateRequest *lucky, *unlucky;

	fixture_init(&f, 1, "a size=1M ahead=1 quota=2M timeout=5s", NULL);
	f.live_bytes = 2 << 20;
	g_assert_null(next(&f));
	lucky = submit(&f, 0, "a/1");
	g_assert_null(next(&f));
	pass(&f, 200 * MS_NS);
	f.live_bytes = 1 << 20;
	pass(&f, 10 * MS_NS);
	finish(&f, next_of(&f, 0, "a/1"), 0);
	expect_end(lucky, ALLOCATE_READY, 0);

	f.live_bytes = 2 << 20;
	unlucky = submit(&f, 0, "a/2");
	g_assert_cmpint(pass(&f, 0), ==, f.now_ns + 250 * MS_NS);
	pass(&f, 250 * MS_NS - 1);
	g_assert_false(latch_is_open(&unlucky->latch));
	pass(&f, 1);
	expect_end(unlucky, ALLOCATE_TIMED_OUT, -EAGAIN);
	g_assert_cmpuint(counter(&f, 0, ALLOC_OVER_QUOTA), ==, 1);
	g_assert_cmpuint(counter(&f, 0, ALLOC_TIMEOUTS), ==, 1);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "quota="), ==, 1);
	fixture_deinit(&f);
}

/* Deeper after a miss, less deep after a minute in which most stayed unused; what is too much goes. */
static void test_ahead_auto(void)
{
	Fixture f;
	AllocateRequest *miss;
	int64_t next_ns;

	fixture_init(&f, 1, "a size=1M ahead=auto", NULL);
	fill(&f);
	g_assert_cmpuint(status(&f, 0).ready, ==, 2);
	pass(&f, 0);
	use_ready(&f, 0);
	use_ready(&f, 0);
	miss = submit(&f, 0, "a/1");
	fill(&f);
	expect_end(miss, ALLOCATE_READY, 0);
	f.scheduler.classes[0].pool.n_out--;
	fill(&f);
	g_assert_cmpuint(status(&f, 0).ahead, ==, 3);
	g_assert_cmpuint(status(&f, 0).ready, ==, 3);

	/* In the first minute all were used; in the second, none. */
	next_ns = pass(&f, 0);
	g_assert_cmpint(next_ns, ==, f.now_ns + 60 * S_NS);
	pass(&f, 60 * S_NS);
	g_assert_cmpuint(status(&f, 0).ahead, ==, 3);
	pass(&f, 60 * S_NS);
	g_assert_cmpuint(status(&f, 0).ahead, ==, 2);
	g_assert_cmpuint(status(&f, 0).ready, ==, 2);
	Work work;
	g_assert_true(allocate_scheduler_next(&f.scheduler, &work));
	g_assert_nonnull(work.surplus);
	g_free(work.surplus);
	allocate_scheduler_cleaned_up(&f.scheduler);
	g_assert_null(next(&f));
	fixture_deinit(&f);
}

/* What is ready goes; what comes then is surplus, unless somebody waits for it. */
static void test_drain(void)
{
	Fixture f;
	AllocateRequest *coming, *request;
	Segment *segment;
	unsigned n = 0;

	fixture_init(&f, 1, "a size=1M ahead=3", NULL);
	finish(&f, next_of(&f, 0, NULL), 0);
	finish(&f, next_of(&f, 0, NULL), 0);
	coming = next_of(&f, 0, NULL);
	while ((segment = allocate_scheduler_drain(&f.scheduler, 0))) {
		g_free(segment);
		n++;
	}
	g_assert_cmpuint(n, ==, 2);
	g_assert_true(status(&f, 0).drained);
	finish(&f, coming, 0);
	g_assert_cmpuint(status(&f, 0).ready, ==, 0);
	g_assert_cmpuint(f.scheduler.surplus.length, ==, 1);
	g_free(g_queue_pop_head(&f.scheduler.surplus));
	g_assert_null(next(&f));

	request = submit(&f, 0, "a/1");
	g_assert_false(status(&f, 0).drained);
	finish(&f, next_of(&f, 0, "a/1"), 0);
	expect_end(request, ALLOCATE_READY, 0);
	g_assert_cmpuint(status(&f, 0).ready, ==, 0);

	g_assert_null(allocate_scheduler_drain(&f.scheduler, 0));
	g_assert_null(next(&f));
	allocate_scheduler_fill(&f.scheduler, 0);
	g_assert_false(status(&f, 0).drained);
	finish(&f, next_of(&f, 0, NULL), 0);
	g_assert_cmpuint(status(&f, 0).ready, ==, 1);
	fixture_deinit(&f);
}

static Segment *new_segment(const SegmentClass *class)
{
	Segment *segment = g_new0(Segment, 1);

	segment->class = class;
	segment->recycled = true;
	return segment;
}

/* What a removed file comes to: whether it was kept. */
static bool remove_one(Fixture *f, size_t nth)
{
	if (!allocate_scheduler_claim(&f->scheduler, nth_class(f, nth)))
		return false;
	allocate_scheduler_recycle(&f->scheduler, nth_class(f, nth), new_segment(nth_class(f, nth)));
	return true;
}

static void change(Fixture *f, const char *key, const char *value)
{
	g_autoptr(ClassRules) wanted = class_rules_copy(f->rules);
	g_autoptr(GError) error = NULL;

	segment_class_set(class_rules_find_named(wanted, "a"), key, value, &error);
	g_assert_no_error(error);
	class_rules_become(f->rules, wanted);
	allocate_scheduler_adjust(&f->scheduler);
}

static void drop_surplus(Fixture *f, unsigned n_expected)
{
	g_assert_cmpuint(f->scheduler.surplus.length, ==, n_expected);
	for (unsigned i = 0; i < n_expected; i++)
		g_free(g_queue_pop_head(&f->scheduler.surplus));
}

/* Deeper: more is prepared. Less deep: what is ready and too much goes, and so does what was on its way. */
static void test_ahead_changes(void)
{
	Fixture f;
	AllocateRequest *coming;

	fixture_init(&f, 1, "a size=1M ahead=1", NULL);
	fill(&f);
	g_assert_cmpuint(status(&f, 0).ready, ==, 1);
	change(&f, "ahead", "4");
	finish(&f, next_of(&f, 0, NULL), 0);
	finish(&f, next_of(&f, 0, NULL), 0);
	coming = next_of(&f, 0, NULL);
	change(&f, "ahead", "2");
	g_assert_cmpuint(status(&f, 0).ahead, ==, 2);
	g_assert_cmpuint(status(&f, 0).ready, ==, 2);
	drop_surplus(&f, 1);
	finish(&f, coming, 0);
	g_assert_cmpuint(status(&f, 0).ready, ==, 2);
	drop_surplus(&f, 1);
	g_assert_null(next(&f));

	change(&f, "ahead", "0");
	drop_surplus(&f, 2);
	change(&f, "ahead", "1");
	fill(&f);
	g_assert_cmpuint(status(&f, 0).ready, ==, 1);
	fixture_deinit(&f);
}

/* It goes on from where it is, within its new bounds. */
static void test_ahead_becomes_auto(void)
{
	Fixture f;

	fixture_init(&f, 1, "a size=1M ahead=6", NULL);
	fill(&f);
	change(&f, "ahead", "auto");
	g_assert_cmpuint(status(&f, 0).ahead, ==, 6);
	change(&f, "max_ahead", "4");
	g_assert_cmpuint(status(&f, 0).ahead, ==, 4);
	drop_surplus(&f, 2);
	change(&f, "slow_ms", "0");
	g_assert_cmpuint(status(&f, 0).ahead, ==, 4);
	fixture_deinit(&f);
}

/* What was to be renewed for the pool goes as well. */
static void test_ahead_changes_while_recycling(void)
{
	Fixture f;

	fixture_init(&f, 1, "a size=1M ahead=2", NULL);
	g_assert_true(remove_one(&f, 0));
	g_assert_true(remove_one(&f, 0));
	change(&f, "ahead", "1");
	g_assert_cmpuint(f.scheduler.classes[0].pool.recycled.length, ==, 1);
	drop_surplus(&f, 1);
	change(&f, "ahead", "0");
	g_assert_cmpuint(f.scheduler.classes[0].pool.recycled.length, ==, 0);
	drop_surplus(&f, 1);
	fixture_deinit(&f);
}

static void test_quota_changes(void)
{
	Fixture f;

	fixture_init(&f, 1, "a size=1M ahead=4", NULL);
	fill(&f);
	f.live_bytes = 1 << 20;
	change(&f, "quota", "4M");
	g_assert_cmpuint(status(&f, 0).ready, ==, 3);
	drop_surplus(&f, 1);
	g_assert_null(next(&f));
	change(&f, "quota", "5M");
	fill(&f);
	g_assert_cmpuint(status(&f, 0).ready, ==, 4);
	drop_surplus(&f, 0);
	fixture_deinit(&f);
}

static void finish_recycled(Fixture *f, const Work *work)
{
	allocate_scheduler_finish(&f->scheduler, work->request, 0, work->recycled);
	allocate_request_unref(work->request);
	end_list_open(&f->scheduler.ended);
}

/* As many removed files are kept as are to be ready, and no more; what is to be prepared next is made of them. */
static void test_recycled(void)
{
	Fixture f;
	AllocateRequest *ahead;
	Segment *segments[2];
	Work work;

	fixture_init(&f, 1, "a size=1M ahead=3", NULL);
	ahead = next_of(&f, 0, NULL);
	for (unsigned i = 0; i < 3; i++)
		g_assert_true(allocate_scheduler_claim(&f.scheduler, nth_class(&f, 0)));
	/* So many are about to come. */
	g_assert_false(allocate_scheduler_claim(&f.scheduler, nth_class(&f, 0)));
	segments[0] = new_segment(nth_class(&f, 0));
	allocate_scheduler_recycle(&f.scheduler, nth_class(&f, 0), segments[0]);
	g_assert_false(allocate_scheduler_claim(&f.scheduler, nth_class(&f, 0)));
	allocate_scheduler_recycle(&f.scheduler, nth_class(&f, 0), NULL);
	allocate_scheduler_recycle(&f.scheduler, nth_class(&f, 0), NULL);
	g_assert_cmpuint(counter(&f, 0, ALLOC_NOT_RECYCLED), ==, 2);
	g_assert_true(allocate_scheduler_claim(&f.scheduler, nth_class(&f, 0)));
	segments[1] = new_segment(nth_class(&f, 0));
	allocate_scheduler_recycle(&f.scheduler, nth_class(&f, 0), segments[1]);
	finish(&f, ahead, 0);

	for (unsigned i = 0; i < 2; i++) {
		g_assert_true(allocate_scheduler_next(&f.scheduler, &work));
		g_assert_true(work.recycled == segments[i]);
		finish_recycled(&f, &work);
	}
	g_assert_cmpuint(counter(&f, 0, ALLOC_RECYCLED), ==, 2);
	g_assert_cmpuint(counter(&f, 0, ALLOC_PREPARED), ==, 1);
	g_assert_null(next(&f));
	fixture_deinit(&f);
}

/* A log that removes its oldest file for each new one, while the pool is full: it is used again for the next. */
static void test_recycled_in_a_steady_state(void)
{
	Fixture f;
	Segment *segment;
	Work work;

	fixture_init(&f, 1, "a size=1M ahead=2", NULL);
	fill(&f);
	for (unsigned i = 0; i < 5; i++) {
		g_assert_true(remove_one(&f, 0));
		/* The pool is full: that waits. */
		g_assert_null(next(&f));
		segment = allocate_scheduler_take(&f.scheduler, nth_class(&f, 0));
		g_assert_nonnull(segment);
		f.scheduler.classes[0].pool.n_out--;
		g_free(segment);
		g_assert_true(allocate_scheduler_next(&f.scheduler, &work));
		g_assert_nonnull(work.recycled);
		finish_recycled(&f, &work);
	}
	g_assert_cmpuint(counter(&f, 0, ALLOC_PREPARED), ==, 2);
	g_assert_cmpuint(counter(&f, 0, ALLOC_RECYCLED), ==, 5);

	g_assert_true(remove_one(&f, 0));
	g_assert_true(remove_one(&f, 0));
	g_assert_false(remove_one(&f, 0));
	/* They are the first to make room, for which there is then a pause. */
	for (unsigned i = 0; i < 3; i++) {
		segment = allocate_scheduler_give_way(&f.scheduler);
		g_assert_nonnull(segment);
		g_free(segment);
		g_assert_cmpuint(counter(&f, 0, ALLOC_GAVE_WAY), ==, i / 2);
	}
	g_assert_false(remove_one(&f, 0));
	pass(&f, 2 * S_NS);
	g_assert_true(remove_one(&f, 0));
	segment = allocate_scheduler_drain(&f.scheduler, 0);
	g_assert_nonnull(segment);
	g_free(segment);
	segment = allocate_scheduler_drain(&f.scheduler, 0);
	g_assert_nonnull(segment);
	g_free(segment);
	g_assert_null(allocate_scheduler_drain(&f.scheduler, 0));
	g_assert_false(remove_one(&f, 0));
	fixture_deinit(&f);
}

/* A create that waits gets one, too; and what is left is the first to make room. */
static void test_recycled_for_waiting(void)
{
	Fixture f;
	AllocateRequest *ahead, *waiting;
	Segment *segment;
	Work work;

	fixture_init(&f, 1, "large size=2M ahead=1", "a size=1M ahead=2 quota=2M", NULL);
	ahead = next_of(&f, 0, NULL);
	g_assert_true(remove_one(&f, 1));
	g_assert_true(remove_one(&f, 1));
	waiting = submit(&f, 1, "a/1");
	g_assert_true(allocate_scheduler_next(&f.scheduler, &work));
	g_assert_true(work.request == waiting);
	g_assert_nonnull(work.recycled);
	finish_recycled(&f, &work);
	expect_end(waiting, ALLOCATE_READY, 0);

	g_assert_true(allocate_scheduler_can_give_way(&f.scheduler));
	segment = allocate_scheduler_give_way(&f.scheduler);
	g_assert_nonnull(segment);
	g_assert_true(segment->class == nth_class(&f, 1));
	g_free(segment);
	g_assert_cmpuint(counter(&f, 1, ALLOC_GAVE_WAY), ==, 0);
	g_assert_false(allocate_scheduler_can_give_way(&f.scheduler));
	/* Not beyond the quota: one is out, and one is live. */
	f.live_bytes = 1 << 20;
	g_assert_false(allocate_scheduler_claim(&f.scheduler, nth_class(&f, 1)));
	finish(&f, ahead, 0);
	f.scheduler.classes[1].pool.n_out--;
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/allocate-scheduler/B18-a-waiting-create-before-a-larger-one-ahead",
		 test_waiting_before_larger_ahead);
	test_add("/allocate-scheduler/fair-ahead", test_fair_ahead);
	test_add("/allocate-scheduler/no-class-starves", test_no_class_starves);
	test_add("/allocate-scheduler/thread-for-waiting", test_thread_for_waiting);
	test_add("/allocate-scheduler/thread-for-waiting-while-cleaning-up",
		 test_thread_for_waiting_while_cleaning_up);
	test_add("/allocate-scheduler/on-its-way", test_on_its_way);
	test_add("/allocate-scheduler/on-its-way-fails", test_on_its_way_fails);
	test_add("/allocate-scheduler/waiting-is-not-starved", test_waiting_is_not_starved);
	test_add("/allocate-scheduler/abandoned-makes-room", test_abandoned_makes_room);
	test_add("/allocate-scheduler/abandoned-goes-on", test_abandoned_goes_on);
	test_add("/allocate-scheduler/abandoned-is-taken-up", test_abandoned_is_taken_up);
	test_add("/allocate-scheduler/abandoned-is-inherited", test_abandoned_is_inherited);
	test_add("/allocate-scheduler/abandoned-is-taken-up-too-late", test_abandoned_is_taken_up_too_late);
	test_add("/allocate-scheduler/abandoned-is-not-taken-from-others", test_abandoned_is_not_taken_from_others);
	test_add("/allocate-scheduler/expired", test_expired);
	test_add("/allocate-scheduler/superseded", test_superseded);
	test_add("/allocate-scheduler/superseded-by-segment", test_superseded_by_segment);
	test_add("/allocate-scheduler/B4-retries-are-few-and-far-between", test_retries);
	test_add("/allocate-scheduler/degraded", test_degraded);
	test_add("/allocate-scheduler/passing-is-not-degraded", test_passing_is_not_degraded);
	test_add("/allocate-scheduler/slow", test_slow);
	test_add("/allocate-scheduler/paced-is-not-slow", test_paced_is_not_slow);
	test_add("/allocate-scheduler/pace-is-lifted", test_pace_is_lifted);
	test_add("/allocate-scheduler/slow-for-waiting", test_slow_for_waiting);
	test_add("/allocate-scheduler/counts", test_counts);
	test_add("/allocate-scheduler/quota", test_quota);
	test_add("/allocate-scheduler/quota-left-over", test_quota_left_over);
	test_add("/allocate-scheduler/idle", test_idle);
	test_add("/allocate-scheduler/has-work", test_has_work);
	test_add("/allocate-scheduler/space-is-looked-at", test_space_is_looked_at);
	test_add("/allocate-scheduler/quota-used-up", test_quota_used_up);
	test_add("/allocate-scheduler/ahead-auto", test_ahead_auto);
	test_add("/allocate-scheduler/drain", test_drain);
	test_add("/allocate-scheduler/ahead-changes", test_ahead_changes);
	test_add("/allocate-scheduler/ahead-becomes-auto", test_ahead_becomes_auto);
	test_add("/allocate-scheduler/ahead-changes-while-recycling", test_ahead_changes_while_recycling);
	test_add("/allocate-scheduler/quota-changes", test_quota_changes);
	test_add("/allocate-scheduler/recycled", test_recycled);
	test_add("/allocate-scheduler/recycled-in-a-steady-state", test_recycled_in_a_steady_state);
	test_add("/allocate-scheduler/recycled-for-waiting", test_recycled_for_waiting);
	return g_test_run();
}
