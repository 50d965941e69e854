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
	/* Creates served from the pool at once ... */
	ALLOC_HITS,
	/* ... and those that had to wait, whatever came of it. */
	ALLOC_WAITS,
	ALLOC_WAIT_US,
	/* How the waits ended that got no warmed segment. */
	ALLOC_TIMEOUTS,
	ALLOC_CANCELLED,
	ALLOC_FAILED,
	/* Waits that joined an earlier one for the same path. */
	ALLOC_JOINED,
	/* Segments whose request had ended before they were ready; they went to the pool. */
	ALLOC_EXPIRED,
	/* Segments made, and found at start. */
	ALLOC_PREPARED,
	ALLOC_ADOPTED,
	/* Attempts to make one that failed. */
	ALLOC_ERRORS,
	/* Ready segments given up for space. */
	ALLOC_GAVE_WAY,
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

static inline uint64_t alloc_counters_get(AllocCounters *counters, AllocCounter counter)
{
	return atomic_load_explicit(&counters->values[counter], memory_order_relaxed);
}
