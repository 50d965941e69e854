// SPDX-License-Identifier: Apache-2.0
#include "alloc/alloc-times.h"

#include <glib.h>

static unsigned bucket_of(uint64_t us)
{
	unsigned bits = us > 1 ? 64 - __builtin_clzll(us - 1) : 0;

	return MIN(bits, ALLOC_TIMES_BUCKETS - 1);
}

void alloc_times_add(AllocTimes *times, uint64_t us)
{
	times->counts[bucket_of(us)]++;
	times->sum_us += us;
}

void alloc_times_shared_add(AllocTimesShared *times, uint64_t us)
{
	atomic_fetch_add_explicit(&times->counts[bucket_of(us)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&times->sum_us, us, memory_order_relaxed);
}

AllocTimes alloc_times_shared_read(const AllocTimesShared *times)
{
	AllocTimes copy = { .sum_us = atomic_load_explicit(&times->sum_us, memory_order_relaxed) };

	for (unsigned i = 0; i < ALLOC_TIMES_BUCKETS; i++)
		copy.counts[i] = atomic_load_explicit(&times->counts[i], memory_order_relaxed);
	return copy;
}

uint64_t alloc_times_count(const AllocTimes *times)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < ALLOC_TIMES_BUCKETS; i++)
		count += times->counts[i];
	return count;
}

uint64_t alloc_times_bound_us(unsigned bucket)
{
	return UINT64_C(1) << MIN(bucket, ALLOC_TIMES_BUCKETS - 2);
}

uint64_t alloc_times_percentile_us(const AllocTimes *times, unsigned percent)
{
	/* The rank, rounded up: of three, the median is the second. */
	uint64_t rank = (alloc_times_count(times) * percent + 99) / 100;
	uint64_t seen = 0;

	if (rank == 0)
		return 0;
	for (unsigned i = 0; i < ALLOC_TIMES_BUCKETS; i++) {
		seen += times->counts[i];
		if (seen >= rank)
			return alloc_times_bound_us(i);
	}
	g_assert_not_reached();
}
