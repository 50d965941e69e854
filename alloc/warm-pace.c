// SPDX-License-Identifier: Apache-2.0
#include "alloc/warm-pace.h"

#include <errno.h>

/* While others wait: so many times as long as a chunk took is paused after it. */
#define PAUSE_FACTOR 12
#define PAUSE_MIN_NS INT64_C(5000000)
#define PAUSE_MAX_NS INT64_C(200000000)
/* While nobody does: how often, and how long, it is looked whether somebody does now. */
#define LOOK_INTERVAL_NS INT64_C(100000000)
#define LOOK_NS		 INT64_C(5000000)
/* Others wait if the kernel saw somebody stalled for that share of a pause. */
#define STALLED_PERCENT 10

struct WarmPace {
	/* Immutable. */
	const Sys *sys;
	const Clock *clock;
	/* WarmPaceConfig, and how often that has changed. */
	_Atomic uint64_t rate_bytes;
	atomic_bool yields;
	atomic_uint n_changes;
	/* Creates that wait. */
	atomic_uint n_waiting;
	/* As seen in the last pause. */
	atomic_bool others_wait;
	Mutex lock;
	/* The turn is free, a create waits, or a cancel flag was raised. */
	Cond changed;
	/* Protected by lock. `last` had the turn last: with others there, it is not his again. */
	bool is_taken;
	const WarmStint *last;
	unsigned n_wanting;
	/* Whose turn it is has these for himself: how long the last chunk took, when it was looked for others last, and
	 * when the rate (as of which change) allows the next chunk. */
	int64_t work_ns;
	int64_t looked_ns;
	int64_t rate_ns;
	unsigned rate_change;
};

WarmPace *warm_pace_new(const WarmPaceConfig *config, const Sys *sys, const Clock *clock)
{
	WarmPace *pace = g_new0(WarmPace, 1);

	pace->rate_bytes = config->rate_bytes;
	pace->yields = config->yields;
	pace->sys = sys;
	pace->clock = clock;
	/* The first one looks before it works. */
	pace->looked_ns = clock_now_ns(clock) - LOOK_INTERVAL_NS;
	mutex_init(&pace->lock);
	cond_init(&pace->changed);
	return pace;
}

WarmPace *warm_pace_free(WarmPace *pace)
{
	if (!pace)
		return NULL;
	g_assert(!pace->is_taken);
	cond_deinit(&pace->changed);
	mutex_deinit(&pace->lock);
	g_free(pace);
	return NULL;
}

void warm_pace_wake(WarmPace *pace)
{
	if (!pace)
		return;
	MUTEX_SCOPE(&pace->lock);
	cond_broadcast(&pace->changed);
}

void warm_pace_change(WarmPace *pace, const WarmPaceConfig *config)
{
	if (!pace)
		return;
	atomic_store(&pace->rate_bytes, config->rate_bytes);
	atomic_store(&pace->yields, config->yields);
	atomic_fetch_add(&pace->n_changes, 1);
	warm_pace_wake(pace);
}

void warm_pace_hurry(WarmPace *pace)
{
	if (pace && atomic_fetch_add(&pace->n_waiting, 1) == 0)
		warm_pace_wake(pace);
}

void warm_pace_relax(WarmPace *pace)
{
	if (pace)
		atomic_fetch_sub(&pace->n_waiting, 1);
}

static bool is_lifted(const WarmStint *stint)
{
	return atomic_load(&stint->pace->n_waiting) > 0 || warm_stint_is_cancelled(stint);
}

static void be_idle(WarmStint *stint, bool idle)
{
	WarmPace *pace = stint->pace;

	idle = idle && atomic_load(&pace->yields);
	if (stint->is_idle == idle)
		return;
	pace->sys->set_io_idle(pace->sys, idle);
	stint->is_idle = idle;
}

static void leave_turn(WarmStint *stint)
{
	WarmPace *pace = stint->pace;

	if (!stint->has_turn)
		return;
	stint->has_turn = false;
	MUTEX_SCOPE(&pace->lock);
	pace->work_ns = clock_now_ns(pace->clock) - stint->began_ns;
	pace->is_taken = false;
	cond_broadcast(&pace->changed);
}

