// SPDX-License-Identifier: Apache-2.0
#include "alloc/live-set.h"

#include <errno.h>
#include <string.h>

#include "alloc/file-identity.h"
#include "alloc/live-buffer.h"
#include "alloc/sealed-times.h"

struct LiveSet {
	/* Immutable. */
	LivePlace place;
	pthread_t sealer;
	bool sealer_runs;
	Mutex lock;
	/* For the sealer: something has become due, or may have. */
	Cond wake;
	/* For those who would open a segment: its reservation was given back, or not. */
	Cond released;
	/* Protected by lock. */
	bool stopping;
	/* The segments are their own keys. */
	GHashTable *by_identity;
	/* SegmentClass -> how many of it were sealed. */
	GHashTable *n_sealed;
	SealedTimes *sealed_times;
};

static guint identity_hash(gconstpointer key)
{
	const LiveSegment *live = key;

	return file_identity_hash(live->dev, live->ino);
}

static gboolean identity_equal(gconstpointer a, gconstpointer b)
{
	const LiveSegment *one = a, *other = b;

	return one->ino == other->ino && one->dev == other->dev;
}

LiveSet *live_set_new(const LivePlace *place)
{
	LiveSet *set = g_new0(LiveSet, 1);

	set->place = *place;
	mutex_init(&set->lock);
	cond_init(&set->wake);
	cond_init(&set->released);
	set->by_identity = g_hash_table_new(identity_hash, identity_equal);
	set->n_sealed = g_hash_table_new(NULL, NULL);
	set->sealed_times = sealed_times_new();
	return set;
}

/* Later again if it fails: the segment stays live, and loses nothing. */
#define RETRY_NS INT64_C(1000000000)

/* Nobody opens it from here on. */
static bool begin_sealing(LiveSet *set, LiveSegment *live)
{
	MUTEX_SCOPE(&set->lock);
	live->sealing = live->n_users == 1;
	return live->sealing;
}

static int release_reservation(LiveSet *set, LiveSegment *live)
{
	live_segment_start_write_back(live);
	return begin_sealing(set, live) ? live_segment_seal(live) : -EBUSY;
}

/* It is not live any more, and nobody holds it. The caller frees it. */
static void forget_locked(LiveSet *set, LiveSegment *live)
{
	gpointer class = (gpointer)live->class;
	gsize n_sealed = GPOINTER_TO_SIZE(g_hash_table_lookup(set->n_sealed, class));
	struct timespec seen_ctime;
	struct stat attr;

	if (live_segment_hides_ctime(live, &attr, &seen_ctime))
		sealed_times_add(set->sealed_times, &attr, seen_ctime);
	g_hash_table_insert(set->n_sealed, class, GSIZE_TO_POINTER(n_sealed + 1));
	g_hash_table_remove(set->by_identity, live);
}

static void seal(LiveSet *set, LiveSegment *live)
{
	int r = live->reserved_only ? release_reservation(set, live) : live_segment_seal(live);

	/* That somebody has it open is no harm; it costs him and us nothing but the room. */
	if (r < 0 && r != -EBUSY)
		log_failure(set->place.log, WARNING, "seal", live->name, r,
			    "seal %s: %s; tried again later, at the latest when mounting again", live->name,
			    g_strerror(-r));
	mutex_lock(&set->lock);
	live->n_users--;
	live->sealing = false;
	cond_broadcast(&set->released);
	if (r == 0 && live->n_users == 0) {
		forget_locked(set, live);
		live_segment_free(live);
	} else if (r < 0) {
		live->superseded = false;
		live->seal_ns = monotonic_ns() + RETRY_NS;
	}
	mutex_unlock(&set->lock);
}

/* The next one to be sealed, held, or NULL and when to look again. */
static LiveSegment *pick_locked(LiveSet *set, int64_t *ret_next_ns)
{
	int64_t now_ns = monotonic_ns();
	GHashTableIter iter;
	gpointer key;

	*ret_next_ns = DEADLINE_NEVER;
	g_hash_table_iter_init(&iter, set->by_identity);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		LiveSegment *live = key;

		if (live->n_users > 0)
			continue;
		if (live->superseded || live->seal_ns <= now_ns) {
			live->n_users++;
			return live;
		}
		*ret_next_ns = MIN(*ret_next_ns, live->seal_ns);
	}
	return NULL;
}

static void *sealer_run(void *arg)
{
	LiveSet *set = arg;
	int64_t next_ns;

	mutex_lock(&set->lock);
	while (!set->stopping) {
		LiveSegment *live = pick_locked(set, &next_ns);

		if (!live) {
			cond_wait_until(&set->wake, &set->lock, next_ns);
			continue;
		}
		mutex_unlock(&set->lock);
		seal(set, live);
		mutex_lock(&set->lock);
	}
	mutex_unlock(&set->lock);
	return NULL;
}

