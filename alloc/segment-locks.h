/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which segments' pages are locked in memory, so that they are there when they are written: ready ones, and of each
 * class the newest ones taken, within a budget for all of them. What holds a lock is our mapping; that of a taken segment
 * is kept here until newer ones push it out, or it is sealed or removed.
 *
 * A lock that fails is counted (segment->lock_error), told of once for each class, and the segment is served without.
 *
 * Threads: any.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "alloc/class-rules.h"
#include "alloc/log.h"
#include "alloc/segment.h"
#include "alloc/sys.h"

typedef struct SegmentLocks SegmentLocks;

/* All are borrowed. */
SegmentLocks *segment_locks_new(const ClassRules *rules, const Sys *sys, uint64_t budget_bytes, const Log *log);
/* Unlocks all that it keeps. No other mapping may be locked any more. Takes NULL; returns NULL. */
SegmentLocks *segment_locks_free(SegmentLocks *locks);

/* Each of these takes NULL for the locks, which does what is right where nothing is locked. */

/* Locks the populated mapping of a segment that becomes ready, if its class wants that. */
void segment_locks_lock(SegmentLocks *locks, Segment *segment);
/* It was published. Keeps its mapping, if that is locked. Does not block. */
void segment_locks_keep(SegmentLocks *locks, Segment *segment);
/* Unmaps what the segment still has, and those that were pushed out of the class since. */
void segment_locks_unmap(SegmentLocks *locks, const Sys *sys, Segment *segment);
/* Another budget for all. Told of once more, if something fails by it. */
void segment_locks_set_budget(SegmentLocks *locks, uint64_t budget_bytes);
/* A class may want less of it than before, or the budget may be smaller. Ready segments stay locked. */
void segment_locks_trim(SegmentLocks *locks);
/* Unlocks a taken segment: it is sealed, or removed. */
void segment_locks_let_go(SegmentLocks *locks, dev_t dev, ino_t ino);

/* What is locked of the class. */
uint64_t segment_locks_bytes(SegmentLocks *locks, const SegmentClass *class);