static void take_turn(WarmStint *stint)
{
	WarmPace *pace = stint->pace;

	MUTEX_SCOPE(&pace->lock);
	while ((pace->is_taken || (pace->last == stint && pace->n_wanting > 0)) && !is_lifted(stint)) {
		bool wants = pace->last != stint;

		pace->n_wanting += wants;
		clock_wait_until(pace->clock, &pace->changed, &pace->lock, DEADLINE_NEVER);
		pace->n_wanting -= wants;
	}
	if (is_lifted(stint)) {
		/* Somebody may be waiting for us to take it. */
		cond_broadcast(&pace->changed);
		return;
	}
	pace->is_taken = stint->has_turn = true;
	pace->last = stint;
}

/* False if that was cut short. */
static bool wait_until(const WarmStint *stint, int64_t until_ns)
{
	WarmPace *pace = stint->pace;
	unsigned n_changes = atomic_load(&pace->n_changes);

	MUTEX_SCOPE(&pace->lock);
	while (!is_lifted(stint) && atomic_load(&pace->n_changes) == n_changes) {
		if (clock_now_ns(pace->clock) >= until_ns)
			return true;
		clock_wait_until(pace->clock, &pace->changed, &pace->lock, until_ns);
	}
	return false;
}

static int64_t pause_wanted(WarmPace *pace, int64_t now_ns)
{
	if (atomic_load(&pace->others_wait))
		return CLAMP(pace->work_ns * PAUSE_FACTOR, PAUSE_MIN_NS, PAUSE_MAX_NS);
	return now_ns - pace->looked_ns >= LOOK_INTERVAL_NS ? LOOK_NS : 0;
}

/* Its turn: nobody of us works meanwhile. */
static void give_way(WarmStint *stint)
{
	WarmPace *pace = stint->pace;
	int64_t begin_ns = clock_now_ns(pace->clock);
	int64_t pause_ns = pause_wanted(pace, begin_ns);
	uint64_t before_us, after_us;

	if (pause_ns == 0 || pace->sys->io_stalled_us(pace->sys, &before_us) < 0)
		return;
	if (!wait_until(stint, begin_ns + pause_ns) || pace->sys->io_stalled_us(pace->sys, &after_us) < 0)
		return;
	pace->looked_ns = clock_now_ns(pace->clock);
	atomic_store(&pace->others_wait,
		     (int64_t)(after_us - before_us) * 1000 >= (pace->looked_ns - begin_ns) / 100 * STALLED_PERCENT);
}

/* What another rate has forbidden does not count. False if the rate has changed meanwhile. */
static bool keep_this_rate(WarmStint *stint, uint64_t bytes)
{
	WarmPace *pace = stint->pace;
	unsigned n_changes = atomic_load(&pace->n_changes);
	uint64_t rate_bytes = atomic_load(&pace->rate_bytes);
	double seconds;

	if (!rate_bytes || bytes == 0)
		return true;
	if (pace->rate_change != n_changes)
		pace->rate_ns = 0;
	pace->rate_change = n_changes;
	seconds = (double)bytes / rate_bytes;
	if (wait_until(stint, pace->rate_ns))
		pace->rate_ns = clock_now_ns(pace->clock) + (int64_t)(MIN(seconds, 1e9) * 1e9);
	return atomic_load(&pace->n_changes) == n_changes;
}

static void keep_rate(WarmStint *stint, uint64_t bytes)
{
	while (!keep_this_rate(stint, bytes))
		;
}

/* Between chunks, without a turn. */
static void await_turn(WarmStint *stint, uint64_t bytes)
{
	WarmPace *pace = stint->pace;
	int64_t begin_ns = clock_now_ns(pace->clock);

	take_turn(stint);
	if (stint->has_turn && atomic_load(&pace->yields))
		give_way(stint);
	if (stint->has_turn)
		keep_rate(stint, bytes);
	stint->began_ns = clock_now_ns(pace->clock);
	stint->paused_ns += stint->began_ns - begin_ns;
}

void warm_stint_begin(WarmStint *stint, WarmPace *pace, const atomic_bool *cancel)
{
	*stint = (WarmStint){ .pace = pace, .cancel = cancel };
}

int warm_stint_step(WarmStint *stint, uint64_t bytes)
{
	if (stint->pace) {
		leave_turn(stint);
		await_turn(stint, bytes);
		be_idle(stint, !is_lifted(stint));
	}
	return warm_stint_is_cancelled(stint) ? -ECANCELED : 0;
}

bool warm_stint_is_yielding(const WarmStint *stint)
{
	return stint->pace && atomic_load(&stint->pace->others_wait) && !is_lifted(stint);
}

void warm_stint_end(WarmStint *stint)
{
	if (!stint->pace)
		return;
	leave_turn(stint);
	be_idle(stint, false);
}
