/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that the scheduler has of one class: the ready segments, those who wait, and what is to be told of both in
 * counters, histograms and log lines. No lock of its own: the allocate service's covers it.
 */
#pragma once

#include "alloc/alloc-status.h"
#include "alloc/log-limit.h"
#include "alloc/log.h"
#include "alloc/segment-pool.h"
#include "alloc/wait-list.h"

typedef struct ClassState {
	SegmentPool pool;
	WaitList waiting;
	/* Of those that wait, how many are in the queue; and whether one of them may be begun, as found last. */
	unsigned n_queued;
	bool may_begin;
	AllocTimes prepare_times;
	AllocTimes wait_times;
	AllocFailures failures;
	/* Of lines that may come in crowds. */
	LogLimit slow_lines;
	LogLimit late_lines;
	LogLimit quota_lines;
} ClassState;

static inline void class_state_count(ClassState *state, AllocCounter counter)
{
	alloc_counters_add(&state->pool.counters, counter, 1);
}

/* A waiting request has ended. */
void class_state_note_end(ClassState *state, const AllocateRequest *request, int64_t now_ns);
/* A segment was prepared for a request; that may have been slow. `queue_length` is for the log. */
void class_state_note_prepared(ClassState *state, const AllocateRequest *request, const Segment *segment,
			       unsigned queue_length, const Log *log, int64_t now_ns);
/* It came after the request had ended. */
void class_state_note_late(ClassState *state, const AllocateRequest *request, bool superseded, const Log *log,
			   int64_t now_ns);
/* A create waits no longer, because open segments use up the quota. */
void class_state_note_over_quota(ClassState *state, const Log *log, int64_t now_ns);

/* An attempt to make a segment has failed, -errno. */
void class_state_note_failure(ClassState *state, int error);
/* The next segment for the pool could not be prepared, -errno: the class is degraded, and nothing more is prepared ahead
 * for a while. */
void class_state_fail_ahead(ClassState *state, int error, const Log *log, int64_t now_ns);
/* A waiter will not get one. */
void class_state_fail_waiting(ClassState *state, const AllocateRequest *request, int error, const Log *log);
void class_state_recover(ClassState *state, const Log *log);

AllocStatus class_state_status(const ClassState *state, uint64_t live_bytes, int64_t now_ns);
