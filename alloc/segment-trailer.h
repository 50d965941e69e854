/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of an `append` segment's file while that is longer than its data: behind the capacity,
 * where no application reads. That it is there says that the file was not cut to its length yet;
 * what it holds is a length that a sync has made durable. Being part of the file, it is flushed
 * together with the data, and costs no flush of its own.
 *
 * It takes 4096 bytes, behind the capacity rounded up to 64 KiB (so that no page is shared with
 * data, whatever the size of pages): a head with the segment's name in the pool, which no
 * application knows, and two slots for the length, in a disk sector each and written in turn: one
 * that is torn leaves the other.
 *
 * Threads: one writer at a time. Errors are -errno.
 */
#pragma once

#include <stdint.h>

#include "alloc/sys.h"

#define SEGMENT_TRAILER_BYTES 4096
#define SEGMENT_TRAILER_ALIGN (UINT64_C(64) * 1024)

static inline uint64_t segment_trailer_offset(uint64_t capacity_bytes)
{
	return (capacity_bytes + SEGMENT_TRAILER_ALIGN - 1) & ~(SEGMENT_TRAILER_ALIGN - 1);
}

/* The size of a file that ends in its trailer. */
static inline uint64_t segment_trailer_end(uint64_t capacity_bytes)
{
	return segment_trailer_offset(capacity_bytes) + SEGMENT_TRAILER_BYTES;
}

/* A new one, with length 0. */
int segment_trailer_make(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name);
/* Durable with the next sync of the file. `sequence` counts up from 1. */
int segment_trailer_record(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name,
			   uint64_t sequence, uint64_t length);
/* -ENOENT if the file does not end in a trailer of that name. */
int segment_trailer_read(const Sys *sys, int fd, uint64_t capacity_bytes, const char *name,
			 uint64_t *ret_length);
