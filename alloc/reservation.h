/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks reserved behind the end of a file (FALLOC_FL_KEEP_SIZE), and how to give them back.
 */
#pragma once

#include "alloc/sys.h"

/* `fd` is open for reading and writing. Nobody else may have the file open, for reading neither, or
 * mapped; a write lease proves it, so that no byte written meanwhile is cut off: otherwise -EBUSY.
 * While it is held, for the length of a truncation, others wait in open. Leaves length and mtime as
 * they are. Returns 0 or -errno.
 *
 * Where there is no such proof (a filesystem without leases, a daemon that may take none), the
 * blocks stay: 0.
 *
 * Truncation to the same length frees what is behind it: ext4 and XFS (ext4_setattr in
 * fs/ext4/inode.c, xfs_setattr_size in fs/xfs/xfs_iops.c), tested on Linux 6.18. */
int reservation_release(const Sys *sys, int fd);
