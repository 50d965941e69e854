// SPDX-License-Identifier: Apache-2.0
/*
 * Open files. Under passthrough only open, release, fsync, fallocate, lseek and copy_file_range come here; reads and
 * writes do where there is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/live-buffer.h"
#include "fs/file-handle.h"
#include "fs/ops.h"
#include "fs/ownership.h"
#include "fs/reply.h"

/* The handle of an open that came too late is taken back: only now that there is one can the file not be buried any more. */
static int keep_open(fuse_req_t req, Inode *inode, int fd, struct fuse_file_info *fi)
{
	int r = file_handle_open(req, inode, fd, fi);

	if (r == 0 && inode_outcome(inode, 0) < 0) {
		file_handle_close(fs_of(req), inode, fi);
		r = -ESTALE;
	}
	return r;
}

void op_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	Inode *inode = fs_inode(fs, nodeid);
	LiveSegment *live = fs->live ? live_set_open(fs->live, inode->dev, inode->ino) : NULL;
	bool truncate_live = live && !live->reserved_only && (fi->flags & O_TRUNC);
	int fd = fs_reopen(fs, inode->fd, truncate_live ? fi->flags & ~O_TRUNC : fi->flags);
	int r;

	/* Before anything is done with it: what is live in the gone one's place would be another file. */
	if (inode_outcome(inode, 0) < 0) {
		cleanup_fd(&fd);
		fd = -ESTALE;
	}
	if (fd >= 0 && (fi->flags & O_TRUNC) && fi->kill_suidgid)
		ownership_drop_set_ids(req, fd);
	if (fd >= 0 && truncate_live) {
		r = live_segment_truncate(live, 0);
		if (r < 0) {
			close(fd);
			fd = r;
		}
	}
	r = fd < 0 ? fd : keep_open(req, inode, fd, fi);
	if (live)
		live_set_close(fs->live, live);
	if (r < 0)
		reply_status(req, r);
	else if (fuse_reply_open(req, fi) < 0)
		file_handle_close(fs, inode, fi);
}

void op_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);

	file_handle_close(fs, fs_inode(fs, nodeid), fi);
	reply_status(req, 0);
}

/* Of close, and only if file_handle_open asked for it. Who only reads has lost nothing. */
void op_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	FileHandle *handle = file_handle(fs_of(req), fi);
	bool may_write = (handle->flags & O_ACCMODE) != O_RDONLY;

	(void)nodeid;
	reply_status(req, handle->live && may_write ? live_buffer_retry(handle->live) : 0);
}

static void reply_from_buffer(fuse_req_t req, LiveSegment *live, size_t size, off_t offset)
{
	g_autofree char *data = g_malloc(size);
	ssize_t n = live_segment_read(live, data, size, offset);

	if (n < 0)
		reply_status(req, n);
	else
		fuse_reply_buf(req, data, n);
}

void op_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct fuse_bufvec data = FUSE_BUFVEC_INIT(size);
	Fs *fs = fs_of(req);
	FileHandle *handle = file_handle(fs, fi);
	/* Only a read into the page cache (for sendfile, splice) has no owner. Nobody would tell those pages of writes. */
	bool fills_cache = handle->direct && fi->lock_owner == 0;

	/* An answer over io_uring is not sent before this function returns: dropping the page in it would wait for itself. */
	if (fills_cache && fuse_req_is_uring(req)) {
		reply_status(req, -EINVAL);
		return;
	}
	if (handle->live && live_segment_is_read_here(handle->live, offset, size)) {
		reply_from_buffer(req, handle->live, size, offset);
		return;
	}
	if (handle->live)
		data.buf[0].size = live_segment_readable(handle->live, offset, size);
	data.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	/* By the handle it is the application's access (O_NOATIME); the kernel's own, to write a part of a page, may come by one
	 * that cannot read. */
	data.buf[0].fd = handle->live && (handle->flags & O_ACCMODE) == O_WRONLY ? handle->live->fd : handle->fd;
	data.buf[0].pos = offset;
	fuse_reply_data(req, &data, 0);
	if (fills_cache)
		fuse_lowlevel_notify_inval_inode(fs->session, nodeid, offset, size);
}

/* In one piece: its last byte matters. */
static ssize_t write_live(Fs *fs, LiveSegment *live, struct fuse_bufvec *data, off_t offset, bool synced)
{
	size_t size = fuse_buf_size(data);
	struct fuse_bufvec copy = FUSE_BUFVEC_INIT(size);
	bool in_memory = data->count == 1 && !(data->buf[0].flags & FUSE_BUF_IS_FD);
	g_autofree char *allocated = in_memory ? NULL : g_malloc(size);
	ssize_t n = size;

	if (!in_memory) {
		copy.buf[0].mem = allocated;
		n = fuse_buf_copy(&copy, data, 0);
		if (n < 0)
			return n;
	}
	size = n;
	do
		n = live_segment_write(live, in_memory ? data->buf[0].mem : allocated, size, offset, synced);
	while (n == -ENOSPC && fs->service && allocate_service_give_way(fs->service));
	return n;
}

static int sync_handle(const FileHandle *handle, bool data_only)
{
	if (handle->live)
		return live_segment_sync(handle->live, handle->fd, data_only);
	return (data_only ? fdatasync(handle->fd) : fsync(handle->fd)) < 0 ? -errno : 0;
}

