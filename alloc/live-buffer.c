// SPDX-License-Identifier: Apache-2.0
#include "alloc/live-buffer.h"

#include <errno.h>

#include "alloc/file-identity.h"

/* Less than enough waits for so many intervals. */
#define PATIENT_INTERVALS 10
#define NS_PER_MS	  INT64_C(1000000)

void live_buffer_init(LiveSegment *live)
{
	cond_init(&live->buffer.committed);
}

static bool is_dirty(const LiveBuffer *buffer)
{
	return buffer->memory && transient_buffer_uncommitted(buffer->memory) > 0;
}

void live_buffer_deinit(LiveSegment *live)
{
	LiveBuffer *buffer = &live->buffer;

	if (is_dirty(buffer) && live->named)
		transient_pool_leave(live->place->transient, buffer->memory);
	else
		live_buffer_give_back_locked(live);
	cond_deinit(&buffer->committed);
}

void live_buffer_assign(LiveSegment *live, TransientBuffer *memory)
{
	transient_buffer_assign(memory, live->name, live->ino);
	MUTEX_SCOPE(&live->lock);
	live->buffer.memory = memory;
	live->buffer.committed_ns = live->buffer.flushed_ns = monotonic_ns();
}

bool live_buffer_is_there(LiveSegment *live)
{
	MUTEX_SCOPE(&live->lock);
	return live->buffer.memory;
}

bool live_buffer_accepts_locked(const LiveSegment *live, uint64_t offset, size_t size)
{
	const LiveBuffer *buffer = &live->buffer;

	return buffer->memory && offset <= live->capacity_bytes && size <= live->capacity_bytes - offset &&
	       transient_buffer_accepts(buffer->memory, offset) &&
	       (!buffer->committing || offset >= buffer->committing_end);
}

bool live_buffer_holds_locked(const LiveSegment *live, uint64_t offset, size_t size)
{
	const TransientBuffer *memory = live->buffer.memory;

	return memory && MAX(offset, memory->start) < MIN(offset + size, memory->end);
}

void live_buffer_overlay_locked(const LiveSegment *live, void *data, size_t size, uint64_t offset)
{
	if (live->buffer.memory)
		transient_buffer_overlay(live->buffer.memory, data, size, offset);
}

/* `time`, but in any case later than `before`. */
static struct timespec moved(struct timespec before, struct timespec time)
{
	if (time.tv_sec > before.tv_sec || (time.tv_sec == before.tv_sec && time.tv_nsec > before.tv_nsec))
		return time;
	if (before.tv_nsec < 999999999)
		return (struct timespec){ before.tv_sec, before.tv_nsec + 1 };
	return (struct timespec){ before.tv_sec + 1, 0 };
}

/* A rename, say, has moved it; the clock of filesystems is behind ours. */
static void note_file_ctime_locked(LiveSegment *live, struct timespec file_ctime)
{
	LiveBuffer *buffer = &live->buffer;

	if (!is_same_time(file_ctime, buffer->file_ctime) && !is_same_time(file_ctime, live->own_ctime))
		buffer->ctime = moved(buffer->ctime, file_ctime);
	buffer->file_ctime = file_ctime;
}

bool live_buffer_show_times_locked(LiveSegment *live, struct stat *attr)
{
	if (!live->buffer.has_times)
		return false;
	note_file_ctime_locked(live, attr->st_ctim);
	attr->st_mtim = live->buffer.mtime;
	attr->st_ctim = live->buffer.ctime;
	return true;
}

static struct timespec file_ctime_of(const LiveSegment *live)
{
	struct stat attr = { 0 };

	live->place->sys->fstat(live->place->sys, live->fd, &attr);
	return attr.st_ctim;
}

static void move_times_locked(LiveSegment *live)
{
	LiveBuffer *buffer = &live->buffer;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (!buffer->has_times) {
		buffer->file_ctime = file_ctime_of(live);
		buffer->ctime = buffer->file_ctime;
		buffer->has_times = true;
	}
	buffer->ctime = buffer->mtime = moved(buffer->ctime, now);
}

void live_buffer_write_locked(LiveSegment *live, const void *data, size_t size, uint64_t offset)
{
	transient_buffer_write(live->buffer.memory, data, size, offset);
	move_times_locked(live);
}

/* *ret_end: how far it came. */
static int write_range(const LiveSegment *live, const char *bytes, uint64_t start, uint64_t end, uint64_t *ret_end)
{
	const Sys *sys = live->place->sys;
	ssize_t n = 0;

	while (start < end && n >= 0) {
		n = sys->pwrite(sys, live->fd, bytes + start, end - start, start);
		if (n == 0)
			n = -EIO;
		if (n == -EINTR)
			n = 0;
		start += MAX(n, 0);
	}
	*ret_end = start;
	return n < 0 ? n : 0;
}

static void note_commit_locked(LiveSegment *live, int r, uint64_t start, uint64_t end)
{
	LiveBuffer *buffer = &live->buffer;

	transient_buffer_committed(buffer->memory, end);
	buffer->unflushed_bytes += end - start;
	/* The commit's, which is not the application's doing. */
	if (buffer->has_times)
		buffer->file_ctime = file_ctime_of(live);
	if (r < 0 && buffer->error == 0)
		log_failure(live->place->log, WARNING, "commit", live->name, r,
			    "commit %s: %s; its buffer keeps the data, and it is tried again", live->name, g_strerror(-r));
	buffer->error = r;
	if (r == 0)
		transient_pool_count_commit(live->place->transient, live->class);
}

