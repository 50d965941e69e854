// SPDX-License-Identifier: Apache-2.0
#include "alloc/live-segment.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/reservation.h"
#include "alloc/segment-trailer.h"

int live_segment_new(const LivePlace *place, const Segment *segment, LiveSegment **ret_live)
{
	auto_fd fd = fcntl(segment->fd, F_DUPFD_CLOEXEC, 3);
	struct stat attr;
	LiveSegment *live;
	int r;

	if (fd < 0)
		return -errno;
	r = place->sys->fstat(place->sys, fd, &attr);
	if (r < 0)
		return r;
	live = g_new0(LiveSegment, 1);
	live->place = place;
	live->class = segment->class;
	live->dev = attr.st_dev;
	live->ino = attr.st_ino;
	live->fd = steal_fd(&fd);
	live->capacity_bytes = segment->class->size_bytes;
	g_strlcpy(live->name, segment->name, sizeof(live->name));
	mutex_init(&live->lock);
	live->reserved_only = live->sealed = segment_is_reserved_only(segment);
	live->index = -1;
	if (!live->reserved_only)
		live->index = live_table_add(place->table, segment->name, live->capacity_bytes);
	live->named = true;
	*ret_live = live;
	return 0;
}

static void forget_record_locked(LiveSegment *live)
{
	if (live->index >= 0)
		live_table_remove(live->place->table, live->index);
	live->index = -1;
}

void live_segment_free(LiveSegment *live)
{
	if (!live)
		return;
	forget_record_locked(live);
	close(live->fd);
	mutex_deinit(&live->lock);
	g_free(live);
}

bool live_segment_lacks_record(LiveSegment *live)
{
	MUTEX_SCOPE(&live->lock);
	return !live->reserved_only && live->index < 0;
}

bool live_segment_is_named(LiveSegment *live)
{
	MUTEX_SCOPE(&live->lock);
	return live->named;
}

static void set_length_locked(LiveSegment *live, uint64_t length)
{
	live->length = length;
	if (live->index >= 0)
		live_table_set_length(live->place->table, live->index, length);
}

static bool is_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* What is written for the length's sake is not the application's doing. */
static void hide_own_times_locked(const LiveSegment *live, struct stat *attr)
{
	if (is_same_time(attr->st_mtim, live->own_mtime))
		attr->st_mtim = live->seen_mtime;
	if (is_same_time(attr->st_ctim, live->own_ctime))
		attr->st_ctim = live->seen_ctime;
}

static int stat_locked(LiveSegment *live, struct stat *ret_attr)
{
	int r = live->place->sys->fstat(live->place->sys, live->fd, ret_attr);

	if (r == 0)
		hide_own_times_locked(live, ret_attr);
	return r;
}

/* From now on applications are to see what they saw `before`. */
static int keep_times_locked(LiveSegment *live, const struct stat *before)
{
	struct stat after;
	int r = live->place->sys->fstat(live->place->sys, live->fd, &after);

	if (r < 0)
		return r;
	live->own_mtime = after.st_mtim;
	live->own_ctime = after.st_ctim;
	live->seen_mtime = before->st_mtim;
	live->seen_ctime = before->st_ctim;
	return 0;
}

/* Until the application does something, which shows even if the clock has not moved since. */
static void show_times_locked(LiveSegment *live)
{
	live->own_mtime = live->seen_mtime;
	live->own_ctime = live->seen_ctime;
}

/* Durable with the next sync. */
static int record_locked(LiveSegment *live, uint64_t length)
{
	struct stat before;
	int r;

	if (live->recorded_length >= length)
		return 0;
	r = stat_locked(live, &before);
	if (r == 0)
		r = segment_trailer_record(live->place->sys, live->fd, live->capacity_bytes,
					   live->name, ++live->n_records, length);
	if (r == 0)
		r = keep_times_locked(live, &before);
	if (r == 0)
		live->recorded_length = length;
	return r;
}

