// SPDX-License-Identifier: Apache-2.0
#include "alloc/class-state.h"

#include "alloc/byte-size.h"

static uint64_t us_between(int64_t from_ns, int64_t to_ns)
{
	return MAX(to_ns - from_ns, 0) / 1000;
}

void class_state_note_end(ClassState *state, const AllocateRequest *request, int64_t now_ns)
{
	static const AllocCounter counters[] = {
		[ALLOCATE_FAILED] = ALLOC_FAILED,
		[ALLOCATE_TIMED_OUT] = ALLOC_TIMEOUTS,
		[ALLOCATE_CANCELLED] = ALLOC_CANCELLED,
	};
	uint64_t us = us_between(request->submitted_ns, now_ns);

	if (request->state != ALLOCATE_READY)
		class_state_count(state, counters[request->state]);
	alloc_counters_add(&state->pool.counters, ALLOC_WAIT_US, us);
	alloc_times_add(&state->wait_times, us);
}

/* Many may be slow, or late, at once. */
static char *and_more(unsigned n_suppressed)
{
	return n_suppressed > 0 ? g_strdup_printf("; and %u more", n_suppressed) : g_strdup("");
}

static void tell_slow(ClassState *state, const AllocateRequest *request, uint64_t us, unsigned queue_length,
		      const Log *log, int64_t now_ns)
{
	const SegmentClass *class = state->pool.class;
	unsigned n_suppressed;

	if (!log_limit_pass(&state->slow_lines, now_ns, &n_suppressed))
		return;
	g_autofree char *size = byte_size_format(class->size_bytes);
	g_autofree char *more = and_more(n_suppressed);
	log_warning(log,
		    "class %s: slow: %" G_GUINT64_FORMAT " ms to prepare %s for %s (slow_ms=%u), queue length "
		    "%u%s", class->name, (guint64)us / 1000, size, request->path ? request->path : "the pool",
		    class->slow_ms, queue_length, more);
}

void class_state_note_prepared(ClassState *state, const AllocateRequest *request, const Segment *segment,
			       unsigned queue_length, const Log *log, int64_t now_ns)
{
	const SegmentClass *class = state->pool.class;
	/* To go slowly on purpose is not to be slow. */
	uint64_t us = us_between(request->started_ns + segment->paused_ns, now_ns);

	class_state_count(state, segment->adopted  ? ALLOC_ADOPTED :
				 segment->recycled ? ALLOC_RECYCLED :
						     ALLOC_PREPARED);
	alloc_times_add(&state->prepare_times, us);
	if (segment->lock_error < 0)
		class_state_count(state, ALLOC_LOCK_FAILURES);
	if (class->slow_ms == 0 || us <= (uint64_t)class->slow_ms * 1000)
		return;
	class_state_count(state, ALLOC_SLOW);
	tell_slow(state, request, us, queue_length, log, now_ns);
}

void class_state_note_late(ClassState *state, const AllocateRequest *request, bool superseded, const Log *log,
			   int64_t now_ns)
{
	unsigned n_suppressed;

	class_state_count(state, superseded ? ALLOC_SUPERSEDED : ALLOC_EXPIRED);
	if (!log_limit_pass(&state->late_lines, now_ns, &n_suppressed))
		return;
	g_autofree char *more = and_more(n_suppressed);
	log_notice(log, "class %s: the segment for %s came too late (%s): another gets it%s",
		   state->pool.class->name, request->path,
		   superseded ? "superseded by another request or segment" : "expired, nobody waits any more",
		   more);
}

void class_state_note_over_quota(ClassState *state, const Log *log, int64_t now_ns)
{
	unsigned n_suppressed;

	class_state_count(state, ALLOC_OVER_QUOTA);
	if (!log_limit_pass(&state->quota_lines, now_ns, &n_suppressed))
		return;
	g_autofree char *more = and_more(n_suppressed);
	log_warning(log, "class %s: a new file gets no prepared segment, because open ones use up quota=: make it "
		    "larger%s", state->pool.class->name, more);
}

void class_state_note_failure(ClassState *state, int error)
{
	class_state_count(state, ALLOC_ERRORS);
	alloc_failures_add(&state->failures, error);
}

void class_state_fail_ahead(ClassState *state, int error, const Log *log, int64_t now_ns)
{
	if (state->pool.n_failures == 0)
		log_failure(log, WARNING, "prepare", NULL, error,
			    "class %s: cannot prepare a segment ahead: %s; new files wait for theirs, and "
			    "it is tried again", state->pool.class->name, g_strerror(-error));
	state->pool.error = error;
	segment_pool_pause(&state->pool, now_ns);
}

void class_state_fail_waiting(ClassState *state, const AllocateRequest *request, int error, const Log *log)
{
	log_failure(log, WARNING, "prepare", request->path, error, "class %s: cannot prepare a segment for %s: %s",
		    state->pool.class->name, request->path, g_strerror(-error));
	state->pool.error = error;
}

void class_state_recover(ClassState *state, const Log *log)
{
	if (segment_pool_recover(&state->pool))
		log_notice(log, "class %s: segments can be prepared again", state->pool.class->name);
}

AllocStatus class_state_status(const ClassState *state, uint64_t live_bytes, int64_t now_ns)
{
	const SegmentPool *pool = &state->pool;
	AllocStatus status = {
		.class_name = pool->class->name,
		.prepare_times = state->prepare_times,
		.wait_times = state->wait_times,
		.failures = state->failures,
		.ready = segment_pool_ready(pool),
		.ahead = pool->depth,
		.drained = pool->drained,
		.lacking = segment_pool_lacks(pool, live_bytes, now_ns),
		.preparing = pool->n_coming + pool->n_promised,
		.waiting = wait_list_length(&state->waiting),
		.queued = state->n_queued,
		.live_bytes = live_bytes,
		.error = pool->error,
	};

	for (AllocCounter counter = 0; counter < _ALLOC_COUNTER_MAX; counter++)
		status.counters[counter] = alloc_counters_get(&pool->counters, counter);
	return status;
}
