/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SOURCE/.warmfs: where segments are made and kept until they are taken.
 *
 *	lock	held by the one daemon that serves the source; its pid, and whether it is ending
 *	state	`boot ID` and `running`, `buffered` or `clean`: what a ready segment found at start is worth, and whether
 *		there are transient buffers in memory (alloc/transient-image.h)
 *	live	what is known of taken, unsealed segments (alloc/live-table.h)
 *	pool/	the segments (alloc/segment-name.h)
 *
 * A ready segment found at start is trusted if the kernel that wrote it still runs (then the page cache
 * is the truth), or if the last daemon stopped cleanly. After a power cut it is not: the file may have been
 * published and written, and only the rename been lost.
 *
 * Anything else in the directory is somebody's: it is reported and left alone.
 */
#pragma once

#include <stdbool.h>

#include <glib.h>

#include "alloc/class-rules.h"
#include "alloc/log.h"

#define POOL_DIR_NAME ".warmfs"

typedef struct PoolDir {
	/* Immutable once open, or as it says. */
	int fd;
	int segments_fd;
	int lock_fd;
	const Log *log;
	/* Whether the daemon that serves the source has transient buffers. Set before pool_dir_take_stock. */
	bool has_buffers;
	/* Names of ready segments that some class can use; each a g_free string. The provider's. */
	GQueue adoptable;
} PoolDir;

/* Makes the directory if it is not there, and locks it. `source` is for messages. Changes nothing
 * if it fails, but for an empty directory it may have made. Waits for a daemon that is ending, so that a source can be
 * mounted again right after it was unmounted. */
PoolDir *pool_dir_open(int source_fd, const char *source, const Log *log, GError **error);

/* Removes what is half-made, untrusted or of no use to the classes, lists the rest in `adoptable`, reports
 * what is foreign, leaves what is live, and marks the directory as running. */
bool pool_dir_take_stock(PoolDir *dir, const ClassRules *rules, GError **error);

/* Whether a daemon of this boot had transient buffers when it ended uncleanly; and that they have been seen to. */
bool pool_dir_left_buffers(PoolDir *dir);
int pool_dir_forget_buffers(PoolDir *dir);

/* Who comes next waits from now on, instead of being refused. */
void pool_dir_mark_ending(PoolDir *dir);

/* Marks the directory as cleanly left: call it when no segment is being made or published. */
void pool_dir_mark_clean(PoolDir *dir);

/* Unlocks. Takes NULL; returns NULL. */
PoolDir *pool_dir_close(PoolDir *dir);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PoolDir, pool_dir_close)
