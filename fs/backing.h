/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backing files of kernel passthrough, as <linux/fuse.h> has them since Linux 6.9 (Debian 12's does not).
 * libfuse's own functions do the same, but print a line of theirs when the kernel refuses, which it does for
 * every file of a source that cannot be stacked on; ours is said once.
 */
#pragma once

#include <errno.h>
#include <stdint.h>
#include <sys/ioctl.h>

typedef struct BackingMap {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
} BackingMap;

#define BACKING_OPEN  _IOW(229, 1, BackingMap)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* Registers a file with the session that `fuse_fd` is of. Its id, which is above 0, or -errno. */
static inline int backing_open(int fuse_fd, int fd)
{
	BackingMap map = { .fd = fd };
	int id = ioctl(fuse_fd, BACKING_OPEN, &map);

	if (id < 0)
		return -errno;
	return id > 0 ? id : -EOPNOTSUPP;
}

static inline void backing_close(int fuse_fd, int id)
{
	uint32_t backing_id = id;

	ioctl(fuse_fd, BACKING_CLOSE, &backing_id);
}
