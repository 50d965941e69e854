/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who gets which segment, and what is to be prepared next: the queue, the table, and every class's ready and
 * waiting lists, kept consistent with each other. It does nothing itself: the allocate service's threads do.
 *
 * A waiting request is at any time in exactly one place of work: in the queue, with a worker, delayed until its
 * next attempt, or joined to an earlier request for the same path. So one of them will end it, or its
 * deadline will. A segment that a worker has made goes to the request it was made for if that still waits; else
 * to the class's oldest waiter, whose own place of work is given up; else to the pool.
 *
 * Ended requests go to an end list; whoever opens their latches does so without the lock.
 *
 * Threads: no lock of its own: the allocate service's covers it. The end lists have one each.
 */
#pragma once

#include "alloc/allocate-request.h"
#include "alloc/end-list.h"
#include "alloc/log.h"
#include "alloc/request-queue.h"
#include "alloc/request-table.h"
#include "alloc/segment-pool.h"
#include "alloc/wait-list.h"

typedef struct ClassState {
	SegmentPool pool;
	WaitList waiting;
} ClassState;

typedef struct AllocateScheduler {
	/* Immutable. */
	const Log *log;
	ClassState *classes;
	size_t n_classes;
	EndList ended;
	EndList timed_out;
	/* Whether the pools are to be filled. */
	bool filling;
	/* Signalled when there is something to do for a worker, and for who minds the time. */
	Cond work;
	Cond time;
	RequestQueue queue;
	RequestTable table;
	GQueue delayed;
	/* Ready segments beyond a quota, to be discarded. */
	GQueue surplus;
	uint64_t next_serial;
} AllocateScheduler;

/* The rules and log are borrowed. */
void allocate_scheduler_init(AllocateScheduler *scheduler, const ClassRules *rules, const Log *log);
/* Nobody may wait, and no segment be left, any more. */
void allocate_scheduler_deinit(AllocateScheduler *scheduler);

ClassState *allocate_scheduler_class(AllocateScheduler *scheduler, const SegmentClass *class);

/* Wishes for as many segments as the pool lacks. */
void allocate_scheduler_top_up(AllocateScheduler *scheduler, ClassState *state);

/* The pool's oldest ready segment, or NULL. */
Segment *allocate_scheduler_take(ClassState *state);
/* The request waits from now on. */
void allocate_scheduler_wait(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request);
/* The only way in which a waiting request ends. */
void allocate_scheduler_end(AllocateScheduler *scheduler, AllocateRequest *request, AllocateState how,
			    int error);
/* -ESHUTDOWN for all who wait; nothing is left in the queue. */
void allocate_scheduler_end_all(AllocateScheduler *scheduler);
/* To the preferred request (or NULL) if that still waits; else to the oldest waiter; else to the pool. */
void allocate_scheduler_deliver(AllocateScheduler *scheduler, Segment *segment, AllocateRequest *preferred);

/* What came of the preparation of a request: r, and if that is 0, a segment. */
void allocate_scheduler_finish(AllocateScheduler *scheduler, AllocateRequest *request, int r, Segment *segment);

/* Does what is due and returns when the next thing is. */
int64_t allocate_scheduler_mind(AllocateScheduler *scheduler, int64_t now_ns);

/* The class with the largest ready segment, or NULL. */
ClassState *allocate_scheduler_largest_ready(AllocateScheduler *scheduler);
