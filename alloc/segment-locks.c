// SPDX-License-Identifier: Apache-2.0
#include "alloc/segment-locks.h"

#include <errno.h>

#include "alloc/byte-size.h"
#include "alloc/lock-budget.h"
#include "alloc/sync.h"

/* The mapping of a taken segment. */
typedef struct Kept {
	dev_t dev;
	ino_t ino;
	void *map;
	size_t bytes;
} Kept;

typedef struct ClassLocks {
	const SegmentClass *class;
	/* Of Kept, the newest first. */
	GQueue kept;
	uint64_t bytes;
	bool told;
} ClassLocks;

struct SegmentLocks {
	/* Immutable. */
	const Sys *sys;
	const Log *log;
	size_t n_classes;
	Mutex lock;
	/* Protected by lock. */
	uint64_t budget_bytes;
	uint64_t bytes;
	ClassLocks *classes;
};

SegmentLocks *segment_locks_new(const ClassRules *rules, const Sys *sys, uint64_t budget_bytes, const Log *log)
{
	SegmentLocks *locks = g_new0(SegmentLocks, 1);

	locks->sys = sys;
	locks->budget_bytes = budget_bytes;
	locks->log = log;
	locks->n_classes = class_rules_count(rules);
	locks->classes = g_new0(ClassLocks, locks->n_classes);
	for (size_t i = 0; i < locks->n_classes; i++)
		locks->classes[i].class = class_rules_nth(rules, i);
	mutex_init(&locks->lock);
	return locks;
}

static ClassLocks *of_class(SegmentLocks *locks, const SegmentClass *class)
{
	for (size_t i = 0; i < locks->n_classes; i++)
		if (locks->classes[i].class == class)
			return &locks->classes[i];
	g_assert_not_reached();
}

static int take_budget(SegmentLocks *locks, const SegmentClass *class, uint64_t bytes)
{
	MUTEX_SCOPE(&locks->lock);
	if (bytes > lock_budget_left(locks->budget_bytes, locks->bytes))
		return -ENOMEM;
	locks->bytes += bytes;
	of_class(locks, class)->bytes += bytes;
	return 0;
}

static void give_budget_locked(SegmentLocks *locks, ClassLocks *of, uint64_t bytes)
{
	locks->bytes -= bytes;
	of->bytes -= bytes;
}

static void give_budget(SegmentLocks *locks, const SegmentClass *class, uint64_t bytes)
{
	MUTEX_SCOPE(&locks->lock);
	give_budget_locked(locks, of_class(locks, class), bytes);
}

/* Unlocked by being unmapped. */
static void drop(SegmentLocks *locks, ClassLocks *of, Kept *kept)
{
	locks->sys->munmap(locks->sys, kept->map, kept->bytes);
	mutex_lock(&locks->lock);
	give_budget_locked(locks, of, kept->bytes);
	mutex_unlock(&locks->lock);
	g_free(kept);
}

SegmentLocks *segment_locks_free(SegmentLocks *locks)
{
	Kept *kept;

	if (!locks)
		return NULL;
	for (size_t i = 0; i < locks->n_classes; i++)
		while ((kept = g_queue_pop_tail(&locks->classes[i].kept)))
			drop(locks, &locks->classes[i], kept);
	g_assert(locks->bytes == 0);
	mutex_deinit(&locks->lock);
	g_free(locks->classes);
	g_free(locks);
	return NULL;
}

static bool tells_first_time(SegmentLocks *locks, const SegmentClass *class, uint64_t *ret_budget_bytes)
{
	ClassLocks *of = of_class(locks, class);

	MUTEX_SCOPE(&locks->lock);
	bool first = !of->told;
	of->told = true;
	*ret_budget_bytes = locks->budget_bytes;
	return first;
}

static void fail(SegmentLocks *locks, Segment *segment, int error)
{
	const SegmentClass *class = segment->class;
	uint64_t budget_bytes;

	segment->lock_error = error;
	if (!tells_first_time(locks, class, &budget_bytes))
		return;
	g_autofree char *budget = byte_size_format(budget_bytes);
	log_failure(locks->log, WARNING, "lock", segment->name, error,
		    "class %s: cannot lock a segment in memory: %s; it is served without, as all are that lock_failures "
		    "counts. %s may be locked: see lock_budget=, RLIMIT_MEMLOCK, and the memory limit of the control group",
		    class->name, g_strerror(-error), budget);
}

/* If only a part of it could be locked, none is. */
static int lock_pages(SegmentLocks *locks, const Segment *segment)
{
	int r = locks->sys->mlock(locks->sys, segment->map, segment->map_bytes);

	if (r < 0)
		locks->sys->munlock(locks->sys, segment->map, segment->map_bytes);
	return r;
}

