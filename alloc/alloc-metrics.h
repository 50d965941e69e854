/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a class has counted. Counters only grow, relaxed atomics: they order nothing. A snapshot is consistent
 * enough to read, not to balance.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

typedef enum AllocCounter {
	/* Creates that got a segment of the class. */
	ALLOC_TAKEN,
	/* Creates served from the pool at once, and those for which nothing was ready. */
	ALLOC_HITS,
	ALLOC_MISSES,
	/* Creates that had to wait, whatever came of it: those missed, and those joined. */
	ALLOC_WAITS,
	ALLOC_WAIT_US,
	/* How the waits ended that got no warmed segment. Of the timeouts, some came early: open segments used up the
	 * quota. */
	ALLOC_TIMEOUTS,
	ALLOC_OVER_QUOTA,
	ALLOC_CANCELLED,
	ALLOC_FAILED,
	/* Waits that joined an earlier one for the same path. */
	ALLOC_JOINED,
	/*
	 * Segments made for a request that had ended before they were ready; the next waiter got them, or the pool.
	 * Expired: the waiter was gone, timed out or interrupted, and nobody else wants that path. Superseded:
	 * another request has taken its place, because the waiter of the same path that comes next went on waiting, or
	 * because the waiter was served with another segment before.
	 */
	ALLOC_EXPIRED,
	ALLOC_SUPERSEDED,
	/* Segments made, and found at start. */
	ALLOC_PREPARED,
	ALLOC_ADOPTED,
	/* Segments made of files that applications had removed; and how many such files the pool wanted, but somebody
	 * had them open, or they could not be made so. */
	ALLOC_RECYCLED,
	ALLOC_NOT_RECYCLED,
	/* Of all of them, the ones that took longer than slow_ms=. */
	ALLOC_SLOW,
	/* Attempts to make one that failed. */
	ALLOC_ERRORS,
	/* Ready segments given up for space. */
	ALLOC_GAVE_WAY,
	/* Segments that are ready, but not locked in memory as their class wants. */
	ALLOC_LOCK_FAILURES,
	_ALLOC_COUNTER_MAX,
} AllocCounter;

const char *alloc_counter_name(AllocCounter counter);

typedef struct AllocCounters {
	atomic_uint_fast64_t values[_ALLOC_COUNTER_MAX];
} AllocCounters;

static inline void alloc_counters_add(AllocCounters *counters, AllocCounter counter, uint64_t n)
{
	atomic_fetch_add_explicit(&counters->values[counter], n, memory_order_relaxed);
}

static inline uint64_t alloc_counters_get(const AllocCounters *counters, AllocCounter counter)
{
	return atomic_load_explicit(&counters->values[counter], memory_order_relaxed);
}
