// SPDX-License-Identifier: Apache-2.0
#include "alloc/live-segment.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/data-sum.h"
#include "alloc/file-identity.h"
#include "alloc/live-buffer.h"
#include "alloc/reservation.h"

/* Of what was written before, for a sum. */
#define READ_BACK_MAX (64 * 1024)

/* Looking for the last byte is no access of an application's: it moves no atime. That needs an open file of its own, whose
 * flags nobody else changes. */
static int open_for_us(const Segment *segment)
{
	char path[32];

	if (segment_is_reserved_only(segment))
		return fcntl(segment->fd, F_DUPFD_CLOEXEC, 3);
	g_snprintf(path, sizeof(path), "/proc/self/fd/%d", segment->fd);
	return open(path, O_RDWR | O_NOATIME | O_CLOEXEC);
}

int live_segment_new(const LivePlace *place, const Segment *segment, LiveSegment **ret_live)
{
	auto_fd fd = open_for_us(segment);
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
	live_buffer_init(live);
	live->reserved_only = live->sealed = segment_is_reserved_only(segment);
	live->index = -1;
	if (!live->reserved_only)
		live->index = live_table_add(place->table, segment->name, live->capacity_bytes);
	live->named = true;
	if (place->descriptors)
		descriptor_budget_take(place->descriptors, 1);
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
	live_buffer_deinit(live);
	close(live->fd);
	if (live->place->descriptors)
		descriptor_budget_give(live->place->descriptors, 1);
	mutex_deinit(&live->lock);
	g_free(live);
}

