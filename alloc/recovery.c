// SPDX-License-Identifier: Apache-2.0
#include "alloc/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "alloc/cleanup.h"
#include "alloc/dir-names.h"
#include "alloc/reservation.h"
#include "alloc/segment-name.h"
#include "alloc/segment-trailer.h"

#define CHUNK_BYTES ((off_t)1024 * 1024)

typedef struct Recovery {
	const Sys *sys;
	PoolDir *dir;
	LiveTable *table;
	const Log *log;
	bool dry_run;
	RecoveryProgress progress;
	void *arg;
	RecoverySteps steps;
	RecoveryResult *result;
} Recovery;

static bool go_on(Recovery *recovery, uint64_t more_bytes)
{
	RecoverySteps steps = recovery->steps;

	steps.done_bytes += more_bytes;
	if (recovery->progress && !recovery->progress(recovery->arg, &steps))
		recovery->result->stopped = true;
	return !recovery->result->stopped;
}

/* One past the last byte that is not zero. Reads from the end. */
static int find_end(Recovery *recovery, int fd, off_t size, off_t *ret_end)
{
	g_autofree char *buffer = g_malloc(CHUNK_BYTES);
	off_t whole = size;

	while (size > 0) {
		off_t start = (size - 1) / CHUNK_BYTES * CHUNK_BYTES;
		int r = go_on(recovery, whole - size) ? 0 : -ECANCELED;

		if (r == 0)
			r = sys_read_fully(recovery->sys, fd, buffer, size - start, start);
		if (r < 0)
			return r;
		for (off_t i = size - start; i > 0; i--) {
			if (buffer[i - 1]) {
				*ret_end = start + i;
				return 0;
			}
		}
		size = start;
	}
	*ret_end = 0;
	return 0;
}

/* The length that applications saw, or had made durable. -ENOENT if the file itself has it. */
static int find_length(Recovery *recovery, int fd, const char *name, uint64_t capacity_bytes,
		       off_t *ret_length)
{
	LiveEntry entry;
	bool known = recovery->table && live_table_find(recovery->table, name, &entry) >= 0;
	uint64_t durable_length;
	int r = segment_trailer_read(recovery->sys, fd, capacity_bytes, name, &durable_length);

	if (r < 0)
		return r;

	/* Written by a daemon of this kernel on this mount: what it stored last is what was there.
	 */
	if (known && entry.same_mount && entry.has_length && entry.length <= capacity_bytes) {
		*ret_length = entry.length;
		return 0;
	}
	r = find_end(recovery, fd, capacity_bytes, ret_length);
	*ret_length = MAX(*ret_length, (off_t)durable_length);
	return r;
}

static int cut(const Recovery *recovery, int fd, const struct stat *attr, off_t length)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, attr->st_mtim };
	const Sys *sys = recovery->sys;
	int r = 0;

	if (attr->st_size != length)
		r = sys->ftruncate(sys, fd, length);
	if (r == 0)
		sys->futimens(sys, fd, times);
	return r < 0 ? r : sys->fsync(sys, fd);
}

static void report(const Recovery *recovery, const char *name, const struct stat *attr,
		   off_t length)
{
	log_notice(recovery->log, "recovery: %s: inode %ju %s to %jd bytes", name,
		   (uintmax_t)attr->st_ino, recovery->dry_run ? "would be sealed" : "sealed",
		   (intmax_t)length);
}

/* Its length is the file's. */
static int seal_reserved(Recovery *recovery, const char *name, int fd, const struct stat *attr)
{
	int r = recovery->dry_run ? 0 : reservation_release(recovery->sys, fd);

	if (r == 0)
		report(recovery, name, attr, attr->st_size);
	return r;
}

static int seal_append(Recovery *recovery, const char *name, const SegmentNameParts *parts, int fd,
		       const struct stat *attr)
{
	off_t length;
	int r = find_length(recovery, fd, name, parts->size_bytes, &length);

	/* Sealed, and not forgotten yet. */
	if (r == -ENOENT) {
		length = attr->st_size;
		r = 0;
	}
	if (r < 0)
		return r;
	report(recovery, name, attr, length);
	return recovery->dry_run ? 0 : cut(recovery, fd, attr, length);
}

