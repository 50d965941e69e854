/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who gets which segment, and what is to be done next: the queue, the table, and every class's ready and
 * waiting lists, kept consistent with each other. It does nothing itself: the allocate service's threads do.
 *
 * A segment that a worker has made goes to the request it was made for if that still waits; else
 * to the class's oldest waiter, whose own place of work is given up; else to the pool. What is being prepared for one
 * who has gone away is on its way for whoever comes next, and given up only where the worker is needed for others; who
 * comes while it is still being given up takes it up again.
 *
 * The order of work: first what somebody waits for, in the order of the queue, though nobody is passed over
 * for ever; then what others have left to be cleaned up; then preparing ahead, for the class that has the smallest
 * share of what it wants (among equals, whose turn is longest ago, and then the one of the larger segments). A
 * request is left in the queue while as many segments of its class are on their way as are waited for there, and
 * while there is no room in its class's quota; it does not wait for long for open segments to make some.
 *
 * At most n_threads pieces of work are in progress, and one more if somebody waits while all of those are for nobody:
 * a waiting create never stands behind a preparation ahead. There must be a thread more than n_threads.
 *
 * Ended requests go to an end list; whoever opens their latches does so without the lock.
 *
 * Threads: no lock of its own: the allocate service's covers it. The end lists have one each.
 */
#pragma once

#include "alloc/class-rules.h"
#include "alloc/class-state.h"
#include "alloc/end-list.h"
#include "alloc/live-bytes.h"
#include "alloc/request-queue.h"
#include "alloc/request-table.h"
#include "alloc/warm-pace.h"

typedef struct AllocateScheduler {
	/* Immutable. */
	const Clock *clock;
	const LiveBytes *live;
	const Log *log;
	/* Hears of those who wait; or NULL. */
	WarmPace *pace;
	ClassState *classes;
	size_t n_classes;
	EndList ended;
	EndList timed_out;
	/* Whether the pools are to be filled, and how many pieces of work may be in progress. */
	bool filling;
	unsigned n_threads;
	/* Those that are: for a waiter, and for nobody. */
	unsigned n_urgent;
	unsigned n_background;
	/* Signalled when there is something to do for a worker, and for who minds the time. */
	Cond work;
	Cond time;
	RequestQueue queue;
	RequestTable table;
	/* Of requests, by their work_link. */
	GQueue delayed;
	GQueue preparing;
	/* Taken segments, to be released, and ready ones beyond a quota, to be discarded. */
	GQueue retired;
	GQueue surplus;
	uint64_t last_serial;
} AllocateScheduler;

/* A piece of work: a request to be prepared, or else a segment to be released or discarded. */
typedef struct Work {
	AllocateRequest *request;
	/* To be renewed for it, or NULL. */
	Segment *recycled;
	Segment *retired;
	Segment *surplus;
} Work;

/* All are borrowed. `live` may be NULL: no taken segment is live then. */
void allocate_scheduler_init(AllocateScheduler *scheduler, const ClassRules *rules, const Clock *clock,
			     const LiveBytes *live, const Log *log);
/* Nobody may wait, and no segment be left, any more. */
void allocate_scheduler_deinit(AllocateScheduler *scheduler);

ClassState *allocate_scheduler_class(AllocateScheduler *scheduler, const SegmentClass *class);
/* How many more segments there may be within the class's quota, with what is live. */
unsigned allocate_scheduler_room(const AllocateScheduler *scheduler, const ClassState *state);

/* The pool's oldest ready segment, or NULL. */
Segment *allocate_scheduler_take(AllocateScheduler *scheduler, const SegmentClass *class);
/* A new request, the caller's: ready at once if the pool has a segment, else waiting. */
AllocateRequest *allocate_scheduler_submit(AllocateScheduler *scheduler, const SegmentClass *class,
					   const char *path);
/* For who comes after the end: a request that has failed with -ESHUTDOWN. */
AllocateRequest *allocate_scheduler_refuse(AllocateScheduler *scheduler, const SegmentClass *class,
					   const char *path);
/* A segment that nobody has used: for the oldest waiter, or the pool. */
void allocate_scheduler_give_back(AllocateScheduler *scheduler, Segment *segment);
/* A segment that was published, or a cold one that will not be: it is to be released. */
void allocate_scheduler_retire(AllocateScheduler *scheduler, Segment *segment);
/* Whether a file that is about to be removed should become a segment again: then it is waited for ... */
bool allocate_scheduler_claim(AllocateScheduler *scheduler, const SegmentClass *class);
/* ... until here it is, or NULL: it cannot. */
void allocate_scheduler_recycle(AllocateScheduler *scheduler, const SegmentClass *class, Segment *segment);
/* One of the class that was to be released, and now is the caller's to release; or NULL. */
Segment *allocate_scheduler_take_retired(AllocateScheduler *scheduler, const SegmentClass *class);
/* A segment that is to make room, or NULL: one that is to be renewed, or else a ready one, the largest first. */
Segment *allocate_scheduler_give_way(AllocateScheduler *scheduler);

/* The next piece of work, if there is one that may begin. A request comes with a reference. */
bool allocate_scheduler_next(AllocateScheduler *scheduler, Work *ret_work);
/* What came of the preparation of a request: r, and if that is 0, a segment. */
void allocate_scheduler_finish(AllocateScheduler *scheduler, AllocateRequest *request, int r, Segment *segment);
/* Work without a request is done. */
void allocate_scheduler_cleaned_up(AllocateScheduler *scheduler);

/* Does what is due and returns when the next thing is. Signals `work` if there is some. */
int64_t allocate_scheduler_mind(AllocateScheduler *scheduler);
/* Whether a worker that is free should look. */
bool allocate_scheduler_has_work(const AllocateScheduler *scheduler);
/* When the filesystem's free space is to be looked at, after a look that found plenty of it, or not; DEADLINE_NEVER while
 * nothing could be given away. */
int64_t allocate_scheduler_space_ns(const AllocateScheduler *scheduler, int64_t looked_ns, bool plenty);
/* Of a class: no more is prepared ahead (segment_pool_drain); one segment that was ready and is to be removed, or NULL if
 * there is none any more. And: all that is wanted is prepared. */
Segment *allocate_scheduler_drain(AllocateScheduler *scheduler, size_t nth_class);
void allocate_scheduler_fill(AllocateScheduler *scheduler, size_t nth_class);
/* The classes have changed: the pools become as deep as they are to be, and what is too much is surplus. */
void allocate_scheduler_adjust(AllocateScheduler *scheduler);
bool allocate_scheduler_can_give_way(const AllocateScheduler *scheduler);

AllocStatus allocate_scheduler_status(AllocateScheduler *scheduler, size_t nth_class);
