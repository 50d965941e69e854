/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transient store pool: the buffers of all classes of a mount that have transient=on.
 *
 * A create borrows its buffer when it is accepted, long before its segment is there, and so is counted from then on.
 *
 * Threads: borrow, give back and the counters from any; making and freeing from one.
 */
#pragma once

#include "alloc/class-rules.h"
#include "alloc/sync.h"
#include "alloc/transient-buffer.h"

typedef struct TransientPool TransientPool;

/* NULL with an error if the memory is not to be had, without one if no class wants any. `place` is copied. The buffers
 * are locked if that is within the budget (alloc/lock-budget.h). */
TransientPool *transient_pool_new(const TransientPlace *place, const ClassRules *rules, const Clock *clock,
				  uint64_t lock_budget_bytes, GError **error);
/* Every buffer has been given back, or left. Takes NULL; returns NULL. */
TransientPool *transient_pool_free(TransientPool *pool);

/* A buffer, empty and nobody's; NULL if none of the class is free, which is counted. */
TransientBuffer *transient_pool_borrow(TransientPool *pool, const SegmentClass *class);
/* Whatever it holds is forgotten. */
void transient_pool_give_back(TransientPool *pool, TransientBuffer *buffer);
/* Like that, but what it holds stays for the next daemon. */
void transient_pool_leave(TransientPool *pool, TransientBuffer *buffer);

void transient_pool_count_commit(TransientPool *pool, const SegmentClass *class);

/* How much of the budget they take, from when the pool is made until it is freed. `pool` may be NULL. */
uint64_t transient_pool_locked_bytes(const TransientPool *pool);

/* " buffers=5 ..." for the class's status line, or "" if it has none (g_free). `pool` may be NULL. */
char *transient_pool_describe(TransientPool *pool, const SegmentClass *class);

typedef struct TransientCounts {
	/* 0 if the class has none; then so is all the rest. */
	unsigned n_buffers;
	unsigned n_free;
	/* Of all its buffers. */
	uint64_t buffer_bytes;
	uint64_t uncommitted_bytes;
	uint64_t n_commits;
	/* Creates that were accepted when no buffer was free. */
	uint64_t n_unbuffered;
	bool locked;
} TransientCounts;

/* `pool` may be NULL. */
TransientCounts transient_pool_count(TransientPool *pool, const SegmentClass *class);
