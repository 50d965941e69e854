/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in segment provider: segments are files in a PoolDir, published by rename
 * (`append`: by a second link).
 *
 * A ready `mapped` or `append` segment is one byte longer than its class says, and its times are 1970: nobody has had
 * it. Publishing takes the byte away *after* that. That is not only a mark: a
 * rename alone does not make the next fdatasync or msync of the file commit the journal, a change of size does, so
 * that data which an application has synced never lies under a name that a power cut takes back. (Seen
 * on Linux 6.18, ext4: jbd2 commits after the first fdatasync, 0 of 20 without it and 20 of 20 with it.)
 */
#pragma once

#include "alloc/pool-dir.h"
#include "alloc/segment-provider.h"
#include "alloc/segment-locks.h"
#include "alloc/segment.h"
#include "alloc/sys.h"
#include "alloc/warm-pace.h"

typedef struct FileProvider FileProvider;

typedef struct FileProviderConfig {
	/* Share of the filesystem that preparing ahead leaves free, percent. */
	unsigned reserve_percent;
	/* How fast it prepares; borrowed. NULL: as fast as it can. */
	WarmPace *pace;
	/* Who locks pages; borrowed. NULL: none are locked. */
	SegmentLocks *locks;
} FileProviderConfig;

/* `dir` and `sys` are borrowed and must outlive the provider. */
FileProvider *file_provider_new(PoolDir *dir, const Sys *sys, const FileProviderConfig *config,
				const Log *log);
/* Another reserve_percent. Any thread. */
void file_provider_set_reserve(FileProvider *provider, unsigned percent);
FileProvider *file_provider_free(FileProvider *provider);

/* The table to hand to the allocate service; lives as long as the provider. */
SegmentProvider *file_provider_base(FileProvider *provider);

/*
 * The steps of its prepare, for a provider that fills files itself; SegmentProviderHost says what each is to do.
 */

/* 0, or -ENOENT if there is none (any more), or what kept the next one from being adopted for now. */
int file_provider_adopt(FileProvider *provider, const SegmentClass *class, const atomic_bool *cancel,
			Segment **ret_segment);
int file_provider_create(FileProvider *provider, const SegmentClass *class, Segment **ret_segment);
int file_provider_finish(FileProvider *provider, Segment *segment, const atomic_bool *cancel);

/*
 * A file that an application removes is kept for the pool in three steps: keep gives it a second name there, so that it
 * outlives its own; when that has gone, take_over makes it a segment that is to be renewed; if there is nothing to be
 * taken over, or that fails, drop removes the second name.
 */

/* `name` is in the directory `dir_fd`. 0 or -errno. */
int file_provider_keep(FileProvider *provider, int dir_fd, const char *name, char ret_name[SEGMENT_NAME_SIZE]);
/* `ino` is what was removed. -EBUSY if somebody has it open or mapped, or another -errno. */
int file_provider_take_over(FileProvider *provider, const SegmentClass *class, const char *name, ino_t ino,
			    Segment **ret_segment);
void file_provider_drop(FileProvider *provider, const char *name);

/* What the pool holds: ready, in the making, or still to be adopted or renewed. Blocks, in bytes, and files. Any thread. */
uint64_t file_provider_held_bytes(FileProvider *provider);
uint64_t file_provider_held_files(FileProvider *provider);
