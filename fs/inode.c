// SPDX-License-Identifier: Apache-2.0
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/file-identity.h"

/* While the table is locked. */
#define MAX_LOOKED_AT 4096

static guint identity_hash(gconstpointer key)
{
	const Inode *inode = key;

	return file_identity_hash(inode->dev, inode->ino);
}

static gboolean identity_equal(gconstpointer a, gconstpointer b)
{
	const Inode *one = a, *other = b;

	return one->ino == other->ino && one->dev == other->dev;
}

/* A new record for an open file that has none. Needs the table's lock. */
static Inode *inode_new_locked(InodeTable *table, int fd, const struct stat *attr)
{
	uint64_t index = slot_table_allocate(&table->slots);
	Inode *inode;

	if (index == 0)
		return NULL;
	inode = inode_table_get(table, index);
	*inode = (Inode){
		.index = index,
		.generation = table->next_generation++,
		.fd = fd,
		.dev = attr->st_dev,
		.ino = attr->st_ino,
	};
	mutex_init(&inode->lock);
	g_hash_table_add(table->by_identity, inode);
	descriptor_budget_take(table->budget, 1);
	return inode;
}

/* Its descriptor is the caller's then. */
static int inode_free_locked(InodeTable *table, Inode *inode)
{
	uint64_t index = inode->index;
	int fd = inode->fd;

	/* One that was buried has left its place, where a new file may be by now. */
	if (!atomic_load(&inode->buried))
		g_hash_table_remove(table->by_identity, inode);
	mutex_deinit(&inode->lock);
	inode->index = 0;
	slot_table_free(&table->slots, index);
	descriptor_budget_give(table->budget, 1);
	return fd;
}

int inode_table_init(InodeTable *table, int root_fd, DescriptorBudget *budget)
{
	struct stat attr;
	int grave_fd;

	if (fstat(root_fd, &attr) < 0)
		return -errno;
	grave_fd = memfd_create("warmfs-gone", MFD_CLOEXEC);
	if (grave_fd < 0)
		return -errno;
	slot_table_init(&table->slots, sizeof(Inode));
	mutex_init(&table->lock);
	cond_init(&table->closed);
	table->by_identity = g_hash_table_new(identity_hash, identity_equal);
	table->next_generation = 1;
	table->grave_fd = grave_fd;
	table->budget = budget;

	MUTEX_SCOPE(&table->lock);
	Inode *root = inode_new_locked(table, root_fd, &attr);
	g_assert(root->index == INODE_ROOT_INDEX);
	/* The kernel never forgets the root. */
	root->n_lookups = 1;
	return 0;
}

static gboolean free_each(gpointer key, gpointer value, gpointer table)
{
	Inode *inode = value;

	(void)key;
	close(inode->fd);
	mutex_deinit(&inode->lock);
	slot_table_free(&((InodeTable *)table)->slots, inode->index);
	return TRUE;
}

void inode_table_deinit(InodeTable *table)
{
	g_hash_table_foreach_remove(table->by_identity, free_each, table);
	g_clear_pointer(&table->by_identity, g_hash_table_unref);
	close(table->grave_fd);
	cond_deinit(&table->closed);
	mutex_deinit(&table->lock);
	slot_table_deinit(&table->slots);
}

