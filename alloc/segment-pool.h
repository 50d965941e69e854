/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ready segments of one class, how many more it wants, and what it has counted. No lock of its own: the allocate
 * service's covers it (the counters need none).
 *
 * The depth is how many it wants ready: `ahead`. With ahead=auto it begins there and follows what is used, from
 * 1 to max_ahead:
 * - one more when a create finds nothing ready, if the pool had been full since the last time: a pool that is still
 *   filling, or that the disk cannot keep up with, gets no better by being deeper;
 * - one less when for a minute more than half of it was ready at every moment, and so stayed unused.
 *
 * The quota bounds what is ready, on its way, taken and not yet published, and live (taken and not sealed, which is
 * asked of whoever knows it: `live_bytes`).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/alloc-metrics.h"
#include "alloc/segment.h"

typedef struct SegmentPool {
	/* Not exchanged; what may change in it is changed under the lock. */
	const SegmentClass *class;
	AllocCounters counters;
	/* Owned; the oldest first. */
	GQueue ready;
	/* Segments on their way for the pool itself, and for a waiter; and those that were taken, and neither
	 * retired nor given back yet. */
	unsigned n_coming;
	unsigned n_promised;
	unsigned n_out;
	/* Files to be made segments again, owned, the oldest first, which wait for that until a segment is to be made;
	 * and how many more are about to come. */
	GQueue recycled;
	unsigned n_recycling;
	/* When one was begun last for the pool itself, as a number that grows. */
	uint64_t last_turn;
	/* Failed preparations for the pool in a row, and when the next may start (monotonic). */
	unsigned n_failures;
	int64_t resume_ns;
	/* Why the last preparation, for whomever, failed for good; 0: it did not. */
	int error;
	/* How many are to be ready; whether they have been since it last grew; and the fewest that were since when
	 * this period began. */
	unsigned depth;
	bool was_full;
	unsigned least_ready;
	int64_t period_end_ns;
	/* It was made less deep: what still comes beyond the depth is too much. */
	bool was_cut;
	/* Its space was asked back: nothing is prepared ahead until a create, or somebody else, asks for it. */
	bool drained;
} SegmentPool;

void segment_pool_init(SegmentPool *pool, const SegmentClass *class);
/* The pool must be empty. */
void segment_pool_deinit(SegmentPool *pool);

/* The oldest ready segment, now the caller's, or NULL. */
Segment *segment_pool_take(SegmentPool *pool);
/* Takes ownership. */
void segment_pool_put(SegmentPool *pool, Segment *segment);
unsigned segment_pool_ready(const SegmentPool *pool);

/* How many more segments there may be within the quota. */
unsigned segment_pool_room(const SegmentPool *pool, uint64_t live_bytes);
/* Whether what is live leaves no room for a single one, whatever becomes of the others. */
bool segment_pool_is_used_up(const SegmentPool *pool, uint64_t live_bytes);

/* How many more segments ought to be on their way: up to the depth, and none during a pause. */
unsigned segment_pool_wants(const SegmentPool *pool, int64_t now_ns);
/* The same, within the quota. */
unsigned segment_pool_lacks(const SegmentPool *pool, uint64_t live_bytes, int64_t now_ns);
/* Whether one more removed file can be used again, besides those that are there. Also while the pool is full: a log that
 * removes its oldest file for each new one does so at some other time, so what is to replace the segments that are ready,
 * as soon as they are taken, is kept for that. */
bool segment_pool_wants_recycled(const SegmentPool *pool, uint64_t live_bytes, int64_t now_ns);
/* One that there is no use for any more, now the caller's, or NULL. */
Segment *segment_pool_shed_recycled(SegmentPool *pool, uint64_t live_bytes);
/* Which of two pools comes first when both lack segments: negative if it is a. The one that has the smaller share
 * of what it wants; then the one whose turn is longer ago; then the one of the larger segments. */
int segment_pool_compare_need(const SegmentPool *a, const SegmentPool *b);

/* A create found nothing ready. */
void segment_pool_missed(SegmentPool *pool);
/* Ends the period if that is due, and says when to look again. If the pool has become less deep, the segment that it
 * has too many is the caller's; else that is NULL. */
int64_t segment_pool_mind_depth(SegmentPool *pool, int64_t now_ns, Segment **ret_left_over);

/* Nothing is wanted any more, until segment_pool_fill or a create that finds nothing ready. What is ready stays. */
void segment_pool_drain(SegmentPool *pool);
/* As many as ever are wanted again, and at once, also if there is a pause. */
void segment_pool_fill(SegmentPool *pool);

/* Its class has changed: how many are to be ready now. */
void segment_pool_adjust(SegmentPool *pool);
/* Whether one more would be too many; and a ready one that is, now the caller's, or NULL. */
bool segment_pool_is_full(const SegmentPool *pool, uint64_t live_bytes);
Segment *segment_pool_shed(SegmentPool *pool, uint64_t live_bytes);

/* After a failure: nothing is prepared for the pool for a while, longer each time. */
void segment_pool_pause(SegmentPool *pool, int64_t now_ns);
/* After giving a segment away for space: nothing is prepared for the pool for a moment, also if that would work. */
void segment_pool_rest(SegmentPool *pool, int64_t now_ns);
/* After a success; whether there was an error before. */
bool segment_pool_recover(SegmentPool *pool);
