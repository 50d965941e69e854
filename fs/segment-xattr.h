/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an extended attribute says of a segment: `user.warmfs.` and
 *
 *	class, kind	the class's name and kind
 *	state		`live`, or `sealed`: a plain file
 *	capacity	the class's size, bytes
 *	length		of the file, as applications see it, bytes
 *	resident	how much of the file is in the page cache, bytes
 *
 * They are made up when they are asked for: never stored, and not listed, so that what copies a file does not copy
 * them.
 */
#pragma once

#include <string.h>

#include "fs/fs.h"

#define SEGMENT_XATTR_PREFIX "user.warmfs."

static inline bool segment_xattr_is_name(const char *name)
{
	return strncmp(name, SEGMENT_XATTR_PREFIX, strlen(SEGMENT_XATTR_PREFIX)) == 0;
}

/* NULL if there is no such attribute, or the file is no segment that we know of. Free with g_free. */
char *segment_xattr_value(Fs *fs, const Inode *inode, const char *name);
