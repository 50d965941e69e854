// SPDX-License-Identifier: Apache-2.0
/* Time is the test's where one thread is enough: whoever waits finds himself there, and the kernel has counted stalls
 * meanwhile. With more threads it is the real one, and waits are so long that only being woken ends them. */
#include "alloc/warm-pace.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

#define MS	 INT64_C(1000000)
#define MIB	 ((uint64_t)1 << 20)
#define NO_YIELD false

typedef struct Fixture {
	Clock clock;
	int64_t now_ns;
	/* Of the time that is waited, how much others are stalled. */
	unsigned stalled_percent;
	/* Raise the flag in the nth wait, from 1. */
	unsigned cancel_in_wait;
	unsigned n_waits;
	FakeSys sys;
	WarmPace *pace;
	atomic_bool cancel;
	WarmStint stint;
} Fixture;

static int64_t fake_now_ns(const Clock *clock)
{
	return ((const Fixture *)clock)->now_ns;
}

static void fake_wait_until(const Clock *clock, Cond *cond, Mutex *mutex, int64_t deadline_ns)
{
	Fixture *f = (Fixture *)clock;

	(void)cond;
	(void)mutex;
	g_assert_cmpint(deadline_ns, >, f->now_ns);
	atomic_fetch_add(&f->sys.stalled_us, (deadline_ns - f->now_ns) / 1000 * f->stalled_percent / 100);
	f->now_ns = deadline_ns;
	if (++f->n_waits == f->cancel_in_wait)
		atomic_store(&f->cancel, true);
}

static void fixture_init(Fixture *f, uint64_t rate_bytes, bool yields)
{
	WarmPaceConfig config = { .rate_bytes = rate_bytes, .yields = yields };

	*f = (Fixture){ .clock = { .now_ns = fake_now_ns, .wait_until = fake_wait_until }, .now_ns = 5000 * MS };
	fake_sys_init(&f->sys, false);
	f->pace = warm_pace_new(&config, &f->sys.base, &f->clock);
	warm_stint_begin(&f->stint, f->pace, &f->cancel);
}

static void fixture_deinit(Fixture *f)
{
	warm_stint_end(&f->stint);
	warm_pace_free(f->pace);
	fake_sys_deinit(&f->sys);
}

/* Works that long on each of n chunks; how long it was kept waiting in all. */
static int64_t work(Fixture *f, unsigned n, int64_t chunk_ns)
{
	int64_t paused_ns = f->stint.paused_ns;

	for (unsigned i = 0; i < n; i++) {
		g_assert_cmpint(warm_stint_step(&f->stint, MIB), ==, 0);
		f->now_ns += chunk_ns;
	}
	return f->stint.paused_ns - paused_ns;
}

static void test_no_pace(void)
{
	atomic_bool cancel = false;
	WarmStint stint;

	warm_stint_begin(&stint, NULL, &cancel);
	g_assert_cmpint(warm_stint_step(&stint, MIB), ==, 0);
	g_assert_false(warm_stint_is_yielding(&stint));
	atomic_store(&cancel, true);
	g_assert_cmpint(warm_stint_step(&stint, MIB), ==, -ECANCELED);
	warm_stint_end(&stint);
	warm_pace_hurry(NULL);
	warm_pace_relax(NULL);
	warm_pace_wake(NULL);
	g_assert_null(warm_pace_free(NULL));
}

static void test_rate(void)
{
	Fixture f;

	fixture_init(&f, MIB, NO_YIELD);
	/* Each after the second of the one before; time spent at work is part of that. */
	g_assert_cmpint(work(&f, 1, 100 * MS), ==, 0);
	g_assert_cmpint(work(&f, 10, 100 * MS), ==, 10 * 900 * MS);
	g_assert_cmpint(work(&f, 1, 3000 * MS), ==, 900 * MS);
	/* Nothing is saved up. */
	g_assert_cmpint(work(&f, 3, 0), ==, 2000 * MS);
	/* What moves no bytes costs nothing. */
	g_assert_cmpint(warm_stint_step(&f.stint, 0), ==, 0);
	g_assert_cmpint(work(&f, 1, 0), ==, 1000 * MS);
	fixture_deinit(&f);
}

static void test_least_rate(void)
{
	Fixture f;

	fixture_init(&f, 1, NO_YIELD);
	g_assert_cmpint(warm_stint_step(&f.stint, UINT64_MAX), ==, 0);
	g_assert_cmpint(warm_stint_step(&f.stint, 1), ==, 0);
	g_assert_cmpint(f.stint.paused_ns, >, 1000 * MS);
	fixture_deinit(&f);
}

