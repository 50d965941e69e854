/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment that was taken and is not sealed. Until live_segment_finish it has a second name, in
 * the pool directory. There are two sorts:
 *
 * Reserved only (kind `stream`, or one of kind `append` that was not prepared in time): its file is
 * a plain one, but for the unused reservation behind its end, which sealing gives back.
 * Applications go on using the file itself.
 *
 * The other ones of kind `append`, of which the rest of this speaks: the file is as long as its
 * capacity and a trailer; where its data ends for applications is its length, kept here and in the
 * live table.
 *
 * After a power cut the length is the trailer's, or where the last non-zero byte is, whichever is
 * larger. So a sync records the length only if the last byte is zero; and before the last byte of
 * a synced length that is not recorded is overwritten with a zero, it is recorded. Where stores
 * through a mapping, which nobody tells us of, may put a zero there, every sync records it.
 *
 * A write that ends in a zero, and is likely to be synced, records the length at once, with the sum
 * of the data: then both get to the disk in one go, and the sync has nothing to write. Before what
 * the sum covers is overwritten, the length is recorded again, without one.
 *
 * It may have a transient buffer, where writes go first (alloc/live-buffer.h). What applications see
 * of it then is the file and that together; whatever else is done with the file, it has all bytes
 * then. It keeps its buffer until it is sealed, or full, or idle while none is free.
 *
 * Sealing cuts the file to its length; from then on it is a plain one, also for those who still
 * have it open. What makes it shorter, or longer than its capacity, seals it.
 *
 * Threads: any function but free from any thread. Writing and sealing lock; so do the others for a
 * moment. Errors are -errno.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "alloc/descriptor-budget.h"
#include "alloc/live-table.h"
#include "alloc/segment-trailer.h"
#include "alloc/segment-locks.h"
#include "alloc/segment.h"
#include "alloc/sync-forecast.h"
#include "alloc/sync.h"
#include "alloc/sys.h"
#include "alloc/transient-pool.h"

/* What all live segments of a source share. Borrowed. */
typedef struct LivePlace {
	const Sys *sys;
	LiveTable *table;
	/* Where their second names are. */
	int pool_fd;
	const Log *log;
	/* NULL if there are no buffers. */
	TransientPool *transient;
	/* Hears of those that are sealed; or NULL. */
	SegmentLocks *locks;
	/* Each live segment has a descriptor of it; or NULL. */
	DescriptorBudget *descriptors;
} LivePlace;

/* Of alloc/live-buffer.c. Protected by the segment's lock. */
typedef struct LiveBuffer {
	/* NULL: it has none (any more). */
	TransientBuffer *memory;
	/* Somebody commits it without holding the lock; the range that is being written ends there. */
	bool committing;
	uint64_t committing_end;
	Cond committed;
	/* When it was committed and flushed last, and how much was committed since the latter. */
	int64_t committed_ns;
	int64_t flushed_ns;
	uint64_t unflushed_bytes;
	/* Why the last commit failed, -errno; 0: it did not. */
	int error;
	/* Since a write went there, what applications are to see for the file's times, and what the file's own ctime
	 * was when it was looked at last: if that has moved, so does theirs. */
	bool has_times;
	struct timespec mtime;
	struct timespec ctime;
	struct timespec file_ctime;
} LiveBuffer;