/* What is not prepared when it is taken has the name that it was to be prepared under. */
static bool is_reserved_only(SegmentNameType type, const SegmentNameParts *parts)
{
	return type == SEGMENT_NAME_WARMING || parts->kind == SEGMENT_KIND_STREAM;
}

static bool may_be_live(SegmentNameType type, const SegmentNameParts *parts)
{
	return type == SEGMENT_NAME_WARMING ||
	       (type == SEGMENT_NAME_READY && parts->kind != SEGMENT_KIND_MAPPED);
}

/* What its part in the progress is; 0 if it is not live. */
static uint64_t weight_bytes(const PoolDir *dir, const char *name)
{
	SegmentNameParts parts;
	SegmentNameType type = segment_name_parse(name, &parts);
	struct stat attr;

	if (!may_be_live(type, &parts) ||
	    fstatat(dir->segments_fd, name, &attr, AT_SYMLINK_NOFOLLOW) < 0 || attr.st_nlink < 2)
		return 0;
	return is_reserved_only(type, &parts) ? CHUNK_BYTES : MAX(parts.size_bytes, CHUNK_BYTES);
}

static void add_up(Recovery *recovery, const GPtrArray *names)
{
	for (guint i = 0; i < names->len; i++) {
		uint64_t weight = weight_bytes(recovery->dir, names->pdata[i]);

		recovery->steps.n_total += weight > 0;
		recovery->steps.total_bytes += weight;
	}
}

/* 1 if it was live. */
static int judge(Recovery *recovery, const char *name)
{
	const Sys *sys = recovery->sys;
	int access = recovery->dry_run ? O_RDONLY : O_RDWR;
	SegmentNameParts parts;
	SegmentNameType type = segment_name_parse(name, &parts);
	struct stat attr;
	int r;

	if (!may_be_live(type, &parts))
		return 0;
	auto_fd fd = sys->openat(sys, recovery->dir->segments_fd, name,
				 access | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	/* A directory is not one of ours. */
	if (fd < 0)
		return fd == -EISDIR ? 0 : fd;
	r = sys->fstat(sys, fd, &attr);
	if (r < 0 || !S_ISREG(attr.st_mode) || attr.st_nlink < 2)
		return r;
	r = is_reserved_only(type, &parts) ? seal_reserved(recovery, name, fd, &attr)
					   : seal_append(recovery, name, &parts, fd, &attr);
	if (r == 0 && !recovery->dry_run)
		r = sys->unlinkat(sys, recovery->dir->segments_fd, name, 0);
	return r < 0 ? r : 1;
}

static void count(Recovery *recovery, const char *name, int r)
{
	if (r > 0) {
		recovery->result->n_sealed++;
	} else if (r == -EBUSY) {
		recovery->result->n_busy++;
		log_failure(recovery->log, NOTICE, "recovery", name, r,
			    "recovery: %s: still open; keeps its reservation until the next mount", name);
	} else if (r < 0 && r != -ECANCELED) {
		recovery->result->n_failed++;
		log_failure(recovery->log, ERROR, "recovery", name, r,
			    "recovery: %s: %s; left as it is, tried again at the next mount", name, g_strerror(-r));
	}
}

static void step(Recovery *recovery, const char *name)
{
	uint64_t weight = recovery->progress ? weight_bytes(recovery->dir, name) : 0;

	count(recovery, name, judge(recovery, name));
	if (weight == 0 || recovery->result->stopped)
		return;
	recovery->steps.n_done++;
	recovery->steps.done_bytes += weight;
}

int recovery_run(const Sys *sys, PoolDir *dir, LiveTable *table, const Log *log, bool dry_run,
		 RecoveryProgress progress, void *arg, RecoveryResult *ret_result)
{
	Recovery recovery = {
		.sys = sys,
		.dir = dir,
		.table = table,
		.log = log,
		.dry_run = dry_run,
		.progress = progress,
		.arg = arg,
		.result = ret_result,
	};
	g_autoptr(GPtrArray) names = dir_names(dir->segments_fd, "");

	*ret_result = (RecoveryResult){ 0 };
	if (!names)
		return -errno;
	if (progress)
		add_up(&recovery, names);
	for (guint i = 0; i < names->len && go_on(&recovery, 0); i++)
		step(&recovery, names->pdata[i]);
	if (!dry_run && table && ret_result->n_failed == 0 && !ret_result->stopped)
		live_table_clear(table);
	return 0;
}
