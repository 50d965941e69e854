// SPDX-License-Identifier: Apache-2.0
#include "alloc/transient-recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/dir-names.h"
#include "alloc/segment-name.h"
#include "alloc/segment-trailer.h"

#define CHUNK_BYTES ((size_t)1024 * 1024)

typedef struct Image {
	const TransientPlace *place;
	PoolDir *dir;
	bool dry_run;
	TransientResult *result;
	int fd;
	uint64_t n_bytes;
	unsigned n_failed;
} Image;

/* -EUCLEAN if this is no segment that a daemon had taken for the slot's owner. */
static int open_segment(const Image *image, const TransientOwner *owner, int *ret_fd, struct stat *ret_attr)
{
	const Sys *sys = image->place->sys;
	SegmentNameParts parts;
	uint64_t length;
	int r;

	if (segment_name_parse(owner->name, &parts) != SEGMENT_NAME_READY || parts.kind != SEGMENT_KIND_APPEND ||
	    parts.size_bytes != owner->capacity_bytes)
		return -EUCLEAN;
	auto_fd fd = sys->openat(sys, image->dir->segments_fd, owner->name,
				 (image->dry_run ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ELOOP || fd == -EISDIR ? -EUCLEAN : fd;
	r = sys->fstat(sys, fd, ret_attr);
	if (r < 0)
		return r;
	if (!S_ISREG(ret_attr->st_mode) || ret_attr->st_ino != owner->ino || ret_attr->st_nlink < 2)
		return -EUCLEAN;
	r = segment_trailer_read(sys, fd, owner->capacity_bytes, owner->name, &length);
	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int copy(const Image *image, int fd, const TransientSlot *slot)
{
	const Sys *sys = image->place->sys;
	g_autofree char *bytes = g_malloc(CHUNK_BYTES);
	uint64_t at = slot->start;
	int r = 0;

	while (r == 0 && at < slot->end) {
		size_t size = MIN(CHUNK_BYTES, slot->end - at);

		r = sys_read_fully(sys, image->fd, bytes, size, slot->owner.offset_bytes + at);
		if (r == 0)
			r = sys_write_fully(sys, fd, bytes, size, at);
		at += size;
	}
	return r;
}

/* Not later than the application wrote it last. */
static void keep_mtime(const Image *image, int fd, const struct stat *attr)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, attr->st_mtim };

	image->place->sys->futimens(image->place->sys, fd, times);
}

static bool is_within(const Image *image, const TransientSlot *slot)
{
	const TransientOwner *owner = &slot->owner;

	return slot->end <= owner->capacity_bytes && owner->offset_bytes <= image->n_bytes &&
	       owner->capacity_bytes <= image->n_bytes - owner->offset_bytes;
}

/* 0: nothing to do. 1: done. */
static int recover_slot(const Image *image, const TransientSlot *slot)
{
	static const TransientOwner nobody;
	struct stat attr;
	auto_fd fd = -1;
	int r;

	if (memcmp(&slot->owner, &nobody, sizeof(nobody)) == 0)
		return 0;
	if (!transient_owner_checks(&slot->owner))
		return -EUCLEAN;
	if (slot->start >= slot->end)
		return 0;
	if (!is_within(image, slot))
		return -EUCLEAN;
	r = open_segment(image, &slot->owner, &fd, &attr);
	if (r < 0 || image->dry_run)
		return r < 0 ? r : 1;
	r = copy(image, fd, slot);
	if (r == 0)
		keep_mtime(image, fd, &attr);
	return r < 0 ? r : 1;
}

static void report(Image *image, const TransientSlot *slot, unsigned nth, int r)
{
	const Log *log = image->place->log;

	if (r > 0) {
		image->result->n_written++;
		log_notice(log, "recovery: %s: %ju bytes at %ju %s from its transient buffer", slot->owner.name,
			   (uintmax_t)(slot->end - slot->start), (uintmax_t)slot->start,
			   image->dry_run ? "would be written" : "written");
	} else if (r == -EUCLEAN) {
		image->result->n_refused++;
		log_warning(log, "recovery: transient buffer %u: not that of a live segment; not believed", nth);
	} else if (r < 0) {
		image->n_failed++;
		log_failure(log, ERROR, "recover", NULL, r,
			    "recovery: transient buffer %u, for %.*s: %s; kept, tried again at the next mount", nth,
			    (int)sizeof(slot->owner.name), slot->owner.name, g_strerror(-r));
	}
}

static bool is_image(const Image *image, const struct stat *attr, TransientHeader *ret_header)
{
	const TransientPlace *place = image->place;

	return S_ISREG(attr->st_mode) && attr->st_uid == geteuid() && !(attr->st_mode & 077) && attr->st_nlink == 1 &&
	       sys_read_fully(place->sys, image->fd, ret_header, sizeof(*ret_header), 0) == 0 &&
	       transient_header_checks(ret_header) &&
	       image->n_bytes >= TRANSIENT_HEADER_BYTES + ret_header->n_slots * TRANSIENT_SLOT_BYTES && ret_header->source_dev == place->source_dev &&
	       ret_header->source_ino == place->source_ino;
}

static int recover_slots(Image *image, unsigned n_slots)
{
	for (unsigned i = 0; i < n_slots; i++) {
		TransientSlot slot;
		int r = sys_read_fully(image->place->sys, image->fd, &slot, sizeof(slot),
				   TRANSIENT_HEADER_BYTES + (off_t)i * sizeof(slot));

		if (r < 0)
			return r;
		report(image, &slot, i, recover_slot(image, &slot));
	}
	return 0;
}

/* 0, or -errno, and the file is kept. */
static int recover_file(Image *image, const char *name)
{
	TransientHeader header;
	struct stat attr;
	int r;

	r = image->place->sys->fstat(image->place->sys, image->fd, &attr);
	if (r < 0)
		return r;
	image->n_bytes = attr.st_size;
	if (!is_image(image, &attr, &header)) {
		image->result->n_refused++;
		log_warning(image->place->log, "recovery: %s: not the transient buffers of this source; not believed",
			    name);
		return 0;
	}
	r = recover_slots(image, header.n_slots);
	return r == 0 && image->n_failed ? -EIO : r;
}

static void recover_name(const TransientPlace *place, PoolDir *dir, int dir_fd, const char *name, bool dry_run,
			 TransientResult *result)
{
	Image image = { .place = place, .dir = dir, .dry_run = dry_run, .result = result };
	const Sys *sys = place->sys;
	int r;

	auto_fd fd = sys->openat(sys, dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	image.fd = fd;
	r = fd < 0 ? fd : recover_file(&image, name);
	if (r == 0 && !dry_run)
		r = sys->unlinkat(sys, dir_fd, name, 0);
	if (r < 0) {
		result->n_failed += MAX(image.n_failed, 1);
		log_failure(place->log, ERROR, "recover", name, r,
			    "recovery: transient buffers %s: %s; kept, tried again at the next mount", name, g_strerror(-r));
	}
}

/* All that is there of the source, by name; none if the directory is not there, or somebody else's. */
static int recover_names(const TransientPlace *place, PoolDir *dir, bool dry_run, TransientResult *result,
			 unsigned *ret_count)
{
	g_autofree char *prefix = transient_name_prefix(place);
	auto_fd dir_fd = transient_dir_open(place);
	g_autoptr(GPtrArray) names = NULL;

	*ret_count = 0;
	if (!prefix || dir_fd < 0)
		return 0;
	names = dir_names(dir_fd, prefix);
	if (!names)
		return -errno;
	*ret_count = names->len;
	for (guint i = 0; i < names->len; i++)
		recover_name(place, dir, dir_fd, names->pdata[i], dry_run, result);
	return result->n_failed > 0 ? -EIO : 0;
}

int transient_recovery_run(const TransientPlace *place, PoolDir *dir, bool dry_run, TransientResult *ret_result)
{
	bool expected = pool_dir_left_buffers(dir);
	unsigned count;
	int r;

	*ret_result = (TransientResult){ 0 };
	r = recover_names(place, dir, dry_run, ret_result, &count);
	if (r < 0)
		return r;
	if (expected && count == 0)
		log_warning(place->log,
			    "recovery: the transient buffers of the daemon that was killed are not in %s: removed, or in "
			    "another container; what it had not committed is lost, and reads as zeroes",
			    place->dir);
	return expected && !dry_run ? pool_dir_forget_buffers(dir) : 0;
}