/* B19: what is left to others is at least twelve times what is taken from them. */
static void test_gives_way(void)
{
	Fixture f;

	fixture_init(&f, 0, true);
	f.stalled_percent = 50;
	/* It looks before it works. */
	g_assert_cmpint(work(&f, 1, 2 * MS), >, 0);
	g_assert_true(warm_stint_is_yielding(&f.stint));
	g_assert_cmpint(work(&f, 20, 2 * MS), >=, 20 * 12 * 2 * MS);
	/* A chunk of nothing is paused after as well, and a long one not for ever. */
	g_assert_cmpint(work(&f, 1, 0), >, 0);
	g_assert_cmpint(work(&f, 1, 60000 * MS), >, 0);
	g_assert_cmpint(work(&f, 1, 0), <, 1000 * MS);

	f.stalled_percent = 0;
	work(&f, 1, 2 * MS);
	g_assert_false(warm_stint_is_yielding(&f.stint));
	g_assert_cmpint(work(&f, 10, 2 * MS), ==, 0);
	fixture_deinit(&f);
}

/* A tenth of the time, as it says. */
static void test_threshold(void)
{
	Fixture f;

	fixture_init(&f, 0, true);
	f.stalled_percent = 9;
	work(&f, 1, 0);
	g_assert_false(warm_stint_is_yielding(&f.stint));
	f.now_ns += 1000 * MS;
	f.stalled_percent = 11;
	work(&f, 1, 0);
	g_assert_true(warm_stint_is_yielding(&f.stint));
	fixture_deinit(&f);
}

/* Who works alone hardly pauses, but finds out soon when others come. */
static void test_quiet(void)
{
	Fixture f;
	int64_t paused_ns;

	fixture_init(&f, 0, true);
	paused_ns = work(&f, 1000, 10 * MS);
	g_assert_cmpint(paused_ns, >, 0);
	g_assert_cmpint(paused_ns, <, 1000 * 10 * MS / 10);
	f.stalled_percent = 100;
	work(&f, 12, 10 * MS);
	g_assert_true(warm_stint_is_yielding(&f.stint));
	fixture_deinit(&f);
}

/* Or it would keep out of its own way. */
static void test_own_stalls(void)
{
	Fixture f;

	fixture_init(&f, 0, true);
	for (int i = 0; i < 100; i++) {
		work(&f, 1, 10 * MS);
		atomic_fetch_add(&f.sys.stalled_us, 10000);
		g_assert_false(warm_stint_is_yielding(&f.stint));
	}
	fixture_deinit(&f);
}

static void test_no_count(void)
{
	for (unsigned nth = 1; nth <= 2; nth++) {
		Fixture f;

		fixture_init(&f, 0, true);
		f.stalled_percent = 100;
		fake_sys_fail(&f.sys, FAKE_SYS_IO_STALLED_US, nth, 100000, -ENOENT);
		work(&f, 100, 10 * MS);
		g_assert_false(warm_stint_is_yielding(&f.stint));
		g_assert_cmpint(nth == 1 ? f.n_waits : 0, ==, 0);
		fixture_deinit(&f);
	}
}

static void test_cancel_while_waiting(void)
{
	for (unsigned nth = 1; nth <= 2; nth++) {
		Fixture f;

		fixture_init(&f, 1024, true);
		f.cancel_in_wait = nth;
		g_assert_cmpint(warm_stint_step(&f.stint, MIB), ==, nth == 1 ? -ECANCELED : 0);
		g_assert_cmpint(warm_stint_step(&f.stint, MIB), ==, -ECANCELED);
		g_assert_cmpuint(f.n_waits, ==, nth);
		fixture_deinit(&f);
	}
}

static void expect_idle(Fixture *f, unsigned n, bool idle)
{
	g_assert_cmpuint(fake_sys_count(&f->sys, FAKE_SYS_SET_IO_IDLE), ==, n);
	if (n > 0)
		g_assert_cmpint(fake_sys_record(&f->sys, FAKE_SYS_SET_IO_IDLE, n - 1).flags, ==, idle);
}

/* Idle at work for nobody; as it was at work for somebody, and afterwards. */
static void test_io_class(void)
{
	Fixture f;

	fixture_init(&f, 0, true);
	work(&f, 2, MS);
	expect_idle(&f, 1, true);
	warm_pace_hurry(f.pace);
	work(&f, 2, MS);
	expect_idle(&f, 2, false);
	warm_pace_relax(f.pace);
	work(&f, 2, MS);
	expect_idle(&f, 3, true);
	warm_stint_end(&f.stint);
	expect_idle(&f, 4, false);

	warm_pace_hurry(f.pace);
	warm_stint_begin(&f.stint, f.pace, &f.cancel);
	work(&f, 2, MS);
	warm_stint_end(&f.stint);
	expect_idle(&f, 4, false);
	fixture_deinit(&f);
}

