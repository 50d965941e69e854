// SPDX-License-Identifier: Apache-2.0
#include "alloc/transient-pool.h"

#include "alloc/log-limit.h"

#define LOW_PERCENT 40

typedef struct ClassPool {
	/* Immutable. */
	const SegmentClass *class;
	unsigned n_buffers;
	TransientBuffer *buffers;
	/* Protected by the pool's lock. The one given back last is lent first: its pages are in the processor's caches. */
	TransientBuffer **free;
	unsigned n_free;
	LogLimit low_limit;
	/* Any thread. */
	atomic_uint_fast64_t uncommitted_bytes;
	atomic_uint_fast64_t n_commits;
	atomic_uint_fast64_t n_unbuffered;
} ClassPool;

struct TransientPool {
	/* Immutable. */
	const Log *log;
	const Clock *clock;
	TransientImage *image;
	ClassPool *classes;
	unsigned n_classes;
	Mutex lock;
	/* Protected by lock. */
	bool keep;
};

static void class_pool_init(ClassPool *of, TransientImage *image, const SegmentClass *class, unsigned first)
{
	*of = (ClassPool){
		.class = class,
		.n_buffers = class->transient_pool_size,
		.buffers = g_new0(TransientBuffer, class->transient_pool_size),
		.free = g_new(TransientBuffer *, class->transient_pool_size),
	};
	for (unsigned i = 0; i < of->n_buffers; i++) {
		of->buffers[i] = (TransientBuffer){
			.slot = transient_image_slot(image, first + i),
			.bytes = transient_image_buffer(image, first + i),
			.offset_bytes = transient_image_offset(image, first + i),
			.capacity_bytes = class->size_bytes,
			.n_uncommitted = &of->uncommitted_bytes,
		};
		of->free[of->n_free++] = &of->buffers[i];
	}
}

static GArray *sizes_of(const ClassRules *rules)
{
	GArray *sizes = g_array_new(FALSE, FALSE, sizeof(uint64_t));

	for (size_t i = 0; i < class_rules_count(rules); i++) {
		const SegmentClass *class = class_rules_nth(rules, i);

		for (unsigned n = 0; class->transient && n < class->transient_pool_size; n++)
			g_array_append_val(sizes, class->size_bytes);
	}
	return sizes;
}

TransientPool *transient_pool_new(const TransientPlace *place, const ClassRules *rules, const Clock *clock,
				  uint64_t lock_budget_bytes, GError **error)
{
	g_autoptr(GArray) sizes = sizes_of(rules);
	TransientImage *image;
	TransientPool *pool;
	unsigned first = 0;

	if (sizes->len == 0)
		return NULL;
	image = transient_image_new(place, (uint64_t *)(void *)sizes->data, sizes->len, lock_budget_bytes, error);
	if (!image)
		return NULL;
	pool = g_new0(TransientPool, 1);
	pool->log = place->log;
	pool->clock = clock;
	pool->image = image;
	pool->classes = g_new0(ClassPool, class_rules_count(rules));
	mutex_init(&pool->lock);
	for (size_t i = 0; i < class_rules_count(rules); i++) {
		const SegmentClass *class = class_rules_nth(rules, i);

		if (!class->transient)
			continue;
		class_pool_init(&pool->classes[pool->n_classes++], image, class, first);
		first += class->transient_pool_size;
	}
	return pool;
}

TransientPool *transient_pool_free(TransientPool *pool)
{
	if (!pool)
		return NULL;
	transient_image_close(pool->image, pool->keep);
	for (unsigned i = 0; i < pool->n_classes; i++) {
		g_free(pool->classes[i].free);
		g_free(pool->classes[i].buffers);
	}
	mutex_deinit(&pool->lock);
	g_free(pool->classes);
	g_free(pool);
	return NULL;
}

