// SPDX-License-Identifier: Apache-2.0
/*
 * Names. Every name is one component, used relative to its directory's descriptor, and the daemon follows no
 * symbolic link: so nothing outside the source can be reached.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/ops.h"
#include "fs/ownership.h"
#include "fs/removal.h"
#include "fs/reply.h"

static void reply_lookup(fuse_req_t req, Inode *parent, const char *name)
{
	struct stat attr;
	Inode *inode = NULL;
	int r = inode_table_lookup(&fs_of(req)->inodes, parent->fd, name, &attr, &inode);

	reply_entry(req, r, inode, &attr);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	Fs *fs = fs_of(req);
	Inode *directory = fs_inode(fs, parent);
	struct stat attr;
	Inode *inode = NULL;
	int r = inode_table_lookup_if_room(&fs->inodes, directory->fd, name, &attr, &inode);

	/* Once there was room, it is not refused: another may have taken that meanwhile. */
	if (r == -ENFILE && fs_wait_descriptor(fs) == 0)
		r = inode_table_lookup(&fs->inodes, directory->fd, name, &attr, &inode);
	reply_entry(req, r, inode, &attr);
}

void op_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t n_lookups)
{
	Fs *fs = fs_of(req);

	if (nodeid != INODE_ROOT_INDEX)
		inode_table_forget(&fs->inodes, fs_inode(fs, nodeid), n_lookups);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	Fs *fs = fs_of(req);

	for (size_t i = 0; i < count; i++)
		if (forgets[i].ino != INODE_ROOT_INDEX)
			inode_table_forget(&fs->inodes, fs_inode(fs, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

void op_readlink(fuse_req_t req, fuse_ino_t nodeid)
{
	char target[PATH_MAX + 1];
	ssize_t n = readlinkat(fs_inode(fs_of(req), nodeid)->fd, "", target, sizeof(target));

	if (n < 0 || n == sizeof(target)) {
		reply_status(req, n < 0 ? -errno : -ENAMETOOLONG);
		return;
	}
	target[n] = '\0';
	fuse_reply_readlink(req, target);
}

/* Makes an object as the caller would; `make` returns what the system call does. */
typedef int (*MakeFunc)(int parent_fd, const char *name, mode_t mode, const void *arg);

static void make_object(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, MakeFunc make,
			const void *arg)
{
	Fs *fs = fs_of(req);
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	Inode *directory = fs_inode(fs, parent);
	int r = fs_is_hidden(parent, name) ? -EPERM : 0;

	if (r == 0) {
		mode = ownership_mode(fs, directory, mode, caller->umask);
		r = ownership_enter(req, mode);
	}
	if (r == 0) {
		do
			r = make(directory->fd, name, mode, arg) < 0 ? -errno : 0;
		while (r == -ENOSPC && fs->service && allocate_service_give_way(fs->service));
		ownership_leave(req, mode);
	}
	if (r < 0)
		reply_status(req, r);
	else
		reply_lookup(req, directory, name);
}

static int make_node(int parent_fd, const char *name, mode_t mode, const void *device)
{
	return mknodat(parent_fd, name, mode, *(const dev_t *)device);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	make_object(req, parent, name, mode, make_node, &device);
}

static int make_directory(int parent_fd, const char *name, mode_t mode, const void *unused)
{
	(void)unused;
	return mkdirat(parent_fd, name, mode);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make_object(req, parent, name, mode, make_directory, NULL);
}

static int make_symlink(int parent_fd, const char *name, mode_t mode, const void *target)
{
	(void)mode;
	return symlinkat(target, parent_fd, name);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make_object(req, parent, name, 0777, make_symlink, target);
}

static int link_inode(const Fs *fs, const Inode *inode, const Inode *new_parent, const char *new_name)
{
	ProcName name = fs_proc_name(inode->fd);

	if (linkat(inode->fd, "", new_parent->fd, new_name, AT_EMPTY_PATH) == 0)
		return 0;
	/* Without CAP_DAC_READ_SEARCH that is ENOENT; this way it is not, but symbolic links are followed. */
	if (errno != ENOENT)
		return -errno;
	return linkat(fs->proc_fd, name.text, new_parent->fd, new_name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

void op_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t new_parent, const char *new_name)
{
	Fs *fs = fs_of(req);
	Inode *directory = fs_inode(fs, new_parent);
	Inode *inode = fs_inode(fs, nodeid);
	int r = fs_is_hidden(new_parent, new_name) ? -EPERM : link_inode(fs, inode, directory, new_name);

	r = inode_outcome(inode, r);
	if (r < 0)
		reply_status(req, r);
	else
		reply_lookup(req, directory, new_name);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, int flags)
{
	Fs *fs = fs_of(req);
	Inode *directory = fs_inode(fs, parent);
	Removal removal;
	int r;

	if (fs_is_hidden(parent, name)) {
		reply_status(req, -EPERM);
		return;
	}
	removal_begin(fs, directory, name, &removal);
	r = unlinkat(directory->fd, name, flags) < 0 ? -errno : 0;
	removal_end(fs, &removal, r == 0);
	reply_status(req, r);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, AT_REMOVEDIR);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags)
{
	Fs *fs = fs_of(req);
	Inode *directory = fs_inode(fs, parent), *new_directory = fs_inode(fs, new_parent);
	Removal removal = REMOVAL_OF_NOTHING;
	int r;

	if (fs_is_hidden(parent, name) || fs_is_hidden(new_parent, new_name)) {
		reply_status(req, -EPERM);
		return;
	}
	/* With flags nothing is replaced. */
	if (flags == 0)
		removal_begin(fs, new_directory, new_name, &removal);
	r = renameat2(directory->fd, name, new_directory->fd, new_name, flags) < 0 ? -errno : 0;
	/* Not if it was renamed to itself. */
	removal_end(fs, &removal, r == 0 && !removal_is_at(&removal, new_directory->fd, new_name));
	reply_status(req, r);
}