typedef struct LiveSegment {
	/* Immutable. */
	const LivePlace *place;
	const SegmentClass *class;
	dev_t dev;
	ino_t ino;
	int fd;
	uint64_t capacity_bytes;
	/* Then it counts as sealed from the start: its length is the file's. */
	bool reserved_only;
	char name[SEGMENT_NAME_SIZE];
	Mutex lock;
	/* Protected by lock. */
	uint64_t length;
	/* What a sync has promised, and what those that are under way will have. */
	uint64_t synced_length;
	uint64_t syncing_length;
	unsigned n_syncing;
	/* The trailer's newest records: as written, and as known to be on the disk. */
	LengthRecord recorded;
	LengthRecord durable;
	uint64_t n_records;
	bool may_be_mapped;
	SyncForecast forecast;
	/* Of the file, since the trailer was written, and what applications are to see instead. */
	struct timespec own_mtime;
	struct timespec own_ctime;
	struct timespec seen_mtime;
	struct timespec seen_ctime;
	LiveBuffer buffer;
	/* In the table; negative if not (any more). */
	int index;
	bool sealed;
	/* Also read without the lock. */
	atomic_bool named;
	/* The set's, under its lock. */
	unsigned n_users;
	/* Its reservation is being given back, or it is being cut: who would open it waits. */
	bool sealing;
	int64_t seal_ns;
	bool superseded;
	/* It has no name any more, and may yet be opened. */
	bool removed;
	/* It could not be published, and is not in the set any more. */
	bool dropped;
} LiveSegment;

/* Of a segment that is about to be published, empty. Takes a descriptor of its own. If the table is
 * full, it may lack its record there, and must be sealed as soon as it is published. */
int live_segment_new(const LivePlace *place, const Segment *segment, LiveSegment **ret_live);
/* As it is: for one that could not be published, or is finished. */
void live_segment_free(LiveSegment *live);

/* From now on it may be stored to through a shared mapping. */
int live_segment_expect_mapping(LiveSegment *live);
/* Before somebody uses it again: no longer, if a write lease proves that nobody has it open or mapped. A mapping
 * outlives the close that we hear of. */
void live_segment_recheck_mappings(LiveSegment *live);
/* How many of `size` bytes at `offset` may be read from live->fd. */
size_t live_segment_readable(LiveSegment *live, off_t offset, size_t size);
/* Whether some of those bytes must be read with live_segment_read: they are not in the file. */
bool live_segment_is_read_here(LiveSegment *live, off_t offset, size_t size);
/* Bytes read, as pread. */
ssize_t live_segment_read(LiveSegment *live, void *data, size_t size, off_t offset);
/* Bytes written, as pwrite. `synced_next`: the caller is going to sync it at once. */
ssize_t live_segment_write(LiveSegment *live, const void *data, size_t size, off_t offset,
			   bool synced_next);
int live_segment_truncate(LiveSegment *live, off_t size);
int live_segment_fallocate(LiveSegment *live, int mode, off_t offset, off_t length);
/* lseek's SEEK_DATA and SEEK_HOLE (and whatever else, on the file itself). */
off_t live_segment_seek(LiveSegment *live, off_t offset, int whence);
/* Data and length are on the disk on return. `fd` is the caller's own of the file: so each open
 * file hears of a failed write-back once, as natively. */
int live_segment_sync(LiveSegment *live, int fd, bool data_only);
/* The same, by itself and not for an application. */
int live_segment_flush(LiveSegment *live);
/* What applications are to see of its file: its length, and not its second name. Either sort. */
int live_segment_stat(LiveSegment *live, struct stat *ret_attr);
/* Whether its file has a ctime that is our doing: then how the file is, and the ctime that applications are to see. */
bool live_segment_hides_ctime(LiveSegment *live, struct stat *ret_attr, struct timespec *ret_seen);

/* Either sort; one that is reserved only needs none. */
bool live_segment_lacks_record(LiveSegment *live);
bool live_segment_is_named(LiveSegment *live);

/* So that sealing will not take long: XFS gives a reservation back after writing the data. */
void live_segment_start_write_back(LiveSegment *live);
/* Cuts the file to its length, and makes that durable; or gives its reservation back, if nobody
 * else has it open: otherwise -EBUSY. Then finishes it. */
int live_segment_seal(LiveSegment *live);
/* Cuts the file to its length, without care for what a power cut would leave: it has no name. */
int live_segment_cut(LiveSegment *live);
/* Takes it out of pool directory and table. Either sort: one that is reserved only keeps its
 * blocks. */
int live_segment_finish(LiveSegment *live);
