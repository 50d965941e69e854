/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long something took, many times: a histogram by powers of two. Bucket n counts what took at most 2^n
 * microseconds, and more than the bucket before; the last one, all that took longer. A plain value: whoever keeps one
 * locks, and a copy is a snapshot.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define ALLOC_TIMES_BUCKETS 32

typedef struct AllocTimes {
	uint64_t counts[ALLOC_TIMES_BUCKETS];
	uint64_t sum_us;
} AllocTimes;

/* The same for many threads, without a lock: relaxed atomics, whose snapshot is good enough to read. */
typedef struct AllocTimesShared {
	atomic_uint_fast64_t counts[ALLOC_TIMES_BUCKETS];
	atomic_uint_fast64_t sum_us;
} AllocTimesShared;

void alloc_times_shared_add(AllocTimesShared *times, uint64_t us);
AllocTimes alloc_times_shared_read(const AllocTimesShared *times);

void alloc_times_add(AllocTimes *times, uint64_t us);
uint64_t alloc_times_count(const AllocTimes *times);

/* The largest time that bucket n counts; of the last one, the largest of the one before. */
uint64_t alloc_times_bound_us(unsigned bucket);

/* What that many of a hundred took at most, as far as the buckets tell. 0 if there is none. */
uint64_t alloc_times_percentile_us(const AllocTimes *times, unsigned percent);
