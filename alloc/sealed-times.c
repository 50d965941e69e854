// SPDX-License-Identifier: Apache-2.0
#include "alloc/sealed-times.h"

#include "alloc/file-identity.h"

typedef struct SealedFile {
	dev_t dev;
	ino_t ino;
	/* The file's own. */
	struct timespec mtime;
	struct timespec ctime;
	struct timespec seen_ctime;
	/* Its place in the order. */
	GList link;
} SealedFile;

struct SealedTimes {
	/* The files are their own keys. */
	GHashTable *by_identity;
	/* The oldest first. */
	GQueue order;
};

static guint identity_hash(gconstpointer key)
{
	const SealedFile *file = key;

	return file_identity_hash(file->dev, file->ino);
}

static gboolean identity_equal(gconstpointer a, gconstpointer b)
{
	const SealedFile *one = a, *other = b;

	return one->ino == other->ino && one->dev == other->dev;
}

SealedTimes *sealed_times_new(void)
{
	SealedTimes *times = g_new0(SealedTimes, 1);

	times->by_identity = g_hash_table_new_full(identity_hash, identity_equal, g_free, NULL);
	g_queue_init(&times->order);
	return times;
}

SealedTimes *sealed_times_free(SealedTimes *times)
{
	if (!times)
		return NULL;
	g_hash_table_unref(times->by_identity);
	g_free(times);
	return NULL;
}

static SealedFile *find(const SealedTimes *times, const struct stat *attr)
{
	SealedFile key = { .dev = attr->st_dev, .ino = attr->st_ino };

	return g_hash_table_lookup(times->by_identity, &key);
}

static void forget(SealedTimes *times, SealedFile *file)
{
	g_queue_unlink(&times->order, &file->link);
	g_hash_table_remove(times->by_identity, file);
}

void sealed_times_add(SealedTimes *times, const struct stat *now, struct timespec seen_ctime)
{
	SealedFile *file = find(times, now);

	if (file)
		forget(times, file);
	else if (times->order.length >= SEALED_TIMES_MAX)
		forget(times, times->order.head->data);
	file = g_new(SealedFile, 1);
	*file = (SealedFile){ .dev = now->st_dev, .ino = now->st_ino, .mtime = now->st_mtim, .ctime = now->st_ctim,
			      .seen_ctime = seen_ctime, .link.data = file };
	g_queue_push_tail_link(&times->order, &file->link);
	g_hash_table_add(times->by_identity, file);
}

void sealed_times_show(const SealedTimes *times, struct stat *attr)
{
	const SealedFile *file = find(times, attr);

	if (file && is_same_time(attr->st_ctim, file->ctime) && is_same_time(attr->st_mtim, file->mtime))
		attr->st_ctim = file->seen_ctime;
}