/* It works on, as in a container that forbids it. */
static void test_io_class_refused(void)
{
	Fixture f;

	fixture_init(&f, 0, true);
	fake_sys_fail(&f.sys, FAKE_SYS_SET_IO_IDLE, 1, 100000, -EPERM);
	work(&f, 3, MS);
	fixture_deinit(&f);
}

static void test_no_yield(void)
{
	Fixture f;

	fixture_init(&f, 0, NO_YIELD);
	f.stalled_percent = 100;
	g_assert_cmpint(work(&f, 100, 10 * MS), ==, 0);
	g_assert_false(warm_stint_is_yielding(&f.stint));
	expect_idle(&f, 0, false);
	fixture_deinit(&f);
}

/* However many wait. */
static void test_lifted(void)
{
	Fixture f;

	fixture_init(&f, 1024, true);
	f.stalled_percent = 100;
	work(&f, 2, MS);
	g_assert_true(warm_stint_is_yielding(&f.stint));
	warm_pace_hurry(f.pace);
	warm_pace_hurry(f.pace);
	g_assert_cmpint(work(&f, 100, MS), ==, 0);
	warm_pace_relax(f.pace);
	g_assert_cmpint(work(&f, 100, MS), ==, 0);
	g_assert_false(warm_stint_is_yielding(&f.stint));
	warm_pace_relax(f.pace);
	g_assert_cmpint(work(&f, 2, MS), >, 0);
	fixture_deinit(&f);
}

/*
 * Several threads. A byte a second: nothing but being woken ends a wait.
 */

typedef struct Team {
	/* The real one, which tells how often somebody has gone to sleep. */
	Clock clock;
	atomic_uint n_slept;
	FakeSys sys;
	WarmPace *pace;
	atomic_bool cancel;
	/* How many have got past their first step, and that they may go on. */
	atomic_uint n_past;
	atomic_bool go_on;
	atomic_int result;
} Team;

static void counting_wait_until(const Clock *clock, Cond *cond, Mutex *mutex, int64_t deadline_ns)
{
	atomic_fetch_add(&((Team *)clock)->n_slept, 1);
	cond_wait_until(cond, mutex, deadline_ns);
}

static void team_init(Team *team, uint64_t rate_bytes)
{
	WarmPaceConfig config = { .rate_bytes = rate_bytes };

	*team = (Team){ .clock = { .now_ns = clock_monotonic_now_ns, .wait_until = counting_wait_until } };
	fake_sys_init(&team->sys, false);
	team->pace = warm_pace_new(&config, &team->sys.base, &team->clock);
}

static void team_deinit(Team *team)
{
	warm_pace_free(team->pace);
	fake_sys_deinit(&team->sys);
}

static void *run_member(void *arg)
{
	Team *team = arg;
	WarmStint stint;

	warm_stint_begin(&stint, team->pace, &team->cancel);
	atomic_store(&team->result, warm_stint_step(&stint, 3600));
	atomic_fetch_add(&team->n_past, 1);
	TEST_WAIT_UNTIL(atomic_load(&team->go_on));
	atomic_store(&team->result, warm_stint_step(&stint, 3600));
	warm_stint_end(&stint);
	return NULL;
}

static pthread_t start_member(Team *team)
{
	pthread_t thread;

	g_assert_cmpint(thread_start(&thread, "member", run_member, team), ==, 0);
	return thread;
}

static void check_woken(void (*wake)(Team *team), int result)
{
	Team team;
	pthread_t thread;

	team_init(&team, 1);
	thread = start_member(&team);
	TEST_WAIT_UNTIL(atomic_load(&team.n_past) == 1);
	atomic_store(&team.go_on, true);
	TEST_WAIT_UNTIL(atomic_load(&team.n_slept) == 1);
	wake(&team);
	pthread_join(thread, NULL);
	g_assert_cmpint(atomic_load(&team.result), ==, result);
	team_deinit(&team);
}

static void hurry(Team *team)
{
	warm_pace_hurry(team->pace);
}

static void cancel(Team *team)
{
	atomic_store(&team->cancel, true);
	warm_pace_wake(team->pace);
}

static void change_rate(Team *team)
{
	static const WarmPaceConfig config = { .rate_bytes = 1 << 30 };

	warm_pace_change(team->pace, &config);
}

static void lift_rate(Team *team)
{
	static const WarmPaceConfig config = { .rate_bytes = 0 };

	warm_pace_change(team->pace, &config);
}

