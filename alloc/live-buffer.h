/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a live segment does with its transient buffer: writes that the buffer accepts go there, and are committed to the
 * file later, without the segment's lock, so that the next write does not wait for the file. Everything else settles
 * first: all bytes are in the file then.
 *
 * A write that touches what is being committed waits for the end of that, before it has looked at anything: whoever
 * drops the lock to wait looks anew.
 *
 * Threads: `_locked`: the segment's lock is held, and settle may drop it meanwhile; the others from any, without it.
 */
#pragma once

#include "alloc/live-segment.h"

void live_buffer_init(LiveSegment *live);
/* What is uncommitted is kept for the next daemon, if the segment is to be found by it. */
void live_buffer_deinit(LiveSegment *live);

/* Before it is published. Takes the buffer over; not one that is reserved only. */
void live_buffer_assign(LiveSegment *live, TransientBuffer *memory);
bool live_buffer_is_there(LiveSegment *live);

bool live_buffer_accepts_locked(const LiveSegment *live, uint64_t offset, size_t size);
/* Of what it accepts. */
void live_buffer_write_locked(LiveSegment *live, const void *data, size_t size, uint64_t offset);
bool live_buffer_holds_locked(const LiveSegment *live, uint64_t offset, size_t size);
void live_buffer_overlay_locked(const LiveSegment *live, void *data, size_t size, uint64_t offset);
/* Instead of the file's own, which are those of the last commit. False if the file's are right. */
bool live_buffer_show_times_locked(LiveSegment *live, struct stat *attr);

/* Everything is in the file, or -errno and stays in the buffer. First thing in whatever needs it. */
int live_buffer_settle_locked(LiveSegment *live);
/* Settled: it is not needed any more. */
void live_buffer_give_back_locked(LiveSegment *live);
/* Nobody can reach the file after this daemon. */
void live_buffer_disown_locked(LiveSegment *live);

/* Before somebody sets the file's times: all is in the file, its times, too. */
int live_buffer_settle_times(LiveSegment *live);
/* For close: if the last commit failed, tries again; 0 or why that fails. */
int live_buffer_retry(LiveSegment *live);

/* What is due in the background at that time (commit_interval= and so on), which is counted as its last one. */
int live_buffer_commit_if_due(LiveSegment *live, int64_t now_ns);
int live_buffer_flush_if_due(LiveSegment *live, int64_t now_ns);
