// SPDX-License-Identifier: Apache-2.0
#include "fs/reply.h"

#include <sys/sysmacros.h>

void reply_status(fuse_req_t req, int r)
{
	fuse_reply_err(req, -r);
}

double reply_attr_timeout(const Fs *fs, Inode *inode)
{
	/* Relaxed: an open for writing that races with this reply is told of by its own reply. */
	return atomic_load_explicit(&inode->n_writers, memory_order_relaxed) ? 0 :
									       fs->config.attr_timeout;
}

struct fuse_entry_param reply_entry_param(const Fs *fs, Inode *inode, const struct stat *attr)
{
	struct fuse_entry_param entry = {
		.ino = inode->index,
		.generation = inode->generation,
		.attr = *attr,
		.attr_timeout = reply_attr_timeout(fs, inode),
		.entry_timeout = fs->config.attr_timeout,
	};

	fs_patch_attr(fs, inode->fd, "", &entry.attr);
	return entry;
}

void reply_entry(fuse_req_t req, int r, Inode *inode, const struct stat *attr)
{
	Fs *fs = fs_of(req);
	struct fuse_entry_param entry;

	if (r < 0) {
		reply_status(req, r);
		return;
	}
	entry = reply_entry_param(fs, inode, attr);
	if (fuse_reply_entry(req, &entry) < 0)
		inode_table_forget(&fs->inodes, inode, 1);
}

void reply_attr(fuse_req_t req, Inode *inode, const struct stat *attr)
{
	fuse_reply_attr(req, attr, reply_attr_timeout(fs_of(req), inode));
}

static struct statx_timestamp timestamp_of(struct timespec time)
{
	return (struct statx_timestamp){ .tv_sec = time.tv_sec, .tv_nsec = time.tv_nsec };
}

struct statx reply_statx_of(const struct stat *attr)
{
	return (struct statx){
		.stx_mask = STATX_BASIC_STATS,
		.stx_blksize = attr->st_blksize,
		.stx_nlink = attr->st_nlink,
		.stx_uid = attr->st_uid,
		.stx_gid = attr->st_gid,
		.stx_mode = attr->st_mode,
		.stx_ino = attr->st_ino,
		.stx_size = attr->st_size,
		.stx_blocks = attr->st_blocks,
		.stx_atime = timestamp_of(attr->st_atim),
		.stx_ctime = timestamp_of(attr->st_ctim),
		.stx_mtime = timestamp_of(attr->st_mtim),
		.stx_rdev_major = major(attr->st_rdev),
		.stx_rdev_minor = minor(attr->st_rdev),
		.stx_dev_major = major(attr->st_dev),
		.stx_dev_minor = minor(attr->st_dev),
	};
}
