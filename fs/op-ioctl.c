// SPDX-License-Identifier: Apache-2.0
/*
 * What lsattr and chattr ask: the inode flags of the source's file, and the attributes that XFS has brought (project, extent
 * size). The kernel sends these for files and directories only, and has looked whether the caller may; we look again at
 * what we can know of that, since it is the daemon that the source obeys. There are no other ioctls.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "alloc/cleanup.h"
#include "fs/ops.h"
#include "fs/reply.h"

/* What both forms of a change come to. */
typedef struct FlagChange {
	/* Something changes that only root may. */
	bool privileged;
	/* From then on the file cannot be cut, nor lose a name. */
	bool pins;
} FlagChange;

static FlagChange change_of_flags(unsigned old, unsigned new)
{
	unsigned pins = FS_IMMUTABLE_FL | FS_APPEND_FL;

	return (FlagChange){ .privileged = (old ^ new) & (pins | FS_JOURNAL_DATA_FL), .pins = new & pins };
}

static FlagChange change_of_xflags(unsigned old, unsigned new)
{
	unsigned pins = FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND;

	return (FlagChange){ .privileged = (old ^ new) & (pins | FS_XFLAG_REALTIME), .pins = new & pins };
}

static int may_change(fuse_req_t req, int fd, FlagChange change)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	struct stat attr;

	if (fstat(fd, &attr) < 0)
		return -errno;
	return uid == 0 || (uid == attr.st_uid && !change.privileged) ? 0 : -EPERM;
}

/* A live segment could not become a plain file any more: so it does now, whoever has it open. */
static int make_plain(const Fs *fs, const Inode *inode)
{
	LiveSegment *live = fs->live ? live_set_open(fs->live, inode->dev, inode->ino) : NULL;
	int r;

	if (!live)
		return 0;
	r = live->reserved_only ? live_segment_finish(live) : live_segment_seal(live);
	live_set_close(fs->live, live);
	return r;
}

static int apply(fuse_req_t req, const Inode *inode, int fd, unsigned long command, const void *value, FlagChange change)
{
	int r = may_change(req, fd, change);

	if (r == 0 && change.pins)
		r = make_plain(fs_of(req), inode);
	if (r == 0 && ioctl(fd, command, value) < 0)
		r = -errno;
	return r;
}

static int set_flags(fuse_req_t req, const Inode *inode, int fd, const unsigned *flags)
{
	unsigned old;

	if (ioctl(fd, FS_IOC_GETFLAGS, &old) < 0)
		return -errno;
	return apply(req, inode, fd, FS_IOC_SETFLAGS, flags, change_of_flags(old, *flags));
}

static int set_attributes(fuse_req_t req, const Inode *inode, int fd, const struct fsxattr *attributes)
{
	struct fsxattr old;

	if (ioctl(fd, FS_IOC_FSGETXATTR, &old) < 0)
		return -errno;
	return apply(req, inode, fd, FS_IOC_FSSETXATTR, attributes,
		      change_of_xflags(old.fsx_xflags, attributes->fsx_xflags));
}

typedef union FileAttributes {
	unsigned flags;
	struct fsxattr extended;
} FileAttributes;

/* How much of `attributes` the command is about, or 0 if it is not one of ours. */
static size_t size_of(unsigned command)
{
	switch (command) {
	case FS_IOC_GETFLAGS:
	case FS_IOC_SETFLAGS:
		return sizeof(unsigned);
	case FS_IOC_FSGETXATTR:
	case FS_IOC_FSSETXATTR:
		return sizeof(struct fsxattr);
	default:
		return 0;
	}
}

static int run(fuse_req_t req, const Inode *inode, unsigned command, FileAttributes *attributes)
{
	auto_fd fd = fs_reopen(fs_of(req), inode->fd, O_RDONLY | O_NONBLOCK);

	if (fd < 0)
		return fd;
	switch (command) {
	case FS_IOC_SETFLAGS:
		return set_flags(req, inode, fd, &attributes->flags);
	case FS_IOC_FSSETXATTR:
		return set_attributes(req, inode, fd, &attributes->extended);
	default:
		return ioctl(fd, command, attributes) < 0 ? -errno : 0;
	}
}

void op_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned command, void *arg, struct fuse_file_info *fi, unsigned flags,
	      const void *in, size_t in_size, size_t out_size)
{
	const Inode *inode = fs_inode(fs_of(req), nodeid);
	FileAttributes attributes = { .extended = { 0 } };
	size_t size = size_of(command);
	size_t expected_in = _IOC_DIR(command) & _IOC_WRITE ? size : 0;
	size_t expected_out = _IOC_DIR(command) & _IOC_READ ? size : 0;
	int r;

	(void)arg;
	(void)fi;
	(void)flags;
	if (size == 0 || in_size != expected_in || out_size != expected_out) {
		reply_status(req, -ENOTTY);
		return;
	}
	if (in_size > 0)
		memcpy(&attributes, in, in_size);
	r = inode_outcome(inode, run(req, inode, command, &attributes));
	if (r < 0)
		reply_status(req, r);
	else
		fuse_reply_ioctl(req, 0, &attributes, out_size);
}