static ClassPool *find(TransientPool *pool, const SegmentClass *class)
{
	for (unsigned i = 0; i < pool->n_classes; i++)
		if (pool->classes[i].class == class)
			return &pool->classes[i];
	return NULL;
}

static void warn_if_low_locked(TransientPool *pool, ClassPool *of)
{
	unsigned n_suppressed;

	if (of->n_free * 100 >= of->n_buffers * LOW_PERCENT ||
	    !log_limit_pass(&of->low_limit, clock_now_ns(pool->clock), &n_suppressed))
		return;
	log_warning(pool->log,
		    "class %s: %u of %u transient buffers free; without one, a segment is %s; a larger "
		    "transient_pool_size= helps",
		    of->class->name, of->n_free, of->n_buffers,
		    of->class->fast_fail ? "refused (EAGAIN)" : "written directly");
}

TransientBuffer *transient_pool_borrow(TransientPool *pool, const SegmentClass *class)
{
	ClassPool *of = find(pool, class);
	TransientBuffer *buffer = NULL;

	MUTEX_SCOPE(&pool->lock);
	if (of->n_free > 0)
		buffer = of->free[--of->n_free];
	else
		atomic_fetch_add_explicit(&of->n_unbuffered, 1, memory_order_relaxed);
	warn_if_low_locked(pool, of);
	return buffer;
}

static ClassPool *owner_of(TransientPool *pool, const TransientBuffer *buffer)
{
	for (unsigned i = 0; i < pool->n_classes; i++) {
		ClassPool *of = &pool->classes[i];

		if (buffer >= of->buffers && buffer < of->buffers + of->n_buffers)
			return of;
	}
	g_assert_not_reached();
}

void transient_pool_give_back(TransientPool *pool, TransientBuffer *buffer)
{
	ClassPool *of = owner_of(pool, buffer);

	transient_buffer_disown(buffer);
	MUTEX_SCOPE(&pool->lock);
	of->free[of->n_free++] = buffer;
}

void transient_pool_leave(TransientPool *pool, TransientBuffer *buffer)
{
	(void)buffer;
	MUTEX_SCOPE(&pool->lock);
	pool->keep = true;
}

void transient_pool_count_commit(TransientPool *pool, const SegmentClass *class)
{
	atomic_fetch_add_explicit(&find(pool, class)->n_commits, 1, memory_order_relaxed);
}

uint64_t transient_pool_locked_bytes(const TransientPool *pool)
{
	return pool ? transient_image_locked_bytes(pool->image) : 0;
}

TransientCounts transient_pool_count(TransientPool *pool, const SegmentClass *class)
{
	ClassPool *of = pool ? find(pool, class) : NULL;

	if (!of)
		return (TransientCounts){ 0 };
	MUTEX_SCOPE(&pool->lock);
	return (TransientCounts){
		.n_buffers = of->n_buffers,
		.n_free = of->n_free,
		.buffer_bytes = of->n_buffers * class->size_bytes,
		.uncommitted_bytes = atomic_load_explicit(&of->uncommitted_bytes, memory_order_relaxed),
		.n_commits = atomic_load_explicit(&of->n_commits, memory_order_relaxed),
		.n_unbuffered = atomic_load_explicit(&of->n_unbuffered, memory_order_relaxed),
		.locked = transient_pool_locked_bytes(pool) > 0,
	};
}

char *transient_pool_describe(TransientPool *pool, const SegmentClass *class)
{
	TransientCounts counts = transient_pool_count(pool, class);

	if (counts.n_buffers == 0)
		return g_strdup("");
	return g_strdup_printf(" buffers=%u buffers_free=%u uncommitted_bytes=%" G_GUINT64_FORMAT
			       " commits=%" G_GUINT64_FORMAT " unbuffered=%" G_GUINT64_FORMAT " buffers_locked=%d",
			       counts.n_buffers, counts.n_free, (guint64)counts.uncommitted_bytes,
			       (guint64)counts.n_commits, (guint64)counts.n_unbuffered, counts.locked);
}
