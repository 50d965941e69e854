/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a file when its last name goes. A large one's blocks are given back in the background; and one that its
 * class's pool wants becomes a segment again (alloc/recycled-file.h), for which it has a second name in the pool while the
 * first goes. Of both, and of every one when room is scarce, the inode's record lets go, so that its space does not wait
 * until the kernel forgets it.
 */
#pragma once

#include <sys/stat.h>

#include "alloc/segment.h"
#include "fs/fs.h"

typedef struct Removal {
	/* The file whose last name this is; st_nlink is 0 if there is none such. */
	struct stat attr;
	/* If it is to become a segment: of this class, and its second name. */
	const SegmentClass *class;
	char kept_name[SEGMENT_NAME_SIZE];
} Removal;

#define REMOVAL_OF_NOTHING ((Removal){ .class = NULL })

/* Before the name goes. */
void removal_begin(Fs *fs, const Inode *parent, const char *name, Removal *removal);
/* After that, or after it could not be done. */
void removal_end(Fs *fs, Removal *removal, bool is_gone);

/* Whether the file is still there under that name. */
bool removal_is_at(const Removal *removal, int parent_fd, const char *name);
