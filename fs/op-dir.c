// SPDX-License-Identifier: Apache-2.0
/* Open directories: the source's own listing, less the pool. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/file-identity.h"
#include "fs/file-handle.h"
#include "fs/ops.h"
#include "fs/reply.h"

static DirHandle *dir_handle(Fs *fs, const struct fuse_file_info *fi)
{
	return slot_table_get(&fs->dirs, fi->fh);
}

/* The kernel takes its time to keep a listing, which pays only if the same is asked for again. */
static bool is_listed_again(Inode *inode, int fd)
{
	struct stat attr;
	bool again;

	if (fstat(fd, &attr) < 0)
		return false;
	MUTEX_SCOPE(&inode->lock);
	again = is_same_time(attr.st_mtim, inode->listed_mtime);
	inode->listed_mtime = attr.st_mtim;
	return again;
}

static int open_dir(Fs *fs, Inode *inode, struct fuse_file_info *fi)
{
	auto_fd fd = fs_reopen(fs, inode->fd, O_RDONLY | O_DIRECTORY);
	DIR *stream;

	if (fd < 0)
		return fd;
	stream = fdopendir(fd);
	if (!stream)
		return -errno;
	steal_fd(&fd);
	fi->fh = slot_table_allocate(&fs->dirs);
	if (fi->fh == 0) {
		closedir(stream);
		return -ENFILE;
	}
	*dir_handle(fs, fi) = (DirHandle){ .stream = stream };
	descriptor_budget_take(&fs->descriptors, 1);
	/* It drops its cached listing when the directory's times have changed. */
	fi->cache_readdir = fi->keep_cache = is_listed_again(inode, dirfd(stream));
	return 0;
}

static void close_dir(Fs *fs, const struct fuse_file_info *fi)
{
	DirHandle *handle = dir_handle(fs, fi);

	closedir(handle->stream);
	handle->stream = NULL;
	descriptor_budget_give(&fs->descriptors, 1);
	slot_table_free(&fs->dirs, fi->fh);
}

void op_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	int r = open_dir(fs, fs_inode(fs, nodeid), fi);

	if (r < 0)
		reply_status(req, r);
	else if (fuse_reply_open(req, fi) < 0)
		close_dir(fs, fi);
}

void op_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)nodeid;
	close_dir(fs_of(req), fi);
	reply_status(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	int fd = dirfd(dir_handle(fs_of(req), fi)->stream);
	int r = datasync ? fdatasync(fd) : fsync(fd);

	(void)nodeid;
	reply_status(req, r < 0 ? -errno : 0);
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Adds one entry; 0 if it did not fit. A lookup is counted only for one that did. */
static size_t add_plain(fuse_req_t req, char *room, size_t size, const struct dirent *entry)
{
	struct stat attr = { .st_ino = entry->d_ino, .st_mode = (mode_t)entry->d_type << 12 };

	return fuse_add_direntry(req, room, size, entry->d_name, &attr, entry->d_off);
}

/* Without attributes: the kernel looks up what it wants to know. */
static size_t add_bare(fuse_req_t req, char *room, size_t size, const struct dirent *entry)
{
	struct fuse_entry_param param = {
		.attr = { .st_ino = entry->d_ino, .st_mode = (mode_t)entry->d_type << 12 },
	};

	return fuse_add_direntry_plus(req, room, size, entry->d_name, &param, entry->d_off);
}

static size_t add_looked_up(fuse_req_t req, const Inode *directory, char *room, size_t size,
			    const struct dirent *entry)
{
	Fs *fs = fs_of(req);
	struct fuse_entry_param param;
	Inode *inode = NULL;
	struct stat attr;
	size_t used;

	/* Gone in the meantime: then the kernel will find that out, if need be. What nobody has asked for is not remembered
	 * when there is much already. */
	if (is_dot(entry->d_name) || descriptor_budget_is_crowded(&fs->descriptors) ||
	    inode_table_lookup(&fs->inodes, directory->fd, entry->d_name, &attr, &inode) < 0)
		return add_bare(req, room, size, entry);
	param = reply_entry_param(fs, inode, &attr);
	used = fuse_add_direntry_plus(req, room, size, entry->d_name, &param, entry->d_off);
	if (used > size)
		inode_table_forget(&fs->inodes, inode, 1);
	return used;
}

static void seek(DirHandle *handle, off_t offset)
{
	if (handle->offset == offset)
		return;
	seekdir(handle->stream, offset);
	handle->pending = NULL;
	handle->offset = offset;
}

/* NULL at the end, and at an error: then *ret_end is 0 or -errno. */
static struct dirent *next_entry(DirHandle *handle, int *ret_end)
{
	if (handle->pending)
		return handle->pending;
	errno = 0;
	handle->pending = readdir(handle->stream);
	if (!handle->pending)
		*ret_end = -errno;
	return handle->pending;
}

typedef enum Detail {
	PLAIN,
	BARE,
	LOOKED_UP,
} Detail;

static size_t add(fuse_req_t req, const Inode *directory, char *room, size_t size, const struct dirent *entry,
		  Detail detail)
{
	if (fs_is_hidden(directory->index, entry->d_name))
		return 0;
	if (detail == PLAIN)
		return add_plain(req, room, size, entry);
	return detail == BARE ? add_bare(req, room, size, entry) : add_looked_up(req, directory, room, size, entry);
}

/* From `offset` on. Bytes filled. *ret_end is above 0 if there is more. */
static size_t fill(fuse_req_t req, const Inode *directory, DirHandle *handle, off_t offset, char *buffer, size_t size,
		   Detail detail, int *ret_end)
{
	struct dirent *entry;
	size_t filled = 0;

	*ret_end = 1;
	seek(handle, offset);
	while ((entry = next_entry(handle, ret_end))) {
		size_t room = size - filled, used = add(req, directory, buffer + filled, room, entry, detail);

		if (used > room)
			break;
		filled += used;
		handle->offset = entry->d_off;
		handle->pending = NULL;
	}
	return filled;
}

static void list(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi,
		 Detail detail)
{
	Fs *fs = fs_of(req);
	DirHandle *handle = dir_handle(fs, fi);
	Inode *directory = fs_inode(fs, nodeid);
	g_autofree char *buffer = g_malloc(size);
	int end;
	/* The kernel asks for the attributes of every listing's beginning: who wants them is not known yet. A small
	 * directory's are given, a large one's would be wasted on who only lists it. */
	bool is_beginning = detail == LOOKED_UP && offset == 0;
	size_t filled = fill(req, directory, handle, offset, buffer, size, is_beginning ? BARE : detail, &end);

	if (is_beginning && end == 0)
		filled = fill(req, directory, handle, offset, buffer, size, LOOKED_UP, &end);
	/* An error after some entries is told when it is met again, at the start of an answer. */
	if (end < 0 && filled == 0)
		reply_status(req, end);
	else
		fuse_reply_buf(req, buffer, filled);
}

void op_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, nodeid, size, offset, fi, PLAIN);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	list(req, nodeid, size, offset, fi, LOOKED_UP);
}
