/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A class says which new files get segments, of what kind and size, and how many are kept ahead.
 *
 * Built by one thread, and from then on readable from any without a lock: it is immutable, but for the atomic fields and
 * for `given` (alloc/class-change.h).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/given-options.h"
#include "alloc/glob.h"

typedef enum SegmentKind {
	/* Born with its full size, every block zero-written, page cache warm. */
	SEGMENT_KIND_MAPPED,
	/* Born empty, over as many zero-written blocks and warm pages as a `mapped` one has. */
	SEGMENT_KIND_APPEND,
	/* Born empty, with blocks reserved beyond the end of the file. */
	SEGMENT_KIND_STREAM,
	_SEGMENT_KIND_MAX,
	_SEGMENT_KIND_INVALID = -1,
} SegmentKind;

/* Whether a ready segment of the kind has its full size. */
static inline bool segment_kind_is_full(SegmentKind kind)
{
	return kind == SEGMENT_KIND_MAPPED || kind == SEGMENT_KIND_APPEND;
}

/* NULL if `kind` is none of the above. */
const char *segment_kind_to_string(SegmentKind kind);
/* _SEGMENT_KIND_INVALID if there is no kind of that name. */
SegmentKind segment_kind_from_string(const char *name);

typedef struct SegmentClass {
	char *name;
	/* Tried against the path below the mount point, without a leading slash. */
	Glob *match;
	SegmentKind kind;
	/* Bytes; the size of a `mapped` segment, the capacity of an `append` one, the reservation of a `stream` one. */
	uint64_t size_bytes;
	/* Ready segments wanted. 0: every create waits for a segment of its own. Default 2. If `ahead_auto`, where that
	 * begins; then it follows what is used, from 1 to `max_ahead` (default 8). */
	atomic_uint ahead;
	atomic_bool ahead_auto;
	atomic_uint max_ahead;
	/* How long a create waits, milliseconds. Default 5000. */
	atomic_uint timeout_ms;
	/* After that: fail with EAGAIN, or (default) hand out an unprepared file. */
	atomic_bool fail_on_timeout;
	/* Bytes of one warming write: they decide the size of the cached folios. Default 64K. */
	size_t folio_bytes;
	/* Whether blocks are written and pages populated ahead (default), if the segments are at least that large (default
	 * 0); else blocks are only reserved. Ask segment_class_is_warmed. */
	bool warm;
	uint64_t warm_min_bytes;
	/* What is written ahead is sent to the disk piece by piece, each of so many pages (default 4096), and waited for
	 * (default), or only started. */
	atomic_bool flush_async;
	atomic_uint flush_least_pages;
	/* Whether ready segments, and of those taken the newest `lock_active` (default 2), are locked in memory. */
	atomic_bool lock;
	atomic_uint lock_active;
	/* How long an `append` segment that nobody has open stays live, milliseconds. Default 10 s. */
	atomic_uint linger_ms;
	/* Bound on the bytes of the class's segments that are ready, being prepared, or taken and not sealed. 0 (default):
	 * none. */
	_Atomic uint64_t quota_bytes;
	/* A preparation that takes longer is told of, milliseconds. 0: none is. Default 10. */
	atomic_uint slow_ms;
	/* Of kind `append`: whether writes go to a transient buffer first, how many there are (default 5), and whether a
	 * create that finds none free fails with EAGAIN (default: it is served without). */
	bool transient;
	unsigned transient_pool_size;
	atomic_bool fast_fail;
	/* A buffer is committed when so many pages of it are uncommitted and the last time was so long ago, milliseconds;
	 * fewer pages wait ten times as long. What was committed is flushed in the same way. Defaults 200 ms, 500 ms, 4
	 * pages. */
	atomic_uint commit_interval_ms;
	atomic_uint commit_least_pages;
	atomic_uint flush_interval_ms;
	atomic_uint transient_flush_least_pages;
	/* Whether files that applications remove become segments again. Default. */
	atomic_bool recycle;
	/* The name of the module that makes its segments. NULL (default): the built-in provider does. */
	char *provider;
	/* What was set, and where. Who changes the class while it is used keeps others from reading this meanwhile. */
	GivenOptions *given;
} SegmentClass;

/* Whether the blocks of its segments are written ahead, and the pages populated. */
static inline bool segment_class_is_warmed(const SegmentClass *class)
{
	return segment_kind_is_full(class->kind) && class->warm && class->size_bytes >= class->warm_min_bytes;
}

/* With the defaults above; match and size still unset. */
SegmentClass *segment_class_new(const char *name);
SegmentClass *segment_class_free(SegmentClass *class);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SegmentClass, segment_class_free)

/* Whether segment_class_set knows `key`; and what it takes as the value of one that it knows, in words. */
bool segment_class_has_key(const char *key);
const char *segment_class_allowed(const char *key);
/*
 * Sets one option from text; its key is the field's name, or what the README calls it. The
 * error (G_OPTION_ERROR) is one line that names key, value and what is allowed, and, for an unknown
 * key, the key that was probably meant. On failure the class is as it was.
 */
bool segment_class_set(SegmentClass *class, const char *key, const char *value, GError **error);
/* The same, from somewhere else than an option. */
bool segment_class_set_from(SegmentClass *class, const char *key, const char *value, const char *origin,
			    GError **error);

/* The options by number, NULL behind the last. */
const char *segment_class_nth_key(size_t nth);
/* The value in force, as it was given or as its default is written ("" if there is none), and where it is from
 * (`default` then). Borrowed from the class. */
const char *segment_class_value(const SegmentClass *class, const char *key, const char **ret_origin);
