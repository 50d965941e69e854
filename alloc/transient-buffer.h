/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One transient buffer: the latest bytes of one segment, in memory that outlives the daemon. What is in it and not in
 * the segment's file is one range; a write that would make two of it has to wait until the first one is committed.
 *
 * Threads: none of its own. Who has it sees to it that one call is made at a time.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "alloc/transient-image.h"

typedef struct TransientBuffer {
	/* Immutable. */
	TransientSlot *slot;
	char *bytes;
	uint64_t capacity_bytes;
	uint64_t offset_bytes;
	/* The sum of what all buffers of a class hold uncommitted. */
	atomic_uint_fast64_t *n_uncommitted;
	/* The range, empty if both are equal. The slot has it, too, for the next daemon; this daemon does not believe what
	 * others may have written there. */
	uint64_t start;
	uint64_t end;
} TransientBuffer;

/* From now on it is of that segment, and empty. */
void transient_buffer_assign(TransientBuffer *buffer, const char *name, ino_t ino);
/* Goes on as it is, but what it holds will not be recovered. */
void transient_buffer_hide(TransientBuffer *buffer);
/* Nobody's, and empty. */
void transient_buffer_disown(TransientBuffer *buffer);

static inline uint64_t transient_buffer_uncommitted(const TransientBuffer *buffer)
{
	return buffer->end - buffer->start;
}

/* Whether the bytes, within its capacity, would leave one range. */
static inline bool transient_buffer_accepts(const TransientBuffer *buffer, uint64_t offset)
{
	return buffer->start == buffer->end || (buffer->start <= offset && offset <= buffer->end);
}

/* Of bytes that it accepts. */
void transient_buffer_write(TransientBuffer *buffer, const void *data, size_t size, uint64_t offset);
/* Puts what it holds of those bytes of the segment over `data`. */
void transient_buffer_overlay(const TransientBuffer *buffer, void *data, size_t size, uint64_t offset);
/* The range now begins at `end`, which is within it or where it ends. */
void transient_buffer_committed(TransientBuffer *buffer, uint64_t end);
