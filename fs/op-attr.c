// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "fs/file-handle.h"
#include "fs/ops.h"
#include "fs/ownership.h"
#include "fs/reply.h"

static int current_attr(const Fs *fs, const Inode *inode, struct stat *ret_attr)
{
	if (fstatat(inode->fd, "", ret_attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return inode_outcome(inode, -errno);
	fs_patch_attr(fs, inode->fd, "", ret_attr);
	/* A directory that cannot be seen is not counted among the links of its parent either (which
	 * not every filesystem counts: then there is 1). */
	if (inode->index == INODE_ROOT_INDEX && fs->service && ret_attr->st_nlink > 2)
		ret_attr->st_nlink--;
	return inode_outcome(inode, 0);
}

static void reply_current_attr(fuse_req_t req, Inode *inode)
{
	struct stat attr;
	int r = current_attr(fs_of(req), inode, &attr);

	if (r < 0)
		reply_status(req, r);
	else
		reply_attr(req, inode, &attr);
}

void op_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)fi;
	reply_current_attr(req, fs_inode(fs_of(req), nodeid));
}

/* Asked for what stat does not have: the time of birth. */
void op_statx(fuse_req_t req, fuse_ino_t nodeid, int flags, int mask, struct fuse_file_info *fi)
{
	Inode *inode = fs_inode(fs_of(req), nodeid);
	struct statx more, all;
	struct stat attr;
	int r = current_attr(fs_of(req), inode, &attr);

	(void)fi;
	if (r == 0 && statx(inode->fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | (flags & AT_STATX_SYNC_TYPE), mask,
			    &more) < 0)
		r = -errno;
	r = inode_outcome(inode, r);
	if (r < 0) {
		reply_status(req, r);
		return;
	}
	all = reply_statx_of(&attr);
	all.stx_mask |= more.stx_mask & STATX_BTIME;
	all.stx_btime = more.stx_btime;
	fuse_reply_statx(req, 0, &all, reply_attr_timeout(fs_of(req), inode));
}

static int set_mode(const Fs *fs, const Inode *inode, mode_t mode)
{
	ProcName name = fs_proc_name(inode->fd);

	return fchmodat(fs->proc_fd, name.text, mode & 07777, 0) < 0 ? -errno : 0;
}

static int set_owner(fuse_req_t req, const Inode *inode, const struct stat *attr, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	struct stat old;

	if (fstatat(inode->fd, "", &old, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchownat(inode->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* The source leaves it to us, who may: not to the caller. */
	if (!(old.st_mode & S_IXGRP) && ownership_ends_set_gid(req, &old))
		return set_mode(fs_of(req), inode, old.st_mode & ~(S_ISUID | S_ISGID));
	return 0;
}

/* Nothing is left, when it gets here, of a chown to nobody in particular (-1, -1). It takes set-id bits away, which
 * only the owner may. And with the same nothing the kernel asks, before it lets somebody write who may not keep such
 * bits, to clear them. */
static int set_nothing(fuse_req_t req, const Inode *inode)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	struct stat attr;

	if (fstatat(inode->fd, "", &attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(attr.st_mode) && (attr.st_mode & (S_ISUID | S_ISGID)) && uid != 0 && uid != attr.st_uid &&
	    atomic_load(&inode->n_writers) == 0 && ((attr.st_mode & S_ISUID) || ownership_ends_set_gid(req, &attr)))
		return -EPERM;
	return set_owner(req, inode, &attr, 0);
}

static int drop_set_ids(fuse_req_t req, const Inode *inode)
{
	auto_fd fd = fs_reopen(fs_of(req), inode->fd, O_RDONLY | O_NONBLOCK);

	return fd < 0 ? fd : ownership_drop_set_ids(req, fd);
}

/* As the application did, by its handle or by name: that decides whether the times move when the size does not. */
static int set_size(fuse_req_t req, const Inode *inode, off_t size, bool kill_set_ids, const struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	LiveSegment *live = fs->live ? live_set_open(fs->live, inode->dev, inode->ino) : NULL;
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", inode->fd);
	int r;

	if (live && !live->reserved_only)
		r = live_segment_truncate(live, size);
	else
		r = (fi ? ftruncate(file_handle(fs, fi)->fd, size) : truncate(path, size)) < 0 ? -errno : 0;
	if (r == 0 && kill_set_ids)
		r = drop_set_ids(req, inode);
	if (live)
		live_set_close(fs->live, live);
	return r;
}

static struct timespec time_to_set(int to_set, int set, int set_now, struct timespec given)
{
	if (to_set & set_now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	return to_set & set ? given : (struct timespec){ .tv_nsec = UTIME_OMIT };
}

static int set_times(const Inode *inode, const struct stat *attr, int to_set)
{
	struct timespec times[2] = {
		time_to_set(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, attr->st_atim),
		time_to_set(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, attr->st_mtim),
	};

	return utimensat(inode->fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

#define SETTABLE                                                                                           \
	(FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_SIZE |                 \
	 FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)

static int apply(fuse_req_t req, Inode *inode, const struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	int r = 0;

	if (!(to_set & SETTABLE))
		return set_nothing(req, inode);
	/* The owner first: changing him clears set-id bits that the mode may ask for. */
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		r = set_owner(req, inode, attr, to_set);
	if (r == 0 && (to_set & FUSE_SET_ATTR_MODE))
		r = set_mode(fs, inode, attr->st_mode);
	if (r == 0 && (to_set & FUSE_SET_ATTR_SIZE))
		r = set_size(req, inode, attr->st_size, to_set & FUSE_SET_ATTR_KILL_SUID, fi);
	if (r == 0 && (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME))) {
		/* A commit of what was written before would move them. */
		r = fs->live ? live_set_settle(fs->live, inode->dev, inode->ino) : 0;
		if (r == 0)
			r = set_times(inode, attr, to_set);
	}
	return r;
}

void op_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	Inode *inode = fs_inode(fs_of(req), nodeid);
	/* Asked first as well: where a gone file was, on the disk, another may be by now, which is a segment. While this is
	 * unanswered, the kernel lets nobody remove the file. */
	int r = inode_outcome(inode, 0);

	if (r == 0)
		r = inode_outcome(inode, apply(req, inode, attr, to_set, fi));
	if (r < 0)
		reply_status(req, r);
	else
		reply_current_attr(req, inode);
}

/* The pool is room that applications can have: it gives way to them. So is what removed files had. */
static void count_held_as_free(Fs *fs, struct statvfs *stat)
{
	uint64_t bytes = file_provider_held_bytes(fs->provider) + allocate_service_burying_bytes(fs->service);
	uint64_t files = file_provider_held_files(fs->provider) + allocate_service_burying_files(fs->service);

	stat->f_bfree = MIN(stat->f_bfree + bytes / stat->f_frsize, stat->f_blocks);
	stat->f_bavail = MIN(stat->f_bavail + bytes / stat->f_frsize, stat->f_blocks);
	stat->f_ffree = MIN(stat->f_ffree + files, stat->f_files);
	stat->f_favail = MIN(stat->f_favail + files, stat->f_files);
}

void op_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
	Fs *fs = fs_of(req);
	Inode *inode = fs_inode(fs, nodeid);
	struct statvfs stat;
	int r = fstatvfs(inode->fd, &stat) < 0 ? -errno : 0;

	r = inode_outcome(inode, r);
	if (r < 0) {
		reply_status(req, r);
		return;
	}
	if (fs->service)
		count_held_as_free(fs, &stat);
	fuse_reply_statfs(req, &stat);
}