int live_set_start(LiveSet *set)
{
	int r = thread_start(&set->sealer, "warmfs-seal", sealer_run, set);

	set->sealer_runs = r == 0;
	return r;
}

static gboolean seal_each(gpointer key, gpointer value, gpointer arg)
{
	LiveSegment *live = key;
	LiveSet *set = arg;
	int r = live_segment_seal(live);

	(void)value;
	if (r < 0) {
		if (r != -EBUSY)
			log_failure(set->place.log, WARNING, "seal", live->name, r,
				    "seal %s: %s; it is done when mounting again", live->name, g_strerror(-r));
		/* Its record has to stay for that. */
		live->index = -1;
	}
	live_segment_free(live);
	return TRUE;
}

LiveSet *live_set_free(LiveSet *set)
{
	if (!set)
		return NULL;
	mutex_lock(&set->lock);
	set->stopping = true;
	cond_signal(&set->wake);
	mutex_unlock(&set->lock);
	if (set->sealer_runs)
		pthread_join(set->sealer, NULL);
	g_hash_table_foreach_remove(set->by_identity, seal_each, set);
	sealed_times_free(set->sealed_times);
	g_hash_table_unref(set->n_sealed);
	g_hash_table_unref(set->by_identity);
	cond_deinit(&set->released);
	cond_deinit(&set->wake);
	mutex_deinit(&set->lock);
	g_free(set);
	return NULL;
}

static void supersede_locked(LiveSet *set, const SegmentClass *class)
{
	GHashTableIter iter;
	gpointer key;

	g_hash_table_iter_init(&iter, set->by_identity);
	while (g_hash_table_iter_next(&iter, &key, NULL))
		if (((LiveSegment *)key)->class == class)
			((LiveSegment *)key)->superseded = true;
	cond_signal(&set->wake);
}

int live_set_add(LiveSet *set, const Segment *segment, LiveSegment **ret_live)
{
	LiveSegment *live;
	int r = live_segment_new(&set->place, segment, &live);

	if (r < 0)
		return r;
	MUTEX_SCOPE(&set->lock);
	supersede_locked(set, segment->class);
	live->n_users = 1;
	g_hash_table_add(set->by_identity, live);
	*ret_live = live;
	return 0;
}

void live_set_drop(LiveSet *set, LiveSegment *live)
{
	bool gone;

	mutex_lock(&set->lock);
	/* Its segment may be published under another name at any moment: whoever has it still, as he who commits all
	 * buffers may, must leave nothing of it here, nor have it sealed. */
	g_hash_table_remove(set->by_identity, live);
	live->dropped = true;
	gone = --live->n_users == 0;
	mutex_unlock(&set->lock);
	if (gone)
		live_segment_free(live);
}

static LiveSegment *find_locked(LiveSet *set, dev_t dev, ino_t ino)
{
	LiveSegment key = { .dev = dev, .ino = ino };

	return g_hash_table_lookup(set->by_identity, &key);
}

const SegmentClass *live_set_class_of(LiveSet *set, dev_t dev, ino_t ino)
{
	MUTEX_SCOPE(&set->lock);
	const LiveSegment *live = find_locked(set, dev, ino);

	return live && atomic_load(&live->named) ? live->class : NULL;
}

static LiveSegment *open_locked(LiveSet *set, dev_t dev, ino_t ino)
{
	LiveSegment *live;

	while ((live = find_locked(set, dev, ino)) && live->sealing)
		cond_wait(&set->released, &set->lock);
	/* Not at the last close, which the kernel tells us of while it still holds the file. */
	if (live && live->n_users++ == 0 && !live->reserved_only)
		live_segment_recheck_mappings(live);
	return live;
}

LiveSegment *live_set_open(LiveSet *set, dev_t dev, ino_t ino)
{
	MUTEX_SCOPE(&set->lock);
	return open_locked(set, dev, ino);
}

/* Who would open it meanwhile waits. */
static void cut_removed_locked(LiveSet *set, LiveSegment *live)
{
	int r;

	live->sealing = true;
	mutex_unlock(&set->lock);
	r = live_segment_cut(live);
	if (r < 0)
		log_failure(set->place.log, WARNING, "cut", live->name, r,
			    "cut %s, which was removed: %s; who has it open by /proc sees what is behind its end",
			    live->name, g_strerror(-r));
	mutex_lock(&set->lock);
	live->sealing = false;
	cond_broadcast(&set->released);
}

