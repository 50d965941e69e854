// SPDX-License-Identifier: Apache-2.0
#include "alloc/recycled-file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <string.h>

#include "alloc/cleanup.h"
#include "alloc/segment-trailer.h"
#include "alloc/warmer.h"

bool recycled_file_fits(const SegmentClass *class, const struct stat *attr)
{
	uint64_t size = attr->st_size, blocks_bytes = (uint64_t)attr->st_blocks * 512;

	if (!class->recycle || class->provider || !segment_class_is_warmed(class) || !S_ISREG(attr->st_mode))
		return false;
	return size >= class->size_bytes / 2 && size / 2 <= class->size_bytes &&
	       blocks_bytes >= class->size_bytes / 2;
}

static int take_lease(const Sys *sys, int fd)
{
	int r = sys->set_lease(sys, fd, F_WRLCK);

	return r == -EAGAIN ? -EBUSY : r;
}

/* The lease first: from then on nothing of what is seen changes. */
static int claim(const Sys *sys, int fd, const SegmentClass *class, struct stat *ret_attr)
{
	int r = take_lease(sys, fd);

	if (r == 0)
		r = sys->fstat(sys, fd, ret_attr);
	if (r < 0)
		return r;
	if (ret_attr->st_nlink != 1)
		return -EBUSY;
	if (!recycled_file_fits(class, ret_attr))
		return -EINVAL;
	r = sys->has_flags(sys, fd);
	return r > 0 ? -EINVAL : r;
}

/* Its turn may come late: who then opens all files there are, to back them up, must not have to wait for the lease. */
static int check(const Sys *sys, int fd, ino_t ino, const SegmentClass *class)
{
	struct stat attr;
	int r = claim(sys, fd, class, &attr);

	if (r == 0 && attr.st_ino != ino)
		r = -EBUSY;
	return r == 0 ? sys->set_lease(sys, fd, F_UNLCK) : r;
}

int recycled_file_open(const Sys *sys, int pool_fd, const char *name, ino_t ino, const SegmentClass *class)
{
	auto_fd fd = sys->openat(sys, pool_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return fd;
	r = check(sys, fd, ino, class);
	return r < 0 ? r : steal_fd(&fd);
}

static int remove_attributes(const Sys *sys, int fd)
{
	g_autofree char *names = g_malloc(XATTR_LIST_MAX);
	ssize_t size = sys->flistxattr(sys, fd, names, XATTR_LIST_MAX);

	for (ssize_t at = 0; at < size; at += strlen(names + at) + 1) {
		int r = sys->fremovexattr(sys, fd, names + at);

		/* One ACL may have taken another along. */
		if (r < 0 && r != -ENODATA)
			return r;
	}
	if (size <= 0)
		return size == -EOPNOTSUPP ? 0 : size;
	/* Some are said to be removed, and stay. */
	size = sys->flistxattr(sys, fd, names, XATTR_LIST_MAX);
	return size > 0 ? -EPERM : size;
}

static int forget_owner(const Sys *sys, int fd)
{
	int r = sys->fchown(sys, fd, geteuid(), getegid());

	if (r == 0)
		r = remove_attributes(sys, fd);
	/* After the ACL, which the mode would change. */
	return r == 0 ? sys->fchmod(sys, fd, 0600) : r;
}

/* What is behind the end is cut off first, so that it does not come back. */
static int overwrite(const Sys *sys, int fd, const SegmentClass *class, const char *ready_name,
		     WarmStint *stint)
{
	int r = sys->ftruncate(sys, fd, class->size_bytes);

	if (r == 0)
		r = warmer_overwrite(sys, fd, class, stint);
	if (r == 0 && class->kind == SEGMENT_KIND_APPEND)
		r = segment_trailer_make(sys, fd, class->size_bytes, ready_name);
	return r;
}

int recycled_file_renew(const Sys *sys, int fd, const SegmentClass *class, const char *ready_name,
			WarmStint *stint)
{
	struct stat attr;
	/* With a file, its last change goes to the disk, which was the removal of a name. */
	int r = sys->fsync(sys, fd);

	if (r == 0)
		r = claim(sys, fd, class, &attr);
	if (r == 0)
		r = overwrite(sys, fd, class, ready_name, stint);
	if (r == 0)
		r = forget_owner(sys, fd);
	if (r < 0)
		return r;
	/* While it is being broken it is something else. */
	r = sys->get_lease(sys, fd);
	if (r != F_WRLCK)
		return r < 0 ? r : -EBUSY;
	return sys->set_lease(sys, fd, F_UNLCK);
}
