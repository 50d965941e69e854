/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an open file and an open directory are to us: records, whose index is the kernel's `fh`.
 */
#pragma once

#include <dirent.h>

#include "fs/fs.h"

typedef struct FileHandle {
	/* Immutable while open. */
	int fd;
	/* As the application opened it. */
	int flags;
	/* If the file is a live segment. Held. */
	LiveSegment *hold;
	/* The same, if reads and writes go there. */
	LiveSegment *live;
	/* The kernel keeps no pages of it, but for those that it needs to answer sendfile and splice. */
	bool direct;
} FileHandle;

typedef struct DirHandle {
	DIR *stream;
	/* The kernel's calls on one open directory come one at a time. */
	off_t offset;
	/* Read from the stream, but did not fit into the last answer. */
	struct dirent *pending;
} DirHandle;

static inline FileHandle *file_handle(Fs *fs, const struct fuse_file_info *fi)
{
	return slot_table_get(&fs->files, fi->fh);
}

/* Makes a handle of `fd`, opened with fi->flags, and decides how its data moves; fills the rest of `fi`. Takes
 * ownership of fd, also on failure. */
int file_handle_open(fuse_req_t req, Inode *inode, int fd, struct fuse_file_info *fi);
void file_handle_close(Fs *fs, Inode *inode, const struct fuse_file_info *fi);