static int synced_locked(LiveSegment *live, int r, uint64_t recorded_length)
{
	/* A page that could not be written is not tried again by itself. */
	if (r < 0)
		live->recorded_length = live->durable_length;
	else
		live->durable_length = MAX(live->durable_length, recorded_length);
	return r;
}

static int record_durable_locked(LiveSegment *live, uint64_t length)
{
	const Sys *sys = live->place->sys;
	int r;

	if (live->durable_length >= length)
		return 0;
	r = record_locked(live, length);
	if (r == 0)
		r = sys->fdatasync(sys, live->fd);
	return synced_locked(live, r, live->recorded_length);
}

static int write_fully(const Sys *sys, int fd, const char *data, size_t size, off_t offset)
{
	while (size > 0) {
		ssize_t n = sys->pwrite(sys, fd, data, size, offset);

		if (n <= 0)
			return n < 0 ? n : -EIO;
		data += n;
		size -= n;
		offset += n;
	}
	return 0;
}

static int zero_unseen_locked(LiveSegment *live, size_t size, off_t offset)
{
	static const char zeroes[65536];
	struct stat before;
	int r = stat_locked(live, &before);

	if (r == 0)
		r = write_fully(live->place->sys, live->fd, zeroes, size, offset);
	return r == 0 ? keep_times_locked(live, &before) : r;
}

/* Stores through a mapping may have left something behind the end, in its page: natively that
 * vanishes, when the file grows and when the page is written. *ret_last: the byte before the end.
 */
static int clean_tail_locked(LiveSegment *live, char *ret_last)
{
	const Sys *sys = live->place->sys;
	size_t page_bytes = sysconf(_SC_PAGESIZE);
	uint64_t in_page = live->length % page_bytes;
	size_t tail = in_page ? page_bytes - in_page : 0, before = live->length > 0;
	g_autofree char *allocated = NULL;
	char stack[4096 + 1], *bytes = stack;
	ssize_t n;

	*ret_last = 0;
	if (page_bytes + 1 > sizeof(stack))
		bytes = allocated = g_malloc(page_bytes + 1);
	n = sys->pread(sys, live->fd, bytes, before + tail, live->length - before);
	if (n < 0)
		return n;
	if (n > 0 && before)
		*ret_last = bytes[0];
	for (ssize_t i = before; i < n; i++)
		if (bytes[i])
			return zero_unseen_locked(live, n - i, live->length + i - before);
	return 0;
}

static void touch_locked(LiveSegment *live)
{
	static const struct timespec now[2] = { { .tv_nsec = UTIME_OMIT },
						{ .tv_nsec = UTIME_NOW } };

	show_times_locked(live);
	live->place->sys->futimens(live->place->sys, live->fd, now);
}

int live_segment_expect_mapping(LiveSegment *live)
{
	MUTEX_SCOPE(&live->lock);
	if (live->may_be_mapped || live->sealed)
		return 0;
	live->may_be_mapped = true;
	return record_durable_locked(live, live->synced_length);
}

size_t live_segment_readable(LiveSegment *live, off_t offset, size_t size)
{
	MUTEX_SCOPE(&live->lock);
	if (live->sealed)
		return size;
	if ((uint64_t)offset >= live->length)
		return 0;
	return MIN(size, live->length - offset);
}

/* Whether the last non-zero byte of what was synced, by which its length would be known, becomes
 * zero. */
static bool hides_synced_end(const LiveSegment *live, const char *data, uint64_t offset,
			     size_t size)
{
	uint64_t end = live->synced_length;

	return end > live->durable_length && offset < end && offset + size >= end &&
	       data[end - 1 - offset] == 0;
}

/* The file is cut here and now; what remains to be done for it is live_segment_finish's. */
static int seal_locked(LiveSegment *live, uint64_t length)
{
	const Sys *sys = live->place->sys;
	int r = sys->ftruncate(sys, live->fd, length);

	if (r < 0)
		return r;
	set_length_locked(live, length);
	show_times_locked(live);
	live->sealed = true;
	return 0;
}

