/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live segments of a source, by identity, and the thread that seals them: a while (the class's
 * linger time) after the last close, or as soon as nobody has it open and a newer segment of the
 * class was taken, or at the end. One that is reserved only and open past the mount is tried again
 * every second, and after the end by recovery.
 *
 * Threads: any. A LiveSegment stays while it is held (open ... close).
 */
#pragma once

#include "alloc/live-segment.h"

typedef struct LiveSet LiveSet;

/* `place` is copied; what it points to must outlive the set. */
LiveSet *live_set_new(const LivePlace *place);
/* Starts the thread. 0 or -errno. */
int live_set_start(LiveSet *set);
/* Seals all. No segment may be in use any more by other threads, nor open. Takes NULL; returns
 * NULL. */
LiveSet *live_set_free(LiveSet *set);

/* A segment that is about to be published, live from now on, and held by the caller. */
int live_set_add(LiveSet *set, const Segment *segment, LiveSegment **ret_live);
/* It was published. Consumes the hold. Where the table had no record left for it, it is sealed at
 * once. */
void live_set_published(LiveSet *set, LiveSegment *live);
/* It could not be published. Consumes it. */
void live_set_drop(LiveSet *set, LiveSegment *live);

/* The live segment of a file, now held, or NULL. Waits while a reservation is given back. */
LiveSegment *live_set_open(LiveSet *set, dev_t dev, ino_t ino);
void live_set_close(LiveSet *set, LiveSegment *live);

/* Seals one now. -ENOENT: the file is not live; -EBUSY: somebody has it open, which only matters to one that is reserved
 * only. */
int live_set_seal(LiveSet *set, dev_t dev, ino_t ino);

/* What the class's segments that are not sealed hold on the disk: each its full size, used or reserved. */
uint64_t live_set_bytes(LiveSet *set, const SegmentClass *class);

/* The class of a file that is a live segment, or NULL. */
const SegmentClass *live_set_class_of(LiveSet *set, dev_t dev, ino_t ino);

/* How many of the class's segments are live, and how many have become plain files, or been removed, since the set was
 * made. */
typedef struct LiveCounts {
	uint64_t n_live;
	uint64_t live_bytes;
	uint64_t n_sealed;
} LiveCounts;

LiveCounts live_set_count(LiveSet *set, const SegmentClass *class);

/* Calls `visit` for each segment that has, or had, a transient buffer, without a lock. The segment is held meanwhile. */
void live_set_visit(LiveSet *set, void (*visit)(void *arg, LiveSegment *live), void *arg);

/* All of the file's bytes, and its times, are in the file, if it is a live segment's: before somebody sets its times. */
int live_set_settle(LiveSet *set, dev_t dev, ino_t ino);

/* Corrects what stat says of a file, if it is a live segment's (by st_dev and st_ino), or of one that was sealed lately
 * the ctime. False if it is not live (any more). */
bool live_set_patch(LiveSet *set, struct stat *attr);
/* A name of the file has gone: if that was the last that applications have, nothing of it remains
 * in the pool. `may_be_opened`: by who has it open, or was about to open it. As long as it is held it stays live; then its
 * file is cut to its length, and whoever opens it finds a plain one. */
void live_set_unlinked(LiveSet *set, dev_t dev, ino_t ino, bool may_be_opened);
