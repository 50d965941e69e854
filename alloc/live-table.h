/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SOURCE/.warmfs/live: the mapped file that remembers every taken, unsealed `append` segment and
 * its length.
 *
 * A page of header, then 4096 records of 512 bytes (2 MiB), each found by the segment's name in the
 * pool directory, which its file keeps as a second hard link until it is sealed. A record holds a
 * magic number, capacity, the boot id of the kernel it was written under, the name, a check over
 * these, and two alternating slots, each with a sequence number and a check of its own, for the
 * logical length: a store that is torn leaves the other slot. What does not check is not believed,
 * whoever wrote it.
 *
 * The logical length is a memory store into a shared mapping: it survives the daemon (the kernel
 * keeps the page), and is exact only under the boot it was written in, while the filesystem is not
 * mounted anew: one that was cut off has lost what was in the page cache. That it is not, the mount
 * says, or, if that is another one (a mount namespace), a mark that the file's inode has in memory
 * only. Which length is durable the segment itself says (alloc/segment-trailer.h).
 *
 * Threads: add, remove and find lock. set_length of one record must not run twice at the same time
 * (the segment's lock sees to that); that of different records may.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/log.h"
#include "alloc/segment.h"

#define LIVE_TABLE_NAME	   "live"
#define LIVE_TABLE_RECORDS 4096
/* A number follows. */
#define LIVE_TABLE_DAMAGED_PREFIX "live.damaged-"

typedef struct LiveTable LiveTable;

typedef struct LiveEntry {
	char name[SEGMENT_NAME_SIZE];
	uint64_t capacity_bytes;
	/* Written under the kernel that runs now. */
	bool same_boot;
	/* And since then the source's filesystem was not mounted anew, as far as the kernel tells:
	 * `length` is exact. */
	bool same_mount;
	/* Whether a slot of `length` checks. */
	bool has_length;
	/* 0 if neither slot checks. */
	uint64_t length;
} LiveEntry;

bool live_table_exists(int dir_fd);
/* Makes the file if it is not there. One that is not a table (size, type, header) is renamed to
 * live.damaged-N, with a line that says so, and made anew. */
LiveTable *live_table_open(int dir_fd, const Log *log, GError **error);
/* Whether live_table_open found one that it had to rename. */
bool live_table_was_damaged(const LiveTable *table);
/* Read-only: for looking. Nothing is made or renamed; NULL without an error if there is none. */
LiveTable *live_table_open_to_look(int dir_fd, GError **error);
LiveTable *live_table_close(LiveTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LiveTable, live_table_close)

/* A new record with length 0; its index is at least 0. -ENOSPC if all are in use, -EINVAL if
 * the name is not that of a ready segment of that capacity. */
int live_table_add(LiveTable *table, const char *name, uint64_t capacity_bytes);
void live_table_set_length(LiveTable *table, int index, uint64_t length);
void live_table_remove(LiveTable *table, int index);
/* The record of a name: its index, or -ENOENT if there is none that checks. */
int live_table_find(LiveTable *table, const char *name, LiveEntry *ret_entry);
/* Forgets everything: after recovery, when no segment is live. */
void live_table_clear(LiveTable *table);
