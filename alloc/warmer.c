// SPDX-License-Identifier: Apache-2.0
/*
 * What "warm" takes, and why:
 *
 * - Blocks are *written*, not just reserved. Turning a reserved (unwritten) extent into a written one is
 *   a journal commit at the application's first sync of each block; a written one is overwritten in place.
 * - The size of one write decides the size of the folios that the page cache builds (ext4 and XFS with large
 *   folios), and so how much a small store through a mapping writes back later.
 * - What is written is sent to the disk every flush_least_pages= pages, each of them once, so that the fsync at the
 *   end is short; and waited for (flush=sync), so that an interruption is never far away, and dirty pages do not push
 *   the application over the dirty limit. While others wait for the disk that is done with every chunk, whatever the
 *   class says.
 * - Pages are populated for reading. Populating for writing would dirty every page once more.
 */
#include "alloc/warmer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>

/* Linux 6.17; not in Debian 12's headers. */
#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

/* Between two looks at the stint. */
#define WRITE_CHUNK_BYTES    (UINT64_C(1) << 20)
#define POPULATE_CHUNK_BYTES (UINT64_C(4) << 20)
#define DEVICE_CHUNK_BYTES   (UINT64_C(64) << 20)

static bool is_unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -EINVAL || r == -ENOSYS;
}

/* An error belongs to the file: this call takes it from the fsync at the end, which would not report it again. Where
 * the filesystem knows no such call, the fsync does it all. */
static int flush_behind(const Sys *sys, int fd, uint64_t start, uint64_t end, bool wait)
{
	unsigned waits = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
	int r = sys->sync_file_range(sys, fd, start, end - start, SYNC_FILE_RANGE_WRITE | (wait ? waits : 0));

	return is_unsupported(r) || r == -ESPIPE ? 0 : r;
}

/* A write may block for long when much is dirty. */
static int write_chunk(const Sys *sys, int fd, const char *zeroes, size_t write_bytes, uint64_t start, uint64_t end,
		       const WarmStint *stint)
{
	int r = 0;

	for (uint64_t offset = start; r == 0 && offset < end; offset += write_bytes)
		r = warm_stint_is_cancelled(stint) ?
			    -ECANCELED :
			    sys_write_fully(sys, fd, zeroes, MIN(write_bytes, end - offset), offset);
	return r;
}

int warmer_overwrite(const Sys *sys, int fd, const SegmentClass *class, WarmStint *stint)
{
	uint64_t flush_bytes = (uint64_t)class->flush_least_pages * sys->page_bytes(sys);
	/* Of whole writes. */
	uint64_t chunk_bytes = (MIN(flush_bytes, WRITE_CHUNK_BYTES) + class->folio_bytes - 1) & -class->folio_bytes;
	g_autofree char *zeroes = g_malloc0(class->folio_bytes);
	uint64_t flushed = 0, end;
	int r = 0;

	for (uint64_t offset = 0; r == 0 && offset < class->size_bytes; offset = end) {
		end = MIN(offset + chunk_bytes, class->size_bytes);
		r = warm_stint_step(stint, end - offset);
		if (r == 0)
			r = write_chunk(sys, fd, zeroes, class->folio_bytes, offset, end, stint);
		bool yields = warm_stint_is_yielding(stint);
		if (r == 0 && (yields || end - flushed >= flush_bytes)) {
			r = flush_behind(sys, fd, flushed, end, yields || !class->flush_async);
			flushed = end;
		}
	}
	return r;
}

/* By the device itself. Unsupported is what it says of the first chunk already. */
static int let_device_zero(const Sys *sys, int fd, const SegmentClass *class, WarmStint *stint)
{
	uint64_t end;
	int r = 0;

	for (uint64_t offset = 0; r == 0 && offset < class->size_bytes; offset = end) {
		end = MIN(offset + DEVICE_CHUNK_BYTES, class->size_bytes);
		r = warm_stint_step(stint, end - offset);
		if (r == 0)
			r = sys->fallocate(sys, fd, FALLOC_FL_WRITE_ZEROES, offset, end - offset);
	}
	return r;
}

/* The ladder: the device's own zeroes; reserved, then zeroes written; zeroes written. */
static int fill_warm(const Sys *sys, int fd, const SegmentClass *class, WarmStint *stint)
{
	int r = let_device_zero(sys, fd, class, stint);

	if (!is_unsupported(r))
		return r;
	r = sys->fallocate(sys, fd, 0, 0, class->size_bytes);
	return r == 0 || is_unsupported(r) ? warmer_overwrite(sys, fd, class, stint) : r;
}

/* Unwritten blocks read as zeroes. They have to be there: a full disk is an error now, and not a SIGBUS later. */
static int fill_cold(const Sys *sys, int fd, const SegmentClass *class, WarmStint *stint)
{
	int r = sys->fallocate(sys, fd, 0, 0, class->size_bytes);

	return is_unsupported(r) ? warmer_overwrite(sys, fd, class, stint) : r;
}

/* A filesystem that cannot reserve gives an empty file: still right, only not prepared. */
static int fill_stream(const Sys *sys, int fd, const SegmentClass *class)
{
	int r = sys->fallocate(sys, fd, FALLOC_FL_KEEP_SIZE, 0, class->size_bytes);

	return is_unsupported(r) ? 0 : r;
}

int warmer_fill(const Sys *sys, int fd, const SegmentClass *class, WarmStint *stint)
{
	int r = warm_stint_step(stint, 0);

	if (r < 0)
		return r;
	r = -EINVAL;
	switch (class->kind) {
	case SEGMENT_KIND_MAPPED:
	case SEGMENT_KIND_APPEND:
		r = segment_class_is_warmed(class) ? fill_warm(sys, fd, class, stint) :
						     fill_cold(sys, fd, class, stint);
		break;
	case SEGMENT_KIND_STREAM:
		r = fill_stream(sys, fd, class);
		break;
	case _SEGMENT_KIND_MAX:
	case _SEGMENT_KIND_INVALID:
		break;
	}
	if (r == 0)
		r = warm_stint_step(stint, 0);
	return r == 0 ? sys->fsync(sys, fd) : r;
}

int warmer_populate(const Sys *sys, void *map, size_t length, bool from_disk, WarmStint *stint)
{
	for (size_t offset = 0; offset < length; offset += POPULATE_CHUNK_BYTES) {
		size_t chunk = MIN(POPULATE_CHUNK_BYTES, length - offset);
		int r = warm_stint_step(stint, from_disk ? chunk : 0);

		if (r < 0)
			return r;
		do
			r = sys->madvise(sys, (char *)map + offset, chunk, MADV_POPULATE_READ);
		while (r == -EINTR);
		/* Before Linux 5.14 there is no such advice; the zero writes have filled the cache. */
		if (r == -EINVAL)
			return 0;
		if (r < 0)
			return r == -EFAULT ? -EIO : r;
	}
	return 0;
}