/* Writing again after the pool has made room; nothing of it was written before. */
static ssize_t write_all(Fs *fs, int fd, struct fuse_bufvec *data, off_t offset)
{
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(data));
	ssize_t n;

	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = fd;
	out.buf[0].pos = offset;
	do {
		out.idx = data->idx = 0;
		out.off = data->off = 0;
		n = fuse_buf_copy(&out, data, 0);
	} while (n == -ENOSPC && fs->service && allocate_service_give_way(fs->service));
	return n;
}

void op_write_buf(fuse_req_t req, fuse_ino_t nodeid, struct fuse_bufvec *data, off_t offset,
		  struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	FileHandle *handle = file_handle(fs, fi);
	/* The descriptor has the flags it was opened with; a single write may ask for more (RWF_DSYNC). */
	bool synced = fi->flags & O_SYNC & (handle->live ? -1 : ~handle->flags);
	ssize_t n;

	(void)nodeid;
	if (fi->kill_suidgid)
		ownership_drop_set_ids(req, handle->fd);
	/* The kernel knows the end (all that changes it passes by it), and so where to append. */
	if (handle->live)
		n = write_live(fs, handle->live, data, offset, synced);
	else
		n = write_all(fs, handle->fd, data, offset);
	if (n > 0 && synced) {
		int r = sync_handle(handle, true);

		n = r < 0 ? r : n;
	}
	if (n < 0)
		reply_status(req, n);
	else
		fuse_reply_write(req, n);
}

void op_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	FileHandle *handle = file_handle(fs_of(req), fi);

	(void)nodeid;
	reply_status(req, sync_handle(handle, datasync));
}

static bool reserves(int mode)
{
	return (mode & FALLOC_FL_KEEP_SIZE) && !(mode & FALLOC_FL_PUNCH_HOLE);
}

void op_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t offset, off_t length,
		  struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	FileHandle *handle = file_handle(fs, fi);
	int r;

	(void)nodeid;
	do
		r = handle->live ? live_segment_fallocate(handle->live, mode, offset, length) :
		    fallocate(handle->fd, mode, offset, length) < 0 ? -errno : 0;
	while (r == -ENOSPC && fs->service && allocate_service_give_way(fs->service));
	/* What an application reserves itself is its own to give back. */
	if (r == 0 && handle->hold && !handle->live && reserves(mode))
		live_segment_finish(handle->hold);
	/* As the source would, had the application asked it. */
	if (r == 0 && fuse_req_ctx(req)->uid != 0)
		ownership_drop_set_ids(req, handle->fd);
	reply_status(req, r);
}

/* At most so many threads wait for pages: others have to take those in. */
#define MAX_WRITING_BACK 16

/* What is stored through a mapping stays in the kernel's pages for a while: there may be data that the source has not. */
static bool may_have_dirty_pages(Inode *inode)
{
	MUTEX_SCOPE(&inode->lock);
	return inode->io == INODE_IO_DAEMON && atomic_load(&inode->n_writers) > 0;
}

/* Of its pages from `offset` on: to drop them, the kernel writes them first. False if that cannot be waited for. */
static bool write_pages_back(fuse_req_t req, const Inode *inode, off_t offset)
{
	Fs *fs = fs_of(req);
	bool done = false;

	/* The thread of a ring would have to take them in itself. */
	if (fuse_req_is_uring(req) || offset < 0)
		return false;
	if (atomic_fetch_add(&fs->n_writing_back, 1) < MAX_WRITING_BACK)
		done = fuse_lowlevel_notify_inval_inode(fs->session, inode->index, offset, 0) == 0;
	atomic_fetch_sub(&fs->n_writing_back, 1);
	return done;
}

/* All of it is data: never wrong, if not helpful. */
static off_t seek_without_holes(const Fs *fs, int fd, off_t offset, int whence)
{
	struct stat attr;

	if (fstat(fd, &attr) < 0)
		return -errno;
	fs_patch_attr(fs, fd, "", &attr);
	if (offset < 0 || offset >= attr.st_size)
		return -ENXIO;
	return whence == SEEK_DATA ? offset : attr.st_size;
}

/* SEEK_DATA or SEEK_HOLE. */
static off_t seek(fuse_req_t req, Inode *inode, const FileHandle *handle, off_t offset, int whence)
{
	off_t found;

	if (may_have_dirty_pages(inode) && !write_pages_back(req, inode, offset))
		return seek_without_holes(fs_of(req), handle->fd, offset, whence);
	if (handle->live)
		return live_segment_seek(handle->live, offset, whence);
	found = lseek(handle->fd, offset, whence);
	return found < 0 ? -errno : found;
}

void op_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t offset, int whence, struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	off_t found = seek(req, fs_inode(fs, nodeid), file_handle(fs, fi), offset, whence);

	if (found < 0)
		reply_status(req, found);
	else
		fuse_reply_lseek(req, found);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t from_nodeid, off_t from_offset,
			struct fuse_file_info *from, fuse_ino_t to_nodeid, off_t to_offset,
			struct fuse_file_info *to, size_t length, int flags)
{
	Fs *fs = fs_of(req);
	ssize_t n;

	(void)from_nodeid;
	(void)to_nodeid;
	/* The kernel then copies by reading and writing, which knows the lengths. */
	if (file_handle(fs, from)->live || file_handle(fs, to)->live) {
		reply_status(req, -EXDEV);
		return;
	}
	n = copy_file_range(file_handle(fs, from)->fd, &from_offset, file_handle(fs, to)->fd, &to_offset, length,
			    flags);
	if (n > 0 && fuse_req_ctx(req)->uid != 0)
		ownership_drop_set_ids(req, file_handle(fs, to)->fd);
	if (n < 0)
		reply_status(req, -errno);
	else
		fuse_reply_write(req, n);
}
