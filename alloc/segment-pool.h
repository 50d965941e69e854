/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ready segments of one class, how many more it wants, and what it has counted. No lock of its own: the allocate
 * service's covers it (the counters need none).
 */
#pragma once

#include <stdint.h>

#include <glib.h>

#include "alloc/alloc-metrics.h"
#include "alloc/segment.h"

typedef struct SegmentPool {
	/* Immutable. */
	const SegmentClass *class;
	AllocCounters counters;
	/* Owned; the oldest first. */
	GQueue ready;
	/* Segments on their way for the pool itself. */
	unsigned n_coming;
	/* Failed preparations for the pool in a row, and when the next may start (monotonic). */
	unsigned n_failures;
	int64_t resume_ns;
} SegmentPool;

void segment_pool_init(SegmentPool *pool, const SegmentClass *class);
/* The pool must be empty. */
void segment_pool_deinit(SegmentPool *pool);

/* The oldest ready segment, now the caller's, or NULL. */
Segment *segment_pool_take(SegmentPool *pool);
/* Takes ownership. */
void segment_pool_put(SegmentPool *pool, Segment *segment);
unsigned segment_pool_ready(const SegmentPool *pool);
/* Whether one more may be put there within the quota. */
bool segment_pool_has_room(const SegmentPool *pool);

/* How many more segments ought to be on their way: up to `ahead`, within the quota, and none during a pause. */
unsigned segment_pool_lacks(const SegmentPool *pool, int64_t now_ns);

/* After a failure: nothing is prepared for the pool for a while, longer each time. */
void segment_pool_pause(SegmentPool *pool, int64_t now_ns);
/* After giving a segment away for space: nothing is prepared for the pool for a moment, also if that would work. */
void segment_pool_rest(SegmentPool *pool, int64_t now_ns);
/* After a success; whether there were failures before. */
bool segment_pool_recover(SegmentPool *pool);
