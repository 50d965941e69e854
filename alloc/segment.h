/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One prepared file. It has one owner at a time: the thread that prepares it, then the pool, then whoever took
 * it. Its fields are that owner's to read and write, without a lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "alloc/segment-class.h"

/* Room for the longest name in the pool directory, with its end. */
#define SEGMENT_NAME_SIZE 96

typedef struct Segment {
	const SegmentClass *class;
	/* Open read-write, or -1 once somebody took it. */
	int fd;
	/* The warmed pages, or NULL. map_bytes is the class's size. */
	void *map;
	size_t map_bytes;
	/* In the pool directory, until it is published. */
	char name[SEGMENT_NAME_SIZE];
	/* As the inode has them now. */
	uid_t uid;
	gid_t gid;
	mode_t mode;
	/* Found in the pool directory at start, not made by this process. */
	bool adopted;
	/* Made of a file that an application had removed. */
	bool recycled;
	/* Not warmed: a create's wait was over. It never goes to the pool. */
	bool cold;
	/* Whether its mapping is locked in memory, then which file's that is (alloc/segment-locks.h); why it is not though
	 * its class wants it, -errno. */
	bool locked;
	dev_t dev;
	ino_t ino;
	int lock_error;
	/* How long its preparation was kept waiting, for the sake of others. */
	int64_t paused_ns;
} Segment;

/* Whether something remains to be done about it after it was taken (alloc/live-segment.h). */
static inline bool segment_becomes_live(const Segment *segment)
{
	return segment->class->kind != SEGMENT_KIND_MAPPED;
}

/* Whether, then, its file is as long as applications see it, with a reservation behind that. So is
 * one of any kind that was not prepared in time. */
static inline bool segment_is_reserved_only(const Segment *segment)
{
	return segment->class->kind == SEGMENT_KIND_STREAM || segment->cold;
}

/* Where a segment becomes visible, and as whose. Borrowed for the call. */
typedef struct SegmentTarget {
	int dir_fd;
	const char *name;
	uid_t uid;
	gid_t gid;
	/* Permission bits, umask applied. */
	mode_t mode;
} SegmentTarget;