/* Consumes `fd`. A file that is not known yet is refused without room for it, if that is asked for. */
static int enter(InodeTable *table, int fd, bool if_room, struct stat *ret_attr, Inode **ret_inode)
{
	auto_fd owned = fd;
	Inode key, *inode;

	if (fstatat(fd, "", ret_attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	key.dev = ret_attr->st_dev;
	key.ino = ret_attr->st_ino;

	MUTEX_SCOPE(&table->lock);
	inode = g_hash_table_lookup(table->by_identity, &key);
	if (!inode) {
		if (if_room && !descriptor_budget_has_room(table->budget))
			return -ENFILE;
		inode = inode_new_locked(table, fd, ret_attr);
		if (!inode)
			return -ENFILE;
		steal_fd(&owned);
	}
	inode->n_lookups++;
	*ret_inode = inode;
	return 0;
}

int inode_table_enter(InodeTable *table, int fd, struct stat *ret_attr, Inode **ret_inode)
{
	return enter(table, fd, false, ret_attr, ret_inode);
}

static int lookup(InodeTable *table, int parent_fd, const char *name, bool if_room, struct stat *ret_attr, Inode **ret_inode)
{
	int fd = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return enter(table, fd, if_room, ret_attr, ret_inode);
}

int inode_table_lookup(InodeTable *table, int parent_fd, const char *name, struct stat *ret_attr,
		       Inode **ret_inode)
{
	return lookup(table, parent_fd, name, false, ret_attr, ret_inode);
}

int inode_table_lookup_if_room(InodeTable *table, int parent_fd, const char *name, struct stat *ret_attr,
			       Inode **ret_inode)
{
	return lookup(table, parent_fd, name, true, ret_attr, ret_inode);
}

/* What is to be closed, without the lock: if the file has no name any more, that takes as long as removing it; or -1. */
static int free_if_unused_locked(InodeTable *table, Inode *inode)
{
	return inode->n_lookups == 0 && inode->n_handles == 0 ? inode_free_locked(table, inode) : -1;
}

void inode_table_forget(InodeTable *table, Inode *inode, uint64_t n_lookups)
{
	auto_fd fd = -1;

	MUTEX_SCOPE(&table->lock);
	g_assert(inode->n_lookups >= n_lookups);
	inode->n_lookups -= n_lookups;
	fd = free_if_unused_locked(table, inode);
}

/* Puts the empty file in the place of the inode's; *ret_fd is its own, if that is wanted. dup3 replaces the descriptor in one step: a request that is using it sees the one file or the other, and never
 * somebody else's. */
static int replace_fd(InodeTable *table, Inode *inode, bool keep)
{
	auto_fd kept = keep ? fcntl(inode->fd, F_DUPFD_CLOEXEC, 3) : -1;

	if (keep && kept < 0)
		return -errno;
	if (dup3(table->grave_fd, inode->fd, O_CLOEXEC) < 0)
		return -errno;
	return keep ? steal_fd(&kept) : 0;
}

int inode_table_bury(InodeTable *table, dev_t dev, ino_t ino, bool keep, int64_t until_ns)
{
	Inode key = { .dev = dev, .ino = ino }, *inode;
	int r;

	MUTEX_SCOPE(&table->lock);
	while ((inode = g_hash_table_lookup(table->by_identity, &key)) && inode->n_handles > 0)
		if (monotonic_ns() >= until_ns || !cond_wait_until(&table->closed, &table->lock, until_ns))
			return -EBUSY;
	if (!inode)
		return -ENOENT;
	/* First: see inode_outcome. */
	atomic_store(&inode->buried, true);
	r = replace_fd(table, inode, keep);
	if (r < 0)
		atomic_store(&inode->buried, false);
	else
		g_hash_table_remove(table->by_identity, inode);
	return r;
}

void inode_table_hold(InodeTable *table, Inode *inode)
{
	MUTEX_SCOPE(&table->lock);
	inode->n_handles++;
}

void inode_table_release(InodeTable *table, Inode *inode)
{
	auto_fd fd = -1;

	MUTEX_SCOPE(&table->lock);
	if (--inode->n_handles == 0)
		cond_broadcast(&table->closed);
	fd = free_if_unused_locked(table, inode);
}

size_t inode_table_next_closed(InodeTable *table, uint64_t *cursor, uint64_t *indices, size_t max)
{
	uint64_t end = slot_table_end(&table->slots), stop = MIN(end, *cursor + MAX_LOOKED_AT);
	size_t n = 0;

	MUTEX_SCOPE(&table->lock);
	for (; *cursor < stop && n < max; ++*cursor) {
		const Inode *inode = inode_table_get(table, *cursor);

		if (inode->index > INODE_ROOT_INDEX && inode->n_handles == 0)
			indices[n++] = inode->index;
	}
	if (*cursor == end)
		*cursor = 0;
	return n;
}