/* What waits for the old rate's time does not go on waiting for it. */
static void test_rate_changes(void)
{
	check_woken(change_rate, 0);
	check_woken(lift_rate, 0);
	warm_pace_change(NULL, NULL);
}

/* A thread that was idle is not left so. */
static void test_yield_changes(void)
{
	WarmPaceConfig config = { .rate_bytes = MIB };
	Fixture f;

	fixture_init(&f, 0, true);
	work(&f, 1, MS);
	g_assert_true(f.stint.is_idle);
	warm_pace_change(f.pace, &config);
	g_assert_cmpint(work(&f, 3, 0), ==, 2000 * MS);
	g_assert_false(f.stint.is_idle);
	config = (WarmPaceConfig){ .yields = true };
	warm_pace_change(f.pace, &config);
	work(&f, 1, MS);
	g_assert_true(f.stint.is_idle);
	fixture_deinit(&f);
}

static void test_woken_to_hurry(void)
{
	check_woken(hurry, 0);
}

static void test_woken_to_end(void)
{
	check_woken(cancel, -ECANCELED);
}

/* Ours; the member waits for it. */
static pthread_t take_turn(Team *team, WarmStint *stint, const atomic_bool *never)
{
	pthread_t thread;

	team_init(team, 0);
	warm_stint_begin(stint, team->pace, never);
	g_assert_cmpint(warm_stint_step(stint, 0), ==, 0);
	atomic_store(&team->go_on, true);
	thread = start_member(team);
	TEST_WAIT_UNTIL(atomic_load(&team->n_slept) == 1);
	return thread;
}

/* One works at a time; who waits for that hears of it when he must not any more. */
static void check_turn(void (*wake)(Team *team), int result)
{
	atomic_bool never = false;
	WarmStint stint;
	Team team;
	pthread_t thread = take_turn(&team, &stint, &never);

	g_assert_cmpuint(atomic_load(&team.n_past), ==, 0);
	if (wake)
		wake(&team);
	else
		warm_stint_end(&stint);
	pthread_join(thread, NULL);
	g_assert_cmpint(atomic_load(&team.result), ==, result);
	warm_stint_end(&stint);
	team_deinit(&team);
}

static void test_turn(void)
{
	check_turn(NULL, 0);
}

static void test_turn_in_a_hurry(void)
{
	check_turn(hurry, 0);
}

static void test_turn_at_the_end(void)
{
	check_turn(cancel, -ECANCELED);
}

static void check_turns_go_round(void)
{
	atomic_bool never = false;
	WarmStint stint;
	Team team;
	pthread_t thread = take_turn(&team, &stint, &never);

	g_assert_cmpint(warm_stint_step(&stint, 0), ==, 0);
	g_assert_cmpuint(atomic_load(&team.n_past), ==, 1);
	warm_stint_end(&stint);
	pthread_join(thread, NULL);
	team_deinit(&team);
}

/* Nobody keeps the turn while another one wants it; which, without care, goes well every now and then. */
static void test_turns_go_round(void)
{
	for (int i = 0; i < 30; i++)
		check_turns_go_round();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/warm-pace/no-pace", test_no_pace);
	test_add("/warm-pace/rate", test_rate);
	test_add("/warm-pace/least-rate", test_least_rate);
	test_add("/warm-pace/rate-changes", test_rate_changes);
	test_add("/warm-pace/yield-changes", test_yield_changes);
	test_add("/warm-pace/B19-preparing-ahead-gives-way", test_gives_way);
	test_add("/warm-pace/threshold", test_threshold);
	test_add("/warm-pace/quiet", test_quiet);
	test_add("/warm-pace/own-stalls", test_own_stalls);
	test_add("/warm-pace/no-count", test_no_count);
	test_add("/warm-pace/cancel-while-waiting", test_cancel_while_waiting);
	test_add("/warm-pace/io-class", test_io_class);
	test_add("/warm-pace/io-class-refused", test_io_class_refused);
	test_add("/warm-pace/no-yield", test_no_yield);
	test_add("/warm-pace/lifted", test_lifted);
	test_add("/warm-pace/woken-to-hurry", test_woken_to_hurry);
	test_add("/warm-pace/woken-to-end", test_woken_to_end);
	test_add("/warm-pace/turn", test_turn);
	test_add("/warm-pace/turn-in-a-hurry", test_turn_in_a_hurry);
	test_add("/warm-pace/turn-at-the-end", test_turn_at_the_end);
	test_add("/warm-pace/turns-go-round", test_turns_go_round);
	return g_test_run();
}