void segment_locks_lock(SegmentLocks *locks, Segment *segment)
{
	struct stat attr;
	int r;

	if (!locks || !segment->class->lock || !segment->map)
		return;
	r = take_budget(locks, segment->class, segment->map_bytes);
	if (r < 0) {
		fail(locks, segment, r);
		return;
	}
	r = locks->sys->fstat(locks->sys, segment->fd, &attr);
	if (r == 0)
		r = lock_pages(locks, segment);
	if (r < 0) {
		give_budget(locks, segment->class, segment->map_bytes);
		fail(locks, segment, r);
		return;
	}
	segment->locked = true;
	segment->dev = attr.st_dev;
	segment->ino = attr.st_ino;
}

/* Of those taken. Both may change at any time. */
static unsigned n_to_keep(const SegmentClass *class)
{
	return class->lock ? class->lock_active : 0;
}

void segment_locks_keep(SegmentLocks *locks, Segment *segment)
{
	Kept *kept;

	if (!locks || !segment->locked || n_to_keep(segment->class) == 0)
		return;
	kept = g_new(Kept, 1);
	*kept = (Kept){ segment->dev, segment->ino, segment->map, segment->map_bytes };
	segment->map = NULL;
	segment->map_bytes = 0;
	segment->locked = false;
	MUTEX_SCOPE(&locks->lock);
	g_queue_push_head(&of_class(locks, segment->class)->kept, kept);
}

static Kept *next_pushed_out(SegmentLocks *locks, ClassLocks *of)
{
	MUTEX_SCOPE(&locks->lock);
	return of->kept.length > n_to_keep(of->class) ? g_queue_pop_tail(&of->kept) : NULL;
}

static void trim_class(SegmentLocks *locks, ClassLocks *of)
{
	Kept *kept;

	while ((kept = next_pushed_out(locks, of)))
		drop(locks, of, kept);
}

void segment_locks_unmap(SegmentLocks *locks, const Sys *sys, Segment *segment)
{
	if (segment->map)
		sys->munmap(sys, segment->map, segment->map_bytes);
	segment->map = NULL;
	if (!locks)
		return;
	if (segment->locked)
		give_budget(locks, segment->class, segment->map_bytes);
	segment->locked = false;
	trim_class(locks, of_class(locks, segment->class));
}

void segment_locks_set_budget(SegmentLocks *locks, uint64_t budget_bytes)
{
	if (!locks)
		return;
	MUTEX_SCOPE(&locks->lock);
	if (locks->budget_bytes == budget_bytes)
		return;
	locks->budget_bytes = budget_bytes;
	for (size_t i = 0; i < locks->n_classes; i++)
		locks->classes[i].told = false;
}

static Kept *next_over_budget(SegmentLocks *locks, ClassLocks *of)
{
	MUTEX_SCOPE(&locks->lock);
	return locks->bytes > locks->budget_bytes ? g_queue_pop_tail(&of->kept) : NULL;
}

/* The oldest of each class in turn. */
static void trim_to_budget(SegmentLocks *locks)
{
	bool found = true;

	while (found) {
		found = false;
		for (size_t i = 0; i < locks->n_classes; i++) {
			Kept *kept = next_over_budget(locks, &locks->classes[i]);

			if (kept)
				drop(locks, &locks->classes[i], kept);
			found = found || kept;
		}
	}
}

void segment_locks_trim(SegmentLocks *locks)
{
	if (!locks)
		return;
	for (size_t i = 0; i < locks->n_classes; i++)
		trim_class(locks, &locks->classes[i]);
	trim_to_budget(locks);
}

static Kept *steal(SegmentLocks *locks, ClassLocks *of, dev_t dev, ino_t ino)
{
	MUTEX_SCOPE(&locks->lock);
	for (GList *link = of->kept.head; link; link = link->next) {
		Kept *kept = link->data;

		if (kept->ino == ino && kept->dev == dev) {
			g_queue_delete_link(&of->kept, link);
			return kept;
		}
	}
	return NULL;
}

void segment_locks_let_go(SegmentLocks *locks, dev_t dev, ino_t ino)
{
	for (size_t i = 0; locks && i < locks->n_classes; i++) {
		Kept *kept = steal(locks, &locks->classes[i], dev, ino);

		if (kept)
			drop(locks, &locks->classes[i], kept);
	}
}

uint64_t segment_locks_bytes(SegmentLocks *locks, const SegmentClass *class)
{
	if (!locks)
		return 0;
	MUTEX_SCOPE(&locks->lock);
	return of_class(locks, class)->bytes;
}