/* Lets go of a hold. The linger time begins anew if the file was open. */
static void let_go(LiveSet *set, LiveSegment *live, bool was_open)
{
	bool gone = false;

	mutex_lock(&set->lock);
	if (was_open)
		live->seal_ns = monotonic_ns() + (int64_t)live->class->linger_ms * 1000000;
	if (live->removed && live->n_users == 1)
		cut_removed_locked(set, live);
	if (--live->n_users == 0) {
		/* Sealed already, or removed: nothing is to be done about it any more. */
		gone = live->dropped || !live_segment_is_named(live);
		cond_signal(&set->wake);
	}
	if (gone && !live->dropped)
		forget_locked(set, live);
	mutex_unlock(&set->lock);
	if (gone)
		live_segment_free(live);
}

void live_set_close(LiveSet *set, LiveSegment *live)
{
	let_go(set, live, true);
}

int live_set_seal(LiveSet *set, dev_t dev, ino_t ino)
{
	LiveSegment *live = live_set_open(set, dev, ino);
	int r;

	if (!live)
		return -ENOENT;
	r = live->reserved_only ? release_reservation(set, live) : live_segment_seal(live);
	mutex_lock(&set->lock);
	live->sealing = false;
	cond_broadcast(&set->released);
	mutex_unlock(&set->lock);
	let_go(set, live, false);
	return r;
}

void live_set_published(LiveSet *set, LiveSegment *live)
{
	if (live_segment_lacks_record(live)) {
		int r = live_segment_seal(live);

		log_failure(set->place.log, WARNING, "seal", live->name, r,
			    "live table: full (%d open segments): %s is an ordinary file%s%s",
			    LIVE_TABLE_RECORDS, live->name,
			    r < 0 ? ", but cannot be made one: " : "", r < 0 ? g_strerror(-r) : "");
	}
	live_set_close(set, live);
}

LiveCounts live_set_count(LiveSet *set, const SegmentClass *class)
{
	LiveCounts counts = { 0 };
	GHashTableIter iter;
	gpointer key;

	MUTEX_SCOPE(&set->lock);
	g_hash_table_iter_init(&iter, set->by_identity);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		const LiveSegment *live = key;

		if (live->class != class || !atomic_load(&live->named))
			continue;
		counts.n_live++;
		counts.live_bytes += live->capacity_bytes;
	}
	counts.n_sealed = GPOINTER_TO_SIZE(g_hash_table_lookup(set->n_sealed, class));
	return counts;
}

uint64_t live_set_bytes(LiveSet *set, const SegmentClass *class)
{
	return live_set_count(set, class).live_bytes;
}

void live_set_visit(LiveSet *set, void (*visit)(void *arg, LiveSegment *live), void *arg)
{
	g_autofree LiveSegment **held = NULL;
	unsigned n_held = 0;
	GHashTableIter iter;
	gpointer key;

	mutex_lock(&set->lock);
	held = g_new(LiveSegment *, g_hash_table_size(set->by_identity));
	g_hash_table_iter_init(&iter, set->by_identity);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		LiveSegment *live = key;

		if (!live->class->transient || live->reserved_only)
			continue;
		live->n_users++;
		held[n_held++] = live;
	}
	mutex_unlock(&set->lock);
	for (unsigned i = 0; i < n_held; i++) {
		visit(arg, held[i]);
		let_go(set, held[i], false);
	}
}

int live_set_settle(LiveSet *set, dev_t dev, ino_t ino)
{
	LiveSegment *live = live_set_open(set, dev, ino);
	int r;

	if (!live)
		return 0;
	r = live_buffer_settle_times(live);
	let_go(set, live, false);
	return r;
}

bool live_set_patch(LiveSet *set, struct stat *attr)
{
	LiveSegment *live;
	struct stat current;

	mutex_lock(&set->lock);
	live = open_locked(set, attr->st_dev, attr->st_ino);
	if (!live)
		sealed_times_show(set->sealed_times, attr);
	mutex_unlock(&set->lock);
	if (!live)
		return false;
	if (live_segment_stat(live, &current) == 0)
		*attr = current;
	let_go(set, live, false);
	return true;
}

void live_set_unlinked(LiveSet *set, dev_t dev, ino_t ino, bool may_be_opened)
{
	LiveSegment *live = live_set_open(set, dev, ino);
	struct stat attr = { .st_nlink = 1 };

	if (!live)
		return;
	if (live_segment_stat(live, &attr) == 0 && attr.st_nlink == 0) {
		live_segment_finish(live);
		mutex_lock(&set->lock);
		live->removed = may_be_opened;
		mutex_unlock(&set->lock);
	}
	let_go(set, live, false);
}
