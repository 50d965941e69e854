/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the kernel to forget inodes that nobody uses when there are many descriptors (alloc/descriptor-budget.h). It
 * hears of that with FUSE_NOTIFY_PRUNE, from Linux 6.18 on; before, nothing can be done, and the thread ends.
 */
#pragma once

#include "fs/inode.h"

struct fuse_session;

typedef struct InodePruner {
	/* Borrowed. */
	InodeTable *table;
	struct fuse_session *session;
	/* Where in the table it goes on. */
	uint64_t cursor;
	pthread_t thread;
	bool runs;
} InodePruner;

/* 0 or -errno. */
int inode_pruner_begin(InodePruner *pruner, InodeTable *table, struct fuse_session *session);
/* Before the session is destroyed. Requests that wait for a descriptor do not any more. */
void inode_pruner_end(InodePruner *pruner);