/* At its present length, which changes nothing that applications see: so what follows may fail. */
static int seal_unseen_locked(LiveSegment *live)
{
	struct stat attr;
	int r = stat_locked(live, &attr);

	if (r == 0)
		r = seal_locked(live, live->length);
	if (r == 0) {
		const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, attr.st_mtim };

		live->place->sys->futimens(live->place->sys, live->fd, times);
	}
	return r;
}

static ssize_t write_locked(LiveSegment *live, const char *data, size_t size, uint64_t offset)
{
	const Sys *sys = live->place->sys;
	ssize_t n;
	int r = 0;
	char last;

	if (offset + size > live->capacity_bytes)
		r = seal_unseen_locked(live);
	else if (offset > live->length)
		r = clean_tail_locked(live, &last);
	if (r == 0 && !live->sealed && hides_synced_end(live, data, offset, size))
		r = record_durable_locked(live, live->synced_length);
	if (r < 0)
		return r;
	n = sys->pwrite(sys, live->fd, data, size, offset);
	if (n > 0)
		show_times_locked(live);
	if (n > 0 && !live->sealed && offset + n > live->length)
		set_length_locked(live, offset + n);
	return n;
}

/* On its way to the disk while the application is on its way to asking for that. */
static void push_if_synced_soon_locked(LiveSegment *live, off_t offset, size_t size)
{
	sync_forecast_note_write(&live->forecast);
	if (!live->sealed && sync_forecast_is_due(&live->forecast))
		live->place->sys->sync_file_range(live->place->sys, live->fd, offset, size,
						  SYNC_FILE_RANGE_WRITE);
}

ssize_t live_segment_write(LiveSegment *live, const void *data, size_t size, off_t offset)
{
	ssize_t n;

	MUTEX_SCOPE(&live->lock);
	if (live->sealed)
		return live->place->sys->pwrite(live->place->sys, live->fd, data, size, offset);
	n = write_locked(live, data, size, offset);
	if (n > 0)
		push_if_synced_soon_locked(live, offset, n);
	return n;
}

static int truncate_locked(LiveSegment *live, uint64_t size)
{
	int r = 0;
	char last;

	if (!live->sealed && size < live->length)
		r = seal_locked(live, size);
	else if (!live->sealed && size > live->capacity_bytes)
		r = seal_unseen_locked(live);
	if (r == 0 && live->sealed)
		return live->place->sys->ftruncate(live->place->sys, live->fd, size);
	if (r == 0 && size > live->length)
		r = clean_tail_locked(live, &last);
	if (r < 0)
		return r;
	if (size > live->length) {
		set_length_locked(live, size);
		/* The data may come through a mapping, whose msync we do not see. */
		r = record_durable_locked(live, size);
	}
	touch_locked(live);
	return r;
}

int live_segment_truncate(LiveSegment *live, off_t size)
{
	bool sealed;
	int r;

	mutex_lock(&live->lock);
	r = truncate_locked(live, size);
	sealed = live->sealed;
	mutex_unlock(&live->lock);
	return r == 0 && sealed ? live_segment_finish(live) : r;
}

/* The blocks are there. */
static int reserve_locked(LiveSegment *live, int mode, uint64_t end)
{
	bool grows = end > live->length && !(mode & FALLOC_FL_KEEP_SIZE);
	char last;
	int r = grows ? clean_tail_locked(live, &last) : 0;

	if (r < 0)
		return r;
	touch_locked(live);
	if (!grows)
		return 0;
	set_length_locked(live, end);
	return record_durable_locked(live, end);
}