bool live_segment_lacks_record(LiveSegment *live)
{
	MUTEX_SCOPE(&live->lock);
	return !live->reserved_only && live->named && live->index < 0;
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

/* What is written for the length's sake is not the application's doing. */
static void hide_own_times_locked(LiveSegment *live, struct stat *attr)
{
	if (live_buffer_show_times_locked(live, attr))
		return;
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
	live->buffer.has_times = false;
}

static bool lasts(const LengthRecord *record, uint64_t length)
{
	return record->length >= length && !length_record_has_sum(record);
}

/* Durable with the next sync. The last durable one stays, whatever becomes of this. */
static int write_record_locked(LiveSegment *live, LengthRecord record)
{
	int r;

	do
		record.sequence = ++live->n_records;
	while (segment_trailer_same_slot(record.sequence, live->durable.sequence));
	r = segment_trailer_record(live->place->sys, live->fd, live->capacity_bytes, live->name,
				   &record);
	if (r == 0)
		live->recorded = record;
	return r;
}

static int record_locked(LiveSegment *live, uint64_t length)
{
	struct stat before;
	int r = stat_locked(live, &before);

	if (r == 0)
		r = write_record_locked(live,
					(LengthRecord){ .length = length, .sum_start = length });
	return r == 0 ? keep_times_locked(live, &before) : r;
}

static int synced_locked(LiveSegment *live, int r, const LengthRecord *recorded)
{
	/* A page that could not be written is not tried again by itself. */
	if (r < 0)
		live->recorded = live->durable;
	else if (recorded->sequence > live->durable.sequence)
		live->durable = *recorded;
	return r;
}

/* Whatever then happens to the data. */
static int record_durable_locked(LiveSegment *live, uint64_t length)
{
	const Sys *sys = live->place->sys;
	LengthRecord recorded;
	int r = 0;

	if (lasts(&live->durable, length))
		return 0;
	if (!lasts(&live->recorded, length))
		r = record_locked(live, length);
	recorded = live->recorded;
	if (r == 0)
		r = sys->fdatasync(sys, live->fd);
	return synced_locked(live, r, &recorded);
}

static uint64_t promised_length(const LiveSegment *live)
{
	return live->n_syncing > 0 ? MAX(live->synced_length, live->syncing_length)
				   : live->synced_length;
}

static int zero_unseen_locked(LiveSegment *live, size_t size, off_t offset)
{
	static const char zeroes[65536];
	struct stat before;
	int r = stat_locked(live, &before);

	if (r == 0)
		r = sys_write_fully(live->place->sys, live->fd, zeroes, size, offset);
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
	return record_durable_locked(live, promised_length(live));
}

void live_segment_recheck_mappings(LiveSegment *live)
{
	const Sys *sys = live->place->sys;

	MUTEX_SCOPE(&live->lock);
	if (!live->may_be_mapped || live->sealed || sys->set_lease(sys, live->fd, F_WRLCK) < 0)
		return;
	live->may_be_mapped = false;
	sys->set_lease(sys, live->fd, F_UNLCK);
}

static size_t readable_locked(LiveSegment *live, off_t offset, size_t size)
{
	if (live->sealed)
		return size;
	if ((uint64_t)offset >= live->length)
		return 0;
	return MIN(size, live->length - offset);
}

size_t live_segment_readable(LiveSegment *live, off_t offset, size_t size)
{
	MUTEX_SCOPE(&live->lock);
	return readable_locked(live, offset, size);
}

bool live_segment_is_read_here(LiveSegment *live, off_t offset, size_t size)
{
	MUTEX_SCOPE(&live->lock);
	return live_buffer_holds_locked(live, offset, size);
}

/* All under the lock: a commit between reading the file and the buffer would hide what it moved. */
ssize_t live_segment_read(LiveSegment *live, void *data, size_t size, off_t offset)
{
	const Sys *sys = live->place->sys;
	ssize_t n;

	MUTEX_SCOPE(&live->lock);
	n = sys->pread(sys, live->fd, data, readable_locked(live, offset, size), offset);
	if (n > 0)
		live_buffer_overlay_locked(live, data, n, offset);
	return n;
}

static bool sum_covers(const LengthRecord *record, uint64_t offset, size_t size)
{
	return length_record_has_sum(record) && offset < record->length &&
	       offset + size > record->sum_start;
}

/* Whether that by which a promised length would be known goes: the last non-zero byte becomes zero,
 * or what a record has the sum of changes. What will show the length of a sync that is under way
 * is not looked at closely. */
static bool hides_promised_end(const LiveSegment *live, const char *data, uint64_t offset,
			       size_t size)
{
	uint64_t end = live->synced_length;

	if (end > live->durable.length && offset < end && offset + size >= end &&
	    data[end - 1 - offset] == 0)
		return true;
	return sum_covers(&live->durable, offset, size) ||
	       (live->n_syncing > 0 && offset < live->syncing_length);
}

/* What is written later, when a buffer is committed, must be nothing that a record says. */
static bool touches_promise(const LiveSegment *live, const char *data, uint64_t offset, size_t size)
{
	return hides_promised_end(live, data, offset, size) || sum_covers(&live->recorded, offset, size);
}

static int keep_promise_locked(LiveSegment *live, const char *data, uint64_t offset, size_t size)
{
	int r = 0;

	if (hides_promised_end(live, data, offset, size))
		r = record_durable_locked(live, promised_length(live));
	/* No promise rests on it. */
	if (r == 0 && sum_covers(&live->recorded, offset, size))
		live->recorded = live->durable;
	return r;
}

static int cut_locked(LiveSegment *live, uint64_t length)
{
	const Sys *sys = live->place->sys;
	int r = sys->ftruncate(sys, live->fd, length);

	if (r < 0)
		return r;
	set_length_locked(live, length);
	show_times_locked(live);
	live->sealed = true;
	live_buffer_give_back_locked(live);
	return 0;
}

/* The file is cut here and now; what remains to be done for it is live_segment_finish's. */
static int seal_locked(LiveSegment *live, uint64_t length)
{
	/* The cut gets to the disk at some time, and before it what is written from now on may. */
	int r = record_durable_locked(live, promised_length(live));

	return r < 0 ? r : cut_locked(live, length);
}

/* At its present length, which changes nothing that applications see: so what follows may fail. */
static int cut_unseen_locked(LiveSegment *live)
{
	struct stat attr;
	int r = stat_locked(live, &attr);

	if (r == 0)
		r = cut_locked(live, live->length);
	if (r == 0) {
		const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, attr.st_mtim };

		live->place->sys->futimens(live->place->sys, live->fd, times);
		keep_times_locked(live, &attr);
	}
	return r;
}

static int seal_unseen_locked(LiveSegment *live)
{
	int r = record_durable_locked(live, promised_length(live));

	return r < 0 ? r : cut_unseen_locked(live);
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
	if (r == 0 && !live->sealed)
		r = keep_promise_locked(live, data, offset, size);
	if (r < 0)
		return r;
	n = sys->pwrite(sys, live->fd, data, size, offset);
	if (n > 0)
		show_times_locked(live);
	if (n > 0 && !live->sealed && offset + n > live->length)
		set_length_locked(live, offset + n);
	return n;
}