/* What others did to the file until now will not be known from the commit's doing. */
static void begin_commit_locked(LiveSegment *live)
{
	if (live->buffer.has_times)
		note_file_ctime_locked(live, file_ctime_of(live));
}

static int commit_rest_locked(LiveSegment *live)
{
	TransientBuffer *memory = live->buffer.memory;
	uint64_t start = memory->start, end;
	int r;

	begin_commit_locked(live);
	r = write_range(live, memory->bytes, start, memory->end, &end);

	note_commit_locked(live, r, start, end);
	return r;
}

int live_buffer_settle_locked(LiveSegment *live)
{
	while (live->buffer.committing)
		cond_wait(&live->buffer.committed, &live->lock);
	return is_dirty(&live->buffer) ? commit_rest_locked(live) : 0;
}

void live_buffer_give_back_locked(LiveSegment *live)
{
	if (live->buffer.memory)
		transient_pool_give_back(live->place->transient, live->buffer.memory);
	live->buffer.memory = NULL;
}

/* The range goes on being one of this daemon's. */
void live_buffer_disown_locked(LiveSegment *live)
{
	if (live->buffer.memory)
		transient_buffer_hide(live->buffer.memory);
}

int live_buffer_settle_times(LiveSegment *live)
{
	int r;

	MUTEX_SCOPE(&live->lock);
	r = live_buffer_settle_locked(live);
	if (r == 0 && live->buffer.has_times) {
		const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, live->buffer.mtime };

		r = live->place->sys->futimens(live->place->sys, live->fd, times);
		live->buffer.has_times = r < 0;
	}
	return r;
}

int live_buffer_retry(LiveSegment *live)
{
	MUTEX_SCOPE(&live->lock);
	return live->buffer.error ? live_buffer_settle_locked(live) : 0;
}

/* Others append behind the range meanwhile. */
static int commit(LiveSegment *live)
{
	LiveBuffer *buffer = &live->buffer;
	uint64_t start, end;
	const char *bytes;
	int r;

	mutex_lock(&live->lock);
	if (buffer->committing || !is_dirty(buffer)) {
		mutex_unlock(&live->lock);
		return 0;
	}
	begin_commit_locked(live);
	bytes = buffer->memory->bytes;
	start = buffer->memory->start;
	end = buffer->committing_end = buffer->memory->end;
	buffer->committing = true;
	mutex_unlock(&live->lock);

	r = write_range(live, bytes, start, end, &end);

	MUTEX_SCOPE(&live->lock);
	buffer->committing = false;
	cond_broadcast(&buffer->committed);
	note_commit_locked(live, r, start, end);
	if (!is_dirty(buffer) && live->length >= live->capacity_bytes)
		live_buffer_give_back_locked(live);
	return r;
}

static bool is_due(const LiveSegment *live, uint64_t n_bytes, uint64_t least_pages, int64_t since_ns,
		   int64_t interval_ns)
{
	const Sys *sys = live->place->sys;
	uint64_t least_bytes = least_pages * sys->page_bytes(sys);

	return n_bytes > 0 &&
	       since_ns >= (n_bytes >= least_bytes ? interval_ns : PATIENT_INTERVALS * interval_ns);
}

/* If so, it will have been done at that time. */
static bool commit_is_due(LiveSegment *live, int64_t now_ns)
{
	const SegmentClass *class = live->class;
	LiveBuffer *buffer = &live->buffer;
	bool due;

	MUTEX_SCOPE(&live->lock);
	due = is_dirty(buffer) &&
	      is_due(live, transient_buffer_uncommitted(buffer->memory), class->commit_least_pages,
		     now_ns - buffer->committed_ns, class->commit_interval_ms * NS_PER_MS);
	if (due)
		buffer->committed_ns = now_ns;
	return due;
}

static bool flush_is_due(LiveSegment *live, int64_t now_ns)
{
	const SegmentClass *class = live->class;
	LiveBuffer *buffer = &live->buffer;
	bool due;

	MUTEX_SCOPE(&live->lock);
	due = is_due(live, buffer->unflushed_bytes, class->transient_flush_least_pages, now_ns - buffer->flushed_ns,
		     class->flush_interval_ms * NS_PER_MS);
	if (due)
		buffer->flushed_ns = now_ns;
	return due;
}

/* Rolled files that stay open would keep all buffers, and new ones get none. */
static void give_back_if_idle(LiveSegment *live, int64_t now_ns)
{
	LiveBuffer *buffer = &live->buffer;
	int64_t idle_ns = PATIENT_INTERVALS * live->class->commit_interval_ms * NS_PER_MS;

	MUTEX_SCOPE(&live->lock);
	if (buffer->memory && !buffer->committing && !is_dirty(buffer) &&
	    now_ns - buffer->committed_ns >= idle_ns &&
	    transient_pool_count(live->place->transient, live->class).n_free == 0)
		live_buffer_give_back_locked(live);
}

int live_buffer_commit_if_due(LiveSegment *live, int64_t now_ns)
{
	give_back_if_idle(live, now_ns);
	return commit_is_due(live, now_ns) ? commit(live) : 0;
}

int live_buffer_flush_if_due(LiveSegment *live, int64_t now_ns)
{
	return flush_is_due(live, now_ns) ? live_segment_flush(live) : 0;
}
