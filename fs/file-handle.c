// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel has one way of moving data for all handles of an inode that are open at a time, and one backing
 * file for them. The first to open decides, the last to close ends it.
 */
#include "fs/file-handle.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/live-buffer.h"
#include "fs/backing.h"

static bool may_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static void give_up_passthrough(Fs *fs, int error)
{
	/* The first to see it says so. */
	if (atomic_exchange(&fs->passthrough, false))
		log_failure(fs->log, WARNING, "passthrough", NULL, error,
			    "passthrough: the kernel refused it (%s: no CAP_SYS_ADMIN, or a source that "
			    "cannot be stacked on); data goes through the daemon: correct, but slower",
			    g_strerror(error));
}

/* What is stacked itself, on a directory of a source that is not, is alone in having no passthrough. */
static void begin_io(Fs *fs, Inode *inode, int fd, bool by_daemon)
{
	inode->io = INODE_IO_DAEMON;
	if (by_daemon || !atomic_load_explicit(&fs->passthrough, memory_order_relaxed))
		return;
	inode->backing_id = backing_open(fuse_session_fd(fs->session), fd);
	if (inode->backing_id > 0)
		inode->io = INODE_IO_PASSTHROUGH;
	else if (inode->backing_id != -ELOOP || fs_source_is_stacked(fs))
		give_up_passthrough(fs, -inode->backing_id);
}

static void end_io(Fs *fs, Inode *inode)
{
	if (inode->io == INODE_IO_PASSTHROUGH)
		backing_close(fuse_session_fd(fs->session), inode->backing_id);
	inode->io = INODE_IO_CLOSED;
	inode->backing_id = 0;
}

/* A live segment's reads and writes come to us, who know its length; its mappings go to the file. While it has a
 * transient buffer, they come to us as well: the file may lack what has been written. */
static void join_io(Fs *fs, Inode *inode, FileHandle *handle, struct fuse_file_info *fi)
{
	bool buffered = handle->live && live_buffer_is_there(handle->live);
	int fd = handle->fd;

	/* Its close may have to tell of a commit that failed. */
	fi->noflush = !buffered;
	MUTEX_SCOPE(&inode->lock);
	if (inode->n_io_handles++ == 0)
		begin_io(fs, inode, fd, buffered);
	if (inode->io == INODE_IO_PASSTHROUGH) {
		fi->backing_id = inode->backing_id;
		fi->direct_io = handle->direct = handle->live;
	}
	fs_metrics_note_open(&fs->metrics, inode->io != INODE_IO_PASSTHROUGH ? FS_PATH_DAEMON :
					   handle->live ? FS_PATH_APPEND : FS_PATH_PASSTHROUGH);
	if (inode->io != INODE_IO_PASSTHROUGH || handle->live) {
		/* Our buffers are not aligned as O_DIRECT wants them; and the kernel tells the offset of every
		 * write, also of those from a mapping, which O_APPEND would send to the end. */
		fcntl(fd, F_SETFL, fi->flags & O_NOATIME);
	}
}

int file_handle_open(fuse_req_t req, Inode *inode, int fd, struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	auto_fd owned = fd;
	uint64_t index = slot_table_allocate(&fs->files);
	FileHandle *handle;
	int r;

	if (index == 0)
		return -ENFILE;
	handle = slot_table_get(&fs->files, index);
	*handle = (FileHandle){ .fd = steal_fd(&owned), .flags = fi->flags };
	fi->fh = index;
	descriptor_budget_take(&fs->descriptors, 1);
	inode_table_hold(&fs->inodes, inode);
	if (fs->live)
		handle->hold = live_set_open(fs->live, inode->dev, inode->ino);
	if (handle->hold && !handle->hold->reserved_only)
		handle->live = handle->hold;
	if (handle->live && (fi->flags & O_ACCMODE) == O_RDWR) {
		r = live_segment_expect_mapping(handle->live);
		if (r < 0)
			log_failure(fs->log, WARNING, "record", handle->live->name, r,
				    "%s: cannot record its length: %s; the next sync does, or fails",
				    handle->live->name, g_strerror(-r));
	}
	if (may_write(fi->flags))
		atomic_fetch_add(&inode->n_writers, 1);
	join_io(fs, inode, handle, fi);
	return 0;
}

void file_handle_close(Fs *fs, Inode *inode, const struct fuse_file_info *fi)
{
	FileHandle *handle = file_handle(fs, fi);

	mutex_lock(&inode->lock);
	if (--inode->n_io_handles == 0)
		end_io(fs, inode);
	mutex_unlock(&inode->lock);
	if (may_write(handle->flags))
		atomic_fetch_sub(&inode->n_writers, 1);
	close(steal_fd(&handle->fd));
	descriptor_budget_give(&fs->descriptors, 1);
	/* Not before: a reservation is given back only if nobody has the file open. */
	if (handle->hold)
		live_set_close(fs->live, handle->hold);
	slot_table_free(&fs->files, fi->fh);
	inode_table_release(&fs->inodes, inode);
}