/* Of what no sync or record without a sum has covered yet. False if that is nothing, or too much.
 */
static bool sum_new_data_locked(const LiveSegment *live, const char *data, uint64_t offset,
				LengthRecord *record)
{
	uint64_t start = MAX(live->synced_length, live->durable.length);

	if (start >= live->length || live->length - start > SEGMENT_TRAILER_SUM_MAX)
		return false;
	record->sum_start = start;
	if (offset <= start) {
		record->sum = data_sum(data + (start - offset), live->length - start, 0);
		return true;
	}
	return live->length - start <= READ_BACK_MAX &&
	       data_sum_of_file(live->place->sys, live->fd, start, live->length, &record->sum) == 0;
}

/* If the sync that is about to come would have to record the length, and the data that makes the
 * file that long will not change unseen. That it can fail is no matter: then the sync does it. */
static bool record_ahead_locked(LiveSegment *live, const char *data, size_t size, uint64_t offset)
{
	LengthRecord record = { .length = live->length };

	return !live->may_be_mapped && offset + size == live->length && data[size - 1] == 0 &&
	       live->recorded.length < live->length &&
	       sum_new_data_locked(live, data, offset, &record) &&
	       write_record_locked(live, record) == 0;
}

/* On its way to the disk while the application is on its way to asking for that. */
static void prepare_sync_locked(LiveSegment *live, const char *data, size_t size, uint64_t offset,
				bool synced_next)
{
	bool due, recorded = false;
	uint64_t end = offset + size;

	sync_forecast_note_write(&live->forecast);
	if (live->sealed)
		return;
	due = sync_forecast_is_due(&live->forecast);
	if (due || synced_next || sync_forecast_is_likely(&live->forecast))
		recorded = record_ahead_locked(live, data, size, offset);
	if (!due || synced_next)
		return;
	if (recorded)
		end = segment_trailer_end(live->capacity_bytes);
	live->place->sys->sync_file_range(live->place->sys, live->fd, offset, end - offset,
					  SYNC_FILE_RANGE_WRITE);
}

static void write_buffered_locked(LiveSegment *live, const void *data, size_t size, uint64_t offset)
{
	live_buffer_write_locked(live, data, size, offset);
	sync_forecast_note_write(&live->forecast);
	if (offset + size > live->length)
		set_length_locked(live, offset + size);
}

ssize_t live_segment_write(LiveSegment *live, const void *data, size_t size, off_t offset,
			   bool synced_next)
{
	ssize_t n;

	MUTEX_SCOPE(&live->lock);
	if (!synced_next && live_buffer_accepts_locked(live, offset, size) &&
	    !touches_promise(live, data, offset, size)) {
		write_buffered_locked(live, data, size, offset);
		return size;
	}
	n = live_buffer_settle_locked(live);
	if (n < 0)
		return n;
	if (live->sealed)
		return live->place->sys->pwrite(live->place->sys, live->fd, data, size, offset);
	n = write_locked(live, data, size, offset);
	if (n > 0)
		prepare_sync_locked(live, data, n, offset, synced_next);
	return n;
}

