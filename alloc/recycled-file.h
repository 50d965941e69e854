/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that an application has removed, to become a segment again. Its blocks are there and written, and often its
 * pages are in the cache; what is saved is finding new ones.
 *
 * It is whole until its removal is on the disk: after a power cut before that it has its old name again.
 *
 * Nothing of what it was may be seen in what it becomes, so:
 * - Nobody can reach it: its one name is in the pool directory.
 * - Nobody has it open or mapped, in SOURCE or through the mount, under passthrough or from before the daemon was killed:
 *   a write lease proves it, when the file is taken over and again when its turn has come. From then on it is kept until all
 *   is overwritten; who gets hold of the file in some other way in the meantime (by its number, by a descriptor that is no
 *   open file) breaks it, and is waited for.
 * - All of its data is overwritten with zeroes, and its owner, mode and extended attributes (so its ACL) go. One
 *   that has flags (chattr) or a project is not taken.
 * - Until all that is on the disk it has a name that the next start removes.
 *
 * Threads: whoever has the file. Errors are -errno.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "alloc/segment-class.h"
#include "alloc/sys.h"
#include "alloc/warm-pace.h"

/* Whether a file may become a segment of the class, as far as that shows by its attributes: the class recycles, and the size
 * is not more than a factor of two away. (Kind `stream` has nothing to recycle: its blocks are not written. A module
 * makes its segments by itself.) */
bool recycled_file_fits(const SegmentClass *class, const struct stat *attr);

/* Opens one for reading and writing; -EBUSY if somebody has it, or it has another name or is another than `ino`, -EINVAL if
 * it does not fit. */
int recycled_file_open(const Sys *sys, int pool_fd, const char *name, ino_t ino, const SegmentClass *class);
/* Makes of it what a new file of the class is when it has been filled. `ready_name` is what it will be called. Not durable
 * yet. -EBUSY and -EINVAL as above, or if somebody got hold of it; it is no segment then, and to be closed. */
int recycled_file_renew(const Sys *sys, int fd, const SegmentClass *class, const char *ready_name,
			WarmStint *stint);
