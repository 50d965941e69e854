// SPDX-License-Identifier: Apache-2.0
#include "alloc/segment-pool.h"

#define PAUSE_NS     INT64_C(100000000)
#define REST_NS	     INT64_C(1000000000)
#define PAUSE_MAX_NS INT64_C(10000000000)
/* Doublings after which the longest pause is reached. */
#define PAUSE_MAX_DOUBLINGS 10

void segment_pool_init(SegmentPool *pool, const SegmentClass *class)
{
	*pool = (SegmentPool){ .class = class };
	g_queue_init(&pool->ready);
}

void segment_pool_deinit(SegmentPool *pool)
{
	g_assert(g_queue_is_empty(&pool->ready));
}

Segment *segment_pool_take(SegmentPool *pool)
{
	return g_queue_pop_head(&pool->ready);
}

void segment_pool_put(SegmentPool *pool, Segment *segment)
{
	g_queue_push_tail(&pool->ready, segment);
}

unsigned segment_pool_ready(const SegmentPool *pool)
{
	return pool->ready.length;
}

bool segment_pool_has_room(const SegmentPool *pool)
{
	const SegmentClass *class = pool->class;

	return !class->quota_bytes || segment_pool_ready(pool) < class->quota_bytes / class->size_bytes;
}

unsigned segment_pool_lacks(const SegmentPool *pool, int64_t now_ns)
{
	const SegmentClass *class = pool->class;
	unsigned have = segment_pool_ready(pool) + pool->n_coming;
	unsigned want = class->ahead;

	if (now_ns < pool->resume_ns)
		return 0;
	if (class->quota_bytes)
		want = MIN(want, class->quota_bytes / class->size_bytes);
	return want > have ? want - have : 0;
}

void segment_pool_pause(SegmentPool *pool, int64_t now_ns)
{
	int64_t pause_ns = PAUSE_NS << MIN(pool->n_failures, PAUSE_MAX_DOUBLINGS);

	pool->n_failures++;
	pool->resume_ns = now_ns + MIN(pause_ns, PAUSE_MAX_NS);
}

void segment_pool_rest(SegmentPool *pool, int64_t now_ns)
{
	pool->resume_ns = MAX(pool->resume_ns, now_ns + REST_NS);
}

bool segment_pool_recover(SegmentPool *pool)
{
	if (pool->n_failures == 0)
		return false;
	pool->n_failures = 0;
	pool->resume_ns = 0;
	return true;
}