int live_segment_fallocate(LiveSegment *live, int mode, off_t offset, off_t length)
{
	const Sys *sys = live->place->sys;
	uint64_t end = (uint64_t)offset + length;
	bool sealed;
	int r = 0;

	if (offset < 0 || length <= 0)
		return -EINVAL;
	if (offset > G_MAXINT64 - length)
		return -EFBIG;
	mutex_lock(&live->lock);
	/* What moves, removes or adds blocks is done by the filesystem, on a plain file. */
	if (!live->sealed && ((mode & ~FALLOC_FL_KEEP_SIZE) || end > live->capacity_bytes))
		r = seal_unseen_locked(live);
	sealed = live->sealed;
	if (r == 0 && sealed)
		r = sys->fallocate(sys, live->fd, mode, offset, length);
	else if (r == 0)
		r = reserve_locked(live, mode, end);
	mutex_unlock(&live->lock);
	if (sealed)
		live_segment_finish(live);
	return r;
}

off_t live_segment_seek(LiveSegment *live, off_t offset, int whence)
{
	MUTEX_SCOPE(&live->lock);
	if (live->sealed || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		off_t found = lseek(live->fd, offset, whence);

		return found < 0 ? -errno : found;
	}
	if (offset < 0 || (uint64_t)offset >= live->length)
		return -ENXIO;
	return whence == SEEK_DATA ? offset : (off_t)live->length;
}

int live_segment_sync(LiveSegment *live, int fd, bool data_only)
{
	const Sys *sys = live->place->sys;
	uint64_t length, recorded_length;
	char last = 0;
	int r = 0;

	mutex_lock(&live->lock);
	sync_forecast_note_sync(&live->forecast);
	length = live->length;
	if (!live->sealed) {
		r = clean_tail_locked(live, &last);
		if (r == 0 && (last == 0 || live->may_be_mapped))
			r = record_locked(live, length);
	}
	recorded_length = live->recorded_length;
	mutex_unlock(&live->lock);
	if (r == 0)
		r = data_only ? sys->fdatasync(sys, fd) : sys->fsync(sys, fd);

	MUTEX_SCOPE(&live->lock);
	if (r == 0)
		live->synced_length = MAX(live->synced_length, length);
	return synced_locked(live, r, recorded_length);
}

int live_segment_stat(LiveSegment *live, struct stat *ret_attr)
{
	int r;

	MUTEX_SCOPE(&live->lock);
	r = stat_locked(live, ret_attr);
	if (r < 0)
		return r;
	if (!live->sealed)
		ret_attr->st_size = live->length;
	if (live->named && ret_attr->st_nlink > 0)
		ret_attr->st_nlink--;
	return 0;
}

void live_segment_start_write_back(LiveSegment *live)
{
	const Sys *sys = live->place->sys;

	/* Without waiting: that would take a write error that is the application's to hear of. */
	sys->sync_file_range(sys, live->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

int live_segment_seal(LiveSegment *live)
{
	int r;

	mutex_lock(&live->lock);
	if (live->reserved_only)
		r = live->named ? reservation_release(live->place->sys, live->fd) : 0;
	else
		r = live->sealed ? 0 : seal_unseen_locked(live);
	mutex_unlock(&live->lock);
	return r < 0 ? r : live_segment_finish(live);
}

int live_segment_finish(LiveSegment *live)
{
	const Sys *sys = live->place->sys;
	bool was_cut;
	int r = 0;

	mutex_lock(&live->lock);
	was_cut = live->sealed && !live->reserved_only;
	mutex_unlock(&live->lock);
	/* Not under the lock, which a stat needs. A file that nobody can reach any more needs no
	 * such care. */
	if (was_cut)
		r = sys->fsync(sys, live->fd);
	if (r < 0)
		return r;

	MUTEX_SCOPE(&live->lock);
	if (!live->named)
		return 0;
	r = sys->unlinkat(sys, live->place->pool_fd, live->name, 0);
	if (r < 0 && r != -ENOENT)
		return r;
	live->named = false;
	forget_record_locked(live);
	return 0;
}
