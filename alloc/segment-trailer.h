/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of an `append` segment's file while that is longer than its data: behind the capacity,
 * where no application reads. That it is there says that the file was not cut to its length yet;
 * what it holds is a length that a sync has made durable. Being part of the file, it is flushed
 * together with the data, and costs no flush of its own.
 *
 * It takes 4096 bytes, behind the capacity rounded up to 64 KiB (so that no page is shared with
 * data, whatever the size of pages): a head with the segment's name in the pool, which no
 * application knows, and SEGMENT_TRAILER_SLOTS slots for the length, in a disk sector each and
 * written in turn: one that is torn leaves the others.
 *
 * A record may come with the sum of the data that it is the first to count. It may then get to the
 * disk before that data: it holds only if the sum is that of what is there. The check of a slot
 * says which sort it is; those without a sum are as they were before there were such with one,
 * which had the first two slots.
 *
 * Threads: one writer at a time. Errors are -errno.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "alloc/sys.h"

#define SEGMENT_TRAILER_BYTES 4096
#define SEGMENT_TRAILER_ALIGN (UINT64_C(64) * 1024)
#define SEGMENT_TRAILER_SLOTS 7
/* What a record's sum covers at most: recovery reads that much for each slot. */
#define SEGMENT_TRAILER_SUM_MAX (UINT64_C(1024) * 1024)

typedef struct LengthRecord {
	/* Counts up from 1; 0: there is none. */
	uint64_t sequence;
	uint64_t length;
	/* The sum is of the data from there to the length; none if that is nothing. */
	uint64_t sum_start;
	uint64_t sum;
} LengthRecord;

static inline bool length_record_has_sum(const LengthRecord *record)
{
	return record->sum_start < record->length;
}

static inline uint64_t segment_trailer_offset(uint64_t capacity_bytes)
{
	return (capacity_bytes + SEGMENT_TRAILER_ALIGN - 1) & ~(SEGMENT_TRAILER_ALIGN - 1);
}

/* Whether writing the one overwrites the other. */
static inline bool segment_trailer_same_slot(uint64_t sequence, uint64_t other)
{
	return sequence % SEGMENT_TRAILER_SLOTS == other % SEGMENT_TRAILER_SLOTS;
}

/* The size of a file that ends in its trailer. */
static inline uint64_t segment_trailer_end(uint64_t capacity_bytes)
{
	return segment_trailer_offset(capacity_bytes) + SEGMENT_TRAILER_BYTES;
}

/* A new one, with length 0. */
int segment_trailer_make(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name);
/* Durable with the next sync of the file. */
int segment_trailer_record(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name,
			   const LengthRecord *record);
/* The length of the newest record that holds. -ENOENT if the file does not end in a trailer of that
 * name. */
int segment_trailer_read(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name,
			 uint64_t *ret_length);
