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
 *   the application over the dirty limit.
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

#define POPULATE_STEP_BYTES (64 * 1024 * 1024)

static bool is_unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -EINVAL || r == -ENOSYS;
}

static int write_fully(const Sys *sys, int fd, const void *data, size_t length, off_t offset)
{
	while (length > 0) {
		ssize_t n = sys->pwrite(sys, fd, data, length, offset);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			return -EIO;
		data = (const char *)data + n;
		length -= n;
		offset += n;
	}
	return 0;
}

/* An error belongs to the file: this call takes it from the fsync at the end, which would not report it again. Where
 * the filesystem knows no such call, the fsync does it all. */
static int flush_behind(const Sys *sys, int fd, const SegmentClass *class, uint64_t start, uint64_t end)
{
	unsigned wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
	int r = sys->sync_file_range(sys, fd, start, end - start,
				     SYNC_FILE_RANGE_WRITE | (class->flush_async ? 0 : wait));

	return is_unsupported(r) || r == -ESPIPE ? 0 : r;
}

static int write_zeroes(const Sys *sys, int fd, const SegmentClass *class, const atomic_bool *cancel)
{
	uint64_t flush_bytes = (uint64_t)class->flush_least_pages * sys->page_bytes(sys);
	g_autofree char *zeroes = g_malloc0(class->folio_bytes);
	uint64_t offset = 0, flushed = 0;
	int r = 0;

	while (r == 0 && offset < class->size_bytes) {
		uint64_t length = MIN(class->folio_bytes, class->size_bytes - offset);

		if (atomic_load_explicit(cancel, memory_order_relaxed))
			return -ECANCELED;
		r = write_fully(sys, fd, zeroes, length, offset);
		offset += length;
		if (r == 0 && offset - flushed >= flush_bytes) {
			r = flush_behind(sys, fd, class, flushed, offset);
			flushed = offset;
		}
	}
	return r;
}

/* The ladder: the device's own zeroes; reserved, then zeroes written; zeroes written. */
static int fill_warm(const Sys *sys, int fd, const SegmentClass *class, const atomic_bool *cancel)
{
	int r = sys->fallocate(sys, fd, FALLOC_FL_WRITE_ZEROES, 0, class->size_bytes);

	if (r == 0 || !is_unsupported(r))
		return r;
	r = sys->fallocate(sys, fd, 0, 0, class->size_bytes);
	if (r < 0 && !is_unsupported(r))
		return r;
	return write_zeroes(sys, fd, class, cancel);
}

/* Unwritten blocks read as zeroes. They have to be there: a full disk is an error now, and not a SIGBUS later. */
static int fill_cold(const Sys *sys, int fd, const SegmentClass *class, const atomic_bool *cancel)
{
	int r = sys->fallocate(sys, fd, 0, 0, class->size_bytes);

	return is_unsupported(r) ? write_zeroes(sys, fd, class, cancel) : r;
}

/* A filesystem that cannot reserve gives an empty file: still right, only not prepared. */
static int fill_stream(const Sys *sys, int fd, const SegmentClass *class)
{
	int r = sys->fallocate(sys, fd, FALLOC_FL_KEEP_SIZE, 0, class->size_bytes);

	return is_unsupported(r) ? 0 : r;
}

int warmer_fill(const Sys *sys, int fd, const SegmentClass *class, const atomic_bool *cancel)
{
	int r = -EINVAL;

	switch (class->kind) {
	case SEGMENT_KIND_MAPPED:
	case SEGMENT_KIND_APPEND:
		r = segment_class_is_warmed(class) ? fill_warm(sys, fd, class, cancel) :
						     fill_cold(sys, fd, class, cancel);
		break;
	case SEGMENT_KIND_STREAM:
		r = fill_stream(sys, fd, class);
		break;
	case _SEGMENT_KIND_MAX:
	case _SEGMENT_KIND_INVALID:
		break;
	}
	if (r < 0)
		return r;
	return sys->fsync(sys, fd);
}

int warmer_populate(const Sys *sys, void *map, size_t length, const atomic_bool *cancel)
{
	for (size_t offset = 0; offset < length; offset += POPULATE_STEP_BYTES) {
		size_t step = MIN((size_t)POPULATE_STEP_BYTES, length - offset);
		int r;

		if (atomic_load_explicit(cancel, memory_order_relaxed))
			return -ECANCELED;
		do
			r = sys->madvise(sys, (char *)map + offset, step, MADV_POPULATE_READ);
		while (r == -EINTR);
		/* Before Linux 5.14 there is no such advice; the zero writes have filled the cache. */
		if (r == -EINVAL)
			return 0;
		if (r < 0)
			return r == -EFAULT ? -EIO : r;
	}
	return 0;
}
