/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inodes that the kernel knows. The nodeid we give it is the record's index; the root is 1.
 *
 * A record lives as long as the kernel has looked it up more often than it forgot it, or a handle is open on
 * it (a RELEASE may come after the last FORGET). While a request that names a nodeid is unanswered, the
 * kernel keeps its lookup count up, so that operations use the record without taking a reference.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <glib.h>

#include "alloc/descriptor-budget.h"
#include "alloc/segment-class.h"
#include "fs/slot-table.h"

/* How the data of an inode's open handles moves. The kernel wants one answer for all of them. */
typedef enum InodeIo {
	INODE_IO_CLOSED,
	/* The kernel works on the backing file by itself. */
	INODE_IO_PASSTHROUGH,
	/* Reads and writes come to the daemon. */
	INODE_IO_DAEMON,
} InodeIo;

typedef struct Inode {
	/* Immutable while the record lives; 0 when it does not. */
	uint64_t index;
	uint64_t generation;
	/* O_PATH. */
	int fd;
	dev_t dev;
	ino_t ino;
	/* The file is gone, and `fd` is that of an empty one in its place (inode_table_bury, inode_outcome). */
	atomic_bool buried;
	/* If the file was handed out as a segment, of what class; else NULL. Set once. */
	_Atomic(const SegmentClass *) class;
	/* Protected by the table's lock. */
	uint64_t n_lookups;
	uint64_t n_handles;
	/* Protected by lock. */
	Mutex lock;
	InodeIo io;
	uint64_t n_io_handles;
	int backing_id;
	/* Of a directory: its mtime when it was opened last. */
	struct timespec listed_mtime;
	/* Handles that may write: while there are any, the kernel may not cache attributes, because
	 * stores through a mapping change them and tell nobody. */
	atomic_uint n_writers;
} Inode;

typedef struct InodeTable {
	SlotTable slots;
	Mutex lock;
	/* Protected by lock. (dev, ino) -> Inode; the inodes are their own keys. */
	GHashTable *by_identity;
	uint64_t next_generation;
	/* For those who would bury an inode: one was closed. */
	Cond closed;
	/* Immutable: an empty file without a name. */
	int grave_fd;
	/* Borrowed. Each inode's descriptor is counted there. */
	DescriptorBudget *budget;
} InodeTable;

#define INODE_ROOT_INDEX 1

/* Takes ownership of root_fd on success. 0 or -errno. */
int inode_table_init(InodeTable *table, int root_fd, DescriptorBudget *budget);
/* Closes every inode, whatever the kernel still knows. */
void inode_table_deinit(InodeTable *table);

static inline Inode *inode_table_get(InodeTable *table, uint64_t index)
{
	return slot_table_get(&table->slots, index);
}

/* Looks a name up below a directory. Counts one lookup. 0 or -errno. */
int inode_table_lookup(InodeTable *table, int parent_fd, const char *name, struct stat *ret_attr,
		       Inode **ret_inode);
/* The same; but -ENFILE if the file is not known yet, and the budget has no room for its descriptor. */
int inode_table_lookup_if_room(InodeTable *table, int parent_fd, const char *name, struct stat *ret_attr,
			       Inode **ret_inode);
/* The same for a file that is open anyway: `fd` is an O_PATH descriptor and consumed, also on failure. */
int inode_table_enter(InodeTable *table, int fd, struct stat *ret_attr, Inode **ret_inode);
void inode_table_forget(InodeTable *table, Inode *inode, uint64_t n_lookups);

/* A file has lost its last name. If nobody has it open, its space is free when this returns, and not only when the
 * kernel gets to forgetting it; or with `keep`, when the O_PATH descriptor that is returned is closed. Else returns 0; -EBUSY
 * if somebody has it open at `until_ns` (monotonic; the kernel tells of a close a little after it), -ENOENT if the kernel does
 * not know it, or another -errno. */
int inode_table_bury(InodeTable *table, dev_t dev, ino_t ino, bool keep, int64_t until_ns);

/* What an operation that went by the inode's `fd` comes to: `r`, or -ESTALE if it may have met the empty file. To be asked
 * after it: the mark is there before the empty file is. On ESTALE the kernel walks the path again, and finds out. */
static inline int64_t inode_outcome(const Inode *inode, int64_t r)
{
	return atomic_load(&inode->buried) ? -ESTALE : r;
}

/* Of the inodes from *cursor on, some that are not open: the indices of at most `max` of them, perhaps none. *cursor goes to
 * where to look next: that is 0 behind the last. */
size_t inode_table_next_closed(InodeTable *table, uint64_t *cursor, uint64_t *indices, size_t max);

/* Keep the record alive for an open handle. */
void inode_table_hold(InodeTable *table, Inode *inode);
void inode_table_release(InodeTable *table, Inode *inode);