static int truncate_locked(LiveSegment *live, uint64_t size)
{
	int r = live_buffer_settle_locked(live);
	char last;

	if (r < 0)
		return r;
	if (!live->sealed && size < live->length)
		r = seal_locked(live, size);
	else if (!live->sealed && size > live->capacity_bytes)
		r = seal_unseen_locked(live);
	if (r == 0 && live->sealed) {
		r = live->place->sys->ftruncate(live->place->sys, live->fd, size);
		if (r == 0)
			show_times_locked(live);
		return r;
	}
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
	r = live_buffer_settle_locked(live);
	/* What moves, removes or adds blocks is done by the filesystem, on a plain file. */
	if (r == 0 && !live->sealed && ((mode & ~FALLOC_FL_KEEP_SIZE) || end > live->capacity_bytes))
		r = seal_unseen_locked(live);
	sealed = live->sealed;
	if (r == 0 && sealed)
		r = sys->fallocate(sys, live->fd, mode, offset, length);
	else if (r == 0)
		r = reserve_locked(live, mode, end);
	if (r == 0 && sealed)
		show_times_locked(live);
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

/* What is needed for its length to be known after a power cut. */
static int record_for_sync_locked(LiveSegment *live)
{
	char last;
	int r = clean_tail_locked(live, &last);

	if (r == 0 && (live->may_be_mapped ? !lasts(&live->recorded, live->length)
					   : last == 0 && live->recorded.length < live->length))
		r = record_locked(live, live->length);
	return r;
}

static int sync_file(LiveSegment *live, int fd, bool data_only, bool is_asked_for)
{
	const Sys *sys = live->place->sys;
	LengthRecord recorded;
	uint64_t length;
	int r;

	mutex_lock(&live->lock);
	r = live_buffer_settle_locked(live);
	if (is_asked_for)
		sync_forecast_note_sync(&live->forecast);
	length = live->length;
	live->buffer.unflushed_bytes = 0;
	if (r == 0 && !live->sealed)
		r = record_for_sync_locked(live);
	recorded = live->recorded;
	live->syncing_length = live->n_syncing++ > 0 ? MAX(live->syncing_length, length) : length;
	mutex_unlock(&live->lock);
	if (r == 0)
		r = data_only ? sys->fdatasync(sys, fd) : sys->fsync(sys, fd);

	MUTEX_SCOPE(&live->lock);
	live->n_syncing--;
	if (r == 0)
		live->synced_length = MAX(live->synced_length, length);
	return synced_locked(live, r, &recorded);
}

int live_segment_sync(LiveSegment *live, int fd, bool data_only)
{
	return sync_file(live, fd, data_only, true);
}

int live_segment_flush(LiveSegment *live)
{
	return sync_file(live, live->fd, true, false);
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

bool live_segment_hides_ctime(LiveSegment *live, struct stat *ret_attr, struct timespec *ret_seen)
{
	MUTEX_SCOPE(&live->lock);
	*ret_seen = live->seen_ctime;
	return live->place->sys->fstat(live->place->sys, live->fd, ret_attr) == 0 && ret_attr->st_nlink > 0 &&
	       is_same_time(ret_attr->st_ctim, live->own_ctime) && !is_same_time(live->own_ctime, live->seen_ctime);
}

void live_segment_start_write_back(LiveSegment *live)
{
	const Sys *sys = live->place->sys;

	/* Without waiting: that would take a write error that is the application's to hear of. */
	sys->sync_file_range(sys, live->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* Only while nobody has it open; and it changes nothing that applications see. */
static int release_unseen_locked(LiveSegment *live)
{
	struct stat attr;
	int r = stat_locked(live, &attr);

	if (r == 0)
		r = reservation_release(live->place->sys, live->fd);
	if (r == 0)
		keep_times_locked(live, &attr);
	return r;
}

int live_segment_seal(LiveSegment *live)
{
	int r;

	mutex_lock(&live->lock);
	r = live_buffer_settle_locked(live);
	if (r < 0) {
		mutex_unlock(&live->lock);
		return r;
	}
	if (live->reserved_only)
		r = live->named ? release_unseen_locked(live) : 0;
	else
		r = live->sealed ? 0 : seal_unseen_locked(live);
	mutex_unlock(&live->lock);
	return r < 0 ? r : live_segment_finish(live);
}

int live_segment_cut(LiveSegment *live)
{
	int r;

	MUTEX_SCOPE(&live->lock);
	r = live_buffer_settle_locked(live);
	return r < 0 || live->reserved_only || live->sealed ? r : cut_unseen_locked(live);
}

int live_segment_finish(LiveSegment *live)
{
	const Sys *sys = live->place->sys;
	struct stat attr;
	bool was_cut, was_seen;
	int r = 0;

	mutex_lock(&live->lock);
	was_cut = live->sealed && !live->reserved_only;
	mutex_unlock(&live->lock);
	segment_locks_let_go(live->place->locks, live->dev, live->ino);
	/* Not under the lock, which a stat needs. A file that nobody can reach any more needs no
	 * such care. */
	if (was_cut)
		r = sys->fsync(sys, live->fd);
	if (r < 0)
		return r;

	MUTEX_SCOPE(&live->lock);
	if (!live->named)
		return 0;
	was_seen = stat_locked(live, &attr) == 0;
	r = sys->unlinkat(sys, live->place->pool_fd, live->name, 0);
	if (r < 0 && r != -ENOENT)
		return r;
	if (was_seen)
		keep_times_locked(live, &attr);
	live->named = false;
	live_buffer_disown_locked(live);
	forget_record_locked(live);
	return 0;
}
