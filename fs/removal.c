// SPDX-License-Identifier: Apache-2.0
#include "fs/removal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/recycled-file.h"

/* From this size on the removal of a file's blocks is felt. */
#define LARGE_BYTES (4 * 1024 * 1024)

/* With less room than this, the space of a removed file is free when that is answered. */
#define SCARCE_BYTES (256 * 1024 * 1024)
#define SCARCE_FILES 1024

/* The kernel tells of a close after it has returned, and an application may remove a file as soon as it has closed it. */
#define CLOSE_PATIENCE_NS INT64_C(5000000)

static struct stat no_file(void)
{
	return (struct stat){ .st_nlink = 0 };
}

/* *ret_is_plain: it is no live segment, and all that stat says of it is true. */
static struct stat last_name_of(const Fs *fs, int parent_fd, const char *name, bool *ret_is_plain)
{
	struct stat attr;

	*ret_is_plain = false;
	if (fstatat(parent_fd, name, &attr, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(attr.st_mode))
		return no_file();
	*ret_is_plain = attr.st_nlink == 1;
	fs_patch_attr(fs, parent_fd, name, &attr);
	return attr.st_nlink == 1 ? attr : no_file();
}

bool removal_is_at(const Removal *removal, int parent_fd, const char *name)
{
	struct stat attr;

	return removal->attr.st_nlink > 0 && fstatat(parent_fd, name, &attr, AT_SYMLINK_NOFOLLOW) == 0 &&
	       attr.st_ino == removal->attr.st_ino && attr.st_dev == removal->attr.st_dev;
}

/* A `mapped` segment keeps its size, and so is known by it, whatever it is called by now. Others must have a name of their
 * class still. */
static bool is_of_class(Fs *fs, const SegmentClass *class, const Inode *parent, const char *name,
			const struct stat *attr)
{
	g_autofree char *path = NULL;

	if (!recycled_file_fits(class, attr))
		return false;
	if (class->kind == SEGMENT_KIND_MAPPED && (uint64_t)attr->st_size == class->size_bytes)
		return true;
	return fs_find_class(fs, parent, name, &path) == class;
}

static const SegmentClass *find_class(Fs *fs, const Inode *parent, const char *name, const struct stat *attr)
{
	for (size_t i = 0; i < class_rules_count(fs->rules); i++)
		if (is_of_class(fs, class_rules_nth(fs->rules, i), parent, name, attr))
			return class_rules_nth(fs->rules, i);
	return NULL;
}

static const SegmentClass *begin_recycling(Fs *fs, const Inode *parent, const char *name, Removal *removal)
{
	const SegmentClass *class = find_class(fs, parent, name, &removal->attr);

	if (!class || !allocate_service_claim(fs->service, class))
		return NULL;
	if (file_provider_keep(fs->provider, parent->fd, name, removal->kept_name) == 0)
		return class;
	allocate_service_recycle(fs->service, class, NULL);
	return NULL;
}

void removal_begin(Fs *fs, const Inode *parent, const char *name, Removal *removal)
{
	bool is_plain;

	*removal = REMOVAL_OF_NOTHING;
	removal->attr = last_name_of(fs, parent->fd, name, &is_plain);
	if (fs->service && is_plain)
		removal->class = begin_recycling(fs, parent, name, removal);
}

/* If r is 0, and nobody has it: whether it is on its way to become a segment. */
static bool end_recycling(Fs *fs, const Removal *removal, int r)
{
	Segment *segment = NULL;

	if (r == 0)
		r = file_provider_take_over(fs->provider, removal->class, removal->kept_name, removal->attr.st_ino,
					    &segment);
	if (r < 0) {
		log_failure(fs->log, DEBUG, "recycle", removal->kept_name, r, "class %s: a removed file cannot be used again: %s",
			    removal->class->name, g_strerror(-r));
		file_provider_drop(fs->provider, removal->kept_name);
	}
	allocate_service_recycle(fs->service, removal->class, segment);
	return segment;
}

static uint64_t bytes_of(const Removal *removal)
{
	return (uint64_t)removal->attr.st_blocks * 512;
}

/* The kernel lets us know that it has forgotten a file as soon as its last name is gone: who opens it at that moment has it,
 * as natively. But who writes through the kernel at that moment may want its space. */
static bool is_left_to_the_kernel(const Fs *fs, const Removal *removal)
{
	struct statvfs stat;

	return !removal->class && bytes_of(removal) < LARGE_BYTES && fstatvfs(fs->root_fd, &stat) == 0 &&
	       (uint64_t)stat.f_bavail * stat.f_frsize >= SCARCE_BYTES &&
	       (stat.f_files == 0 || stat.f_favail >= SCARCE_FILES);
}

/* As inode_table_bury. */
static int bury(Fs *fs, const Removal *removal, bool keep)
{
	int64_t until_ns = removal->class ? monotonic_ns() + CLOSE_PATIENCE_NS : 0;

	if (is_left_to_the_kernel(fs, removal))
		return -EBUSY;
	return inode_table_bury(&fs->inodes, removal->attr.st_dev, removal->attr.st_ino, keep, until_ns);
}

static void end_file(Fs *fs, const Removal *removal)
{
	const struct stat *attr = &removal->attr;
	bool keep = fs->service && bytes_of(removal) >= LARGE_BYTES;
	int fd = bury(fs, removal, keep);
	bool is_recycled;

	/* Not before: who opens it now and does not find it live would find its file. */
	if (fs->live)
		live_set_unlinked(fs->live, attr->st_dev, attr->st_ino, fd == -EBUSY);
	segment_locks_let_go(fs->locks, attr->st_dev, attr->st_ino);
	is_recycled = removal->class && end_recycling(fs, removal, fd == -EBUSY ? fd : 0);
	if (!keep || fd < 0)
		return;
	if (is_recycled)
		close(fd);
	else
		allocate_service_bury(fs->service, fd, bytes_of(removal));
}

void removal_end(Fs *fs, Removal *removal, bool is_gone)
{
	if (is_gone && removal->attr.st_nlink > 0) {
		end_file(fs, removal);
	} else if (removal->class) {
		end_recycling(fs, removal, -ECANCELED);
	}
}
