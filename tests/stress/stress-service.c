// SPDX-License-Identifier: Apache-2.0
/*
 * The allocate service under everything at once: threads that create, wait, are interrupted, time out, unlink,
 * give back and make way, over a provider that fails at random. At the end the sums must be right, and
 * nothing be left over: no segment, file, descriptor, mapping, lock, transient buffer.
 *
 *	stress-service [SECONDS]	also WARMFS_STRESS_SECONDS; default 3, or 60 with WARMFS_TEST_LONG
 *
 * WARMFS_TEST_SEED repeats what each thread does, though not how the threads meet.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "alloc/allocate-service.h"
#include "tests/lib/test-util.h"
#include "tests/stress/stress-world.h"

#define N_THREADS	8
#define N_WORKERS	3
#define N_PENDING	32
#define DEFAULT_SECONDS 3
#define LONG_SECONDS	60

/* Of each, the sizes are drawn from these bounds. */
typedef struct ClassTemplate {
	const char *text;
	unsigned min_bytes, max_bytes;
} ClassTemplate;

static const ClassTemplate FAKE_CLASSES[] = {
	{ "a ahead=3 timeout=2", 1 << 20, 2 << 20 },
	{ "b ahead=0 timeout=1", 4 << 20, 8 << 20 },
	{ "c ahead=8 quota=12M timeout=20", 1 << 20, 2 << 20 },
	{ "d ahead=auto timeout=50", 32 << 20, 64 << 20 },
	{ "e ahead=2 timeout=5", 1, 512 << 10 },
};

static const ClassTemplate FILE_CLASSES[] = {
	{ "a kind=mapped ahead=3 timeout=5 lock=on", 4 << 10, 256 << 10 },
	{ "b kind=stream ahead=0 timeout=3", 1, 128 << 10 },
	{ "c kind=append ahead=4 quota=4M timeout=20 linger=5 lock=on lock_active=1 transient=on transient_pool_size=3 "
	  "commit_interval=1 commit_least_pages=0 flush_interval=5 transient_flush_least_pages=0", 64 << 10, 256 << 10 },
	/* Larger than what may be locked. */
	{ "d kind=mapped ahead=auto timeout=50 lock=on", STRESS_LOCK_BUDGET_BYTES + 1, 2 << 20 },
	{ "e kind=append ahead=2 timeout=5 linger=20 transient=on transient_pool_size=1", 1, 64 << 10 },
};

#define N_CLASSES G_N_ELEMENTS(FAKE_CLASSES)

typedef struct Stress {
	StressWorld *world;
	ClassRules *rules;
	AllocateService *service;
	TestLog log;
	int64_t end_ns;
} Stress;

/* What came of what a thread asked for. */
typedef struct Tally {
	uint64_t submitted, ready, failed, timed_out, cancelled;
	uint64_t taken, retired, given_back;
} Tally;

typedef struct Creator {
	Stress *stress;
	pthread_t thread;
	GRand *rand;
	AllocateRequest *pending[N_PENDING];
	Tally tally;
} Creator;

static void use_segment(Creator *creator, Segment *segment)
{
	Stress *stress = creator->stress;

	if (stress->world->use(stress->world, stress->service, segment, creator->rand))
		creator->tally.retired++;
	else
		creator->tally.given_back++;
}

static void cold(Creator *creator, const SegmentClass *class)
{
	Segment *segment;

	if (allocate_service_prepare_cold(creator->stress->service, class, &segment) == 0)
		use_segment(creator, segment);
}

/* The request has ended. */
static void account(Creator *creator, AllocateRequest *request)
{
	Segment *segment = allocate_request_steal_segment(request);
	Tally *tally = &creator->tally;

	g_assert_cmpint(segment != NULL, ==, request->state == ALLOCATE_READY);
	switch (request->state) {
	case ALLOCATE_READY:
		g_assert_true(segment->class == request->class);
		tally->ready++;
		use_segment(creator, segment);
		break;
	case ALLOCATE_FAILED:
		g_assert_cmpint(request->error, <, 0);
		tally->failed++;
		break;
	case ALLOCATE_TIMED_OUT:
		g_assert_cmpint(request->error, ==, -EAGAIN);
		tally->timed_out++;
		cold(creator, request->class);
		break;
	case ALLOCATE_CANCELLED:
		g_assert_cmpint(request->error, ==, -EINTR);
		tally->cancelled++;
		break;
	case ALLOCATE_QUEUED:
	case ALLOCATE_PREPARING:
	case ALLOCATE_DELAYED:
	case ALLOCATE_JOINED:
		g_assert_not_reached();
	}
	allocate_request_unref(request);
}

static void await(Creator *creator, AllocateRequest **place)
{
	AllocateRequest *request = g_steal_pointer(place);

	if (!request)
		return;
	g_assert_true(latch_wait_until(&request->latch, monotonic_ns() + TEST_PATIENCE_NS));
	account(creator, request);
}

