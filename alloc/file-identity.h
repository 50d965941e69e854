/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a file the same one, and unchanged: for tables by device and inode, and for times that are compared. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include <glib.h>

/* For a GHashTable whose keys have both. Inode numbers are near each other, and so are those of devices. */
static inline guint file_identity_hash(dev_t dev, ino_t ino)
{
	return ((uint64_t)ino ^ (uint64_t)dev << 32) * UINT64_C(0x9e3779b97f4a7c15) >> 32;
}

static inline bool is_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}
