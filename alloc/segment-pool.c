// SPDX-License-Identifier: Apache-2.0
#include "alloc/segment-pool.h"

#include "alloc/sync.h"

#define PAUSE_NS     INT64_C(100000000)
#define REST_NS	     INT64_C(1000000000)
#define PAUSE_MAX_NS INT64_C(10000000000)
/* Doublings after which the longest pause is reached. */
#define PAUSE_MAX_DOUBLINGS 10

#define DEPTH_PERIOD_NS INT64_C(60000000000)

void segment_pool_init(SegmentPool *pool, const SegmentClass *class)
{
	*pool = (SegmentPool){ .class = class, .depth = class->ahead };
	if (class->ahead_auto)
		pool->depth = MIN(class->ahead, class->max_ahead);
	g_queue_init(&pool->ready);
	g_queue_init(&pool->recycled);
}

void segment_pool_deinit(SegmentPool *pool)
{
	g_assert(g_queue_is_empty(&pool->ready));
	g_assert(g_queue_is_empty(&pool->recycled));
}

Segment *segment_pool_take(SegmentPool *pool)
{
	Segment *segment = g_queue_pop_head(&pool->ready);

	pool->least_ready = MIN(pool->least_ready, segment_pool_ready(pool));
	return segment;
}

void segment_pool_put(SegmentPool *pool, Segment *segment)
{
	g_queue_push_tail(&pool->ready, segment);
	if (segment_pool_ready(pool) >= pool->depth)
		pool->was_full = true;
}

unsigned segment_pool_ready(const SegmentPool *pool)
{
	return pool->ready.length;
}

/* A taken one is replaced when whoever has it is done: preparing would slow its publishing. */
static unsigned have(const SegmentPool *pool)
{
	return segment_pool_ready(pool) + pool->n_coming + pool->n_out;
}

static uint64_t used_of_quota(const SegmentPool *pool, uint64_t live_bytes)
{
	return have(pool) + pool->n_promised + live_bytes / pool->class->size_bytes;
}

unsigned segment_pool_room(const SegmentPool *pool, uint64_t live_bytes)
{
	const SegmentClass *class = pool->class;
	uint64_t used = used_of_quota(pool, live_bytes);
	uint64_t allowed = class->quota_bytes / class->size_bytes;

	if (!class->quota_bytes)
		return UINT_MAX;
	return allowed > used ? MIN(allowed - used, UINT_MAX) : 0;
}

bool segment_pool_is_used_up(const SegmentPool *pool, uint64_t live_bytes)
{
	const SegmentClass *class = pool->class;

	return class->quota_bytes && live_bytes / class->size_bytes >= class->quota_bytes / class->size_bytes;
}

unsigned segment_pool_wants(const SegmentPool *pool, int64_t now_ns)
{
	if (pool->drained || now_ns < pool->resume_ns)
		return 0;
	return pool->depth > have(pool) ? pool->depth - have(pool) : 0;
}

unsigned segment_pool_lacks(const SegmentPool *pool, uint64_t live_bytes, int64_t now_ns)
{
	return MIN(segment_pool_wants(pool, now_ns), segment_pool_room(pool, live_bytes));
}

static unsigned most_recycled(const SegmentPool *pool, uint64_t live_bytes)
{
	return pool->drained ? 0 : MIN(pool->depth, segment_pool_room(pool, live_bytes));
}

bool segment_pool_wants_recycled(const SegmentPool *pool, uint64_t live_bytes, int64_t now_ns)
{
	return now_ns >= pool->resume_ns &&
	       most_recycled(pool, live_bytes) > pool->n_recycling + pool->recycled.length;
}

Segment *segment_pool_shed_recycled(SegmentPool *pool, uint64_t live_bytes)
{
	if (pool->recycled.length <= most_recycled(pool, live_bytes))
		return NULL;
	return g_queue_pop_tail(&pool->recycled);
}

static int compare(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

int segment_pool_compare_need(const SegmentPool *a, const SegmentPool *b)
{
	int order = compare((uint64_t)have(a) * b->depth, (uint64_t)have(b) * a->depth);

	if (order == 0)
		order = compare(a->last_turn, b->last_turn);
	return order ? order : compare(b->class->size_bytes, a->class->size_bytes);
}

void segment_pool_missed(SegmentPool *pool)
{
	pool->drained = false;
	if (!pool->class->ahead_auto || !pool->was_full || pool->depth >= pool->class->max_ahead)
		return;
	pool->depth++;
	pool->was_full = false;
}

/* What is too much is the one that would be taken last. */
static Segment *shrink(SegmentPool *pool)
{
	pool->depth--;
	return segment_pool_ready(pool) > pool->depth ? g_queue_pop_tail(&pool->ready) : NULL;
}

int64_t segment_pool_mind_depth(SegmentPool *pool, int64_t now_ns, Segment **ret_left_over)
{
	*ret_left_over = NULL;
	if (!pool->class->ahead_auto)
		return DEADLINE_NEVER;
	if (now_ns < pool->period_end_ns)
		return pool->period_end_ns;
	if (pool->depth > 1 && pool->least_ready > pool->depth / 2)
		*ret_left_over = shrink(pool);
	pool->least_ready = segment_pool_ready(pool);
	pool->period_end_ns = now_ns + DEPTH_PERIOD_NS;
	return pool->period_end_ns;
}

void segment_pool_drain(SegmentPool *pool)
{
	pool->drained = true;
}

void segment_pool_fill(SegmentPool *pool)
{
	pool->drained = false;
	pool->resume_ns = 0;
}

void segment_pool_adjust(SegmentPool *pool)
{
	const SegmentClass *class = pool->class;
	unsigned before = pool->depth;

	/* With auto it goes on from where it is. */
	pool->depth = class->ahead_auto ? CLAMP(before, 1, class->max_ahead) : class->ahead;
	pool->was_cut = pool->depth < before || (pool->was_cut && pool->depth == before);
}

bool segment_pool_is_full(const SegmentPool *pool, uint64_t live_bytes)
{
	return (pool->was_cut && segment_pool_ready(pool) >= pool->depth) || segment_pool_room(pool, live_bytes) == 0;
}

Segment *segment_pool_shed(SegmentPool *pool, uint64_t live_bytes)
{
	uint64_t quota_bytes = pool->class->quota_bytes;
	bool over_quota = quota_bytes && used_of_quota(pool, live_bytes) > quota_bytes / pool->class->size_bytes;

	if (!over_quota && !(pool->was_cut && segment_pool_ready(pool) > pool->depth))
		return NULL;
	pool->least_ready = MIN(pool->least_ready, MAX(segment_pool_ready(pool), 1) - 1);
	return g_queue_pop_tail(&pool->ready);
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
	bool was_degraded = pool->error != 0;

	pool->error = 0;
	if (pool->n_failures > 0)
		pool->resume_ns = 0;
	pool->n_failures = 0;
	return was_degraded;
}