static void one_step(Creator *creator)
{
	Stress *stress = creator->stress;
	AllocateRequest **place = &creator->pending[g_rand_int_range(creator->rand, 0, N_PENDING)];
	const SegmentClass *class = class_rules_nth(
		stress->rules, g_rand_int_range(creator->rand, 0, N_CLASSES));
	/* Few names, so that threads meet. */
	g_autofree char *path =
		g_strdup_printf("%s/%d", class->name, g_rand_int_range(creator->rand, 0, 40));
	int dice = g_rand_int_range(creator->rand, 0, 100);
	Segment *segment;

	if (dice < 50) {
		await(creator, place);
		*place = allocate_service_submit(stress->service, class, path);
		creator->tally.submitted++;
	} else if (dice < 70) {
		if (*place)
			allocate_service_cancel(stress->service, *place);
	} else if (dice < 85) {
		segment = allocate_service_take(stress->service, class);
		if (segment) {
			creator->tally.taken++;
			use_segment(creator, segment);
		}
	} else if (dice < 92) {
		await(creator, place);
	} else if (dice < 95) {
		stress->world->unlink(stress->world, stress->service, creator->rand);
	} else if (dice < 97) {
		stress->world->write(stress->world, creator->rand);
	} else if (dice < 98) {
		allocate_service_give_way(stress->service);
	} else {
		cold(creator, class);
	}
}

static void *create(void *arg)
{
	Creator *creator = arg;

	while (monotonic_ns() < creator->stress->end_ns)
		one_step(creator);
	return NULL;
}

static void *create_on(void *arg)
{
	Creator *creator = arg;

	/* On into the stop, for a while. */
	for (int i = 0; i < 2000; i++)
		one_step(creator);
	return NULL;
}

static SegmentClass *random_class(const ClassTemplate *template, GRand *rand)
{
	g_autofree char *text = g_strdup_printf(
		"%s size=%d", template->text,
		g_rand_int_range(rand, (gint32)template->min_bytes, (gint32)template->max_bytes + 1));

	g_test_message("%s", text);
	return test_class_new(text);
}

static void stress_init(Stress *stress, const ClassTemplate *templates, bool with_files, GRand *rand)
{
	test_log_init(&stress->log);
	/* A line for each failure would be all that the memory holds. */
	stress->log.log.max_level = LOG_LEVEL_ERROR;
	stress->rules = class_rules_new();
	for (size_t i = 0; i < N_CLASSES; i++)
		class_rules_add(stress->rules, random_class(&templates[i], rand));
	stress->world = with_files ? stress_world_new_files(stress->rules, &stress->log.log, rand) :
				     stress_world_new_fake(rand);
	stress->service = allocate_service_new(stress->rules, stress->world->provider, stress->world->live,
					       &stress->log.log);
	allocate_service_set_pace(stress->service, stress->world->pace);
	allocate_service_set_locks(stress->service, stress->world->locks);
}

static void stress_deinit(Stress *stress)
{
	unsigned n_ready = 0;

	for (size_t i = 0; i < N_CLASSES; i++)
		n_ready += allocate_service_ready(stress->service, i);
	stress->service = allocate_service_free(stress->service);
	stress->world->free(stress->world, n_ready);
	class_rules_free(stress->rules);
	test_log_deinit(&stress->log);
}

static uint64_t sum_counter(Stress *stress, AllocCounter counter)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < N_CLASSES; i++)
		sum += allocate_service_counter(stress->service, i, counter);
	return sum;
}

static Tally sum_tallies(const Creator *creators)
{
	Tally sum = { 0 };

	for (size_t i = 0; i < N_THREADS; i++) {
		const Tally *tally = &creators[i].tally;

		sum.submitted += tally->submitted;
		sum.ready += tally->ready;
		sum.failed += tally->failed;
		sum.timed_out += tally->timed_out;
		sum.cancelled += tally->cancelled;
		sum.taken += tally->taken;
		sum.retired += tally->retired;
		sum.given_back += tally->given_back;
	}
	return sum;
}

/* Nobody waits, nothing is being made, and each wait and each segment made has its place in a histogram. */
static void check_idle(Stress *stress)
{
	for (size_t i = 0; i < N_CLASSES; i++) {
		AllocStatus status = allocate_service_status(stress->service, i);

		g_assert_cmpuint(status.waiting, ==, 0);
		g_assert_cmpuint(status.queued, ==, 0);
		g_assert_cmpuint(status.preparing, ==, 0);
		g_assert_cmpuint(alloc_times_count(&status.wait_times), ==, status.counters[ALLOC_WAITS]);
		g_assert_cmpuint(alloc_times_count(&status.prepare_times), ==,
				 status.counters[ALLOC_PREPARED] + status.counters[ALLOC_RECYCLED] +
					 status.counters[ALLOC_ADOPTED]);
	}
}

/* `n_refused` were told at once, after the stop, and are in no counter. */
static void check_totals(Stress *stress, const Tally *sum)
{
	uint64_t hits = sum_counter(stress, ALLOC_HITS), waits = sum_counter(stress, ALLOC_WAITS);
	uint64_t timeouts = sum_counter(stress, ALLOC_TIMEOUTS);
	uint64_t cancelled = sum_counter(stress, ALLOC_CANCELLED);
	uint64_t failed = sum_counter(stress, ALLOC_FAILED);
	uint64_t n_refused = sum->submitted + sum->taken - hits - waits;

	g_test_message("submitted %" G_GUINT64_FORMAT ": ready %" G_GUINT64_FORMAT
		       ", failed %" G_GUINT64_FORMAT ", timed out %" G_GUINT64_FORMAT
		       ", cancelled %" G_GUINT64_FORMAT "; hits %" G_GUINT64_FORMAT
		       ", joined %" G_GUINT64_FORMAT ", refused %" G_GUINT64_FORMAT
		       ", prepared %" G_GUINT64_FORMAT,
		       sum->submitted, sum->ready, sum->failed, sum->timed_out, sum->cancelled,
		       hits, sum_counter(stress, ALLOC_JOINED), n_refused,
		       sum_counter(stress, ALLOC_PREPARED));
	g_assert_cmpuint(sum->submitted, ==,
			 sum->ready + sum->failed + sum->timed_out + sum->cancelled);
	g_assert_cmpuint(timeouts, ==, sum->timed_out);
	g_assert_cmpuint(cancelled, ==, sum->cancelled);
	g_assert_cmpuint(failed + n_refused, ==, sum->failed);
	g_assert_cmpuint(waits, ==,
			 timeouts + cancelled + failed + (sum->ready + sum->taken - hits));
	g_assert_cmpuint(waits, ==, sum_counter(stress, ALLOC_MISSES) + sum_counter(stress, ALLOC_JOINED));
	check_idle(stress);
	/* It was worth it. */
	g_assert_cmpuint(sum->ready, >, 0);
	g_assert_cmpuint(sum->failed, >, 0);
	g_assert_cmpuint(sum->timed_out, >, 0);
	g_assert_cmpuint(sum->cancelled, >, 0);
	g_assert_cmpuint(sum_counter(stress, ALLOC_JOINED), >, 0);
}

/* What only files have was met, too. */
static void check_files(Stress *stress)
{
	uint64_t recycled = sum_counter(stress, ALLOC_RECYCLED);
	uint64_t lock_failures = sum_counter(stress, ALLOC_LOCK_FAILURES);

	g_test_message("recycled %" G_GUINT64_FORMAT ", not locked %" G_GUINT64_FORMAT, recycled, lock_failures);
	g_assert_cmpuint(recycled, >, 0);
	g_assert_cmpuint(lock_failures, >, 0);
}

static void run_threads(Creator *creators, void *(*run)(void *))
{
	for (size_t i = 0; i < N_THREADS; i++)
		g_assert_cmpint(thread_start(&creators[i].thread, "creator", run, &creators[i]), ==,
				0);
}

static void join_threads(Creator *creators)
{
	for (size_t i = 0; i < N_THREADS; i++)
		pthread_join(creators[i].thread, NULL);
}

static int seconds = DEFAULT_SECONDS;

static void run_stress(const ClassTemplate *templates, bool with_files)
{
	g_autoptr(GRand) rand = test_rand_new();
	Stress stress;
	Creator creators[N_THREADS] = { 0 };
	Tally sum;

	stress_init(&stress, templates, with_files, rand);
	stress.end_ns = monotonic_ns() + (int64_t)seconds * 1000000000;
	for (size_t i = 0; i < N_THREADS; i++) {
		creators[i].stress = &stress;
		creators[i].rand = g_rand_new_with_seed(g_rand_int(rand));
	}
	g_assert_cmpint(allocate_service_start(stress.service, N_WORKERS), ==, 0);
	run_threads(creators, create);
	join_threads(creators);
	run_threads(creators, create_on);
	allocate_service_stop(stress.service);
	join_threads(creators);
	for (size_t i = 0; i < N_THREADS; i++) {
		for (size_t j = 0; j < N_PENDING; j++)
			await(&creators[i], &creators[i].pending[j]);
		g_rand_free(creators[i].rand);
	}
	sum = sum_tallies(creators);
	check_totals(&stress, &sum);
	if (with_files)
		check_files(&stress);
	stress_deinit(&stress);
}

static void test_stress(void)
{
	run_stress(FAKE_CLASSES, false);
}

static void test_stress_files(void)
{
	run_stress(FILE_CLASSES, true);
}

int main(int argc, char **argv)
{
	const char *text = g_getenv("WARMFS_STRESS_SECONDS");

	g_test_init(&argc, &argv, NULL);
	if (g_getenv("WARMFS_TEST_LONG") && *g_getenv("WARMFS_TEST_LONG"))
		seconds = LONG_SECONDS;
	if (argc > 1)
		text = argv[1];
	if (text)
		seconds = atoi(text);
	/* As for any process that has leases. */
	signal(SIGIO, SIG_IGN);
	test_add("/stress/service", test_stress);
	test_add("/stress/service-files", test_stress_files);
	return g_test_run();
}
