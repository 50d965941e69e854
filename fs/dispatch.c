// SPDX-License-Identifier: Apache-2.0
/*
 * Where every request comes in: it is counted, and goes to the operations on the source's files (fs/ops.h) or to those
 * of MOUNT/.warmfs (fs/status-dir.h), by the nodeid that it names. What those do not know is refused, and never
 * with ENOSYS: that would tell the kernel not to ask again for any file.
 */
#include <errno.h>

#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/status-dir.h"

#define COUNT(REQUEST) fs_metrics_note_request(&fs_of(req)->metrics, REQUEST)

/* Requests that leave a descriptor open, whatever they find. */
static inline bool opens(FsRequest request)
{
	return request == FS_OPEN || request == FS_OPENDIR || request == FS_CREATE || request == FS_TMPFILE ||
	       request == FS_MKNOD || request == FS_MKDIR || request == FS_SYMLINK;
}

/* Refuses the request, and says false, if it needs a descriptor and there is none. */
static inline bool can_do(fuse_req_t req, FsRequest request)
{
	int r = opens(request) ? fs_wait_descriptor(fs_of(req)) : 0;

	if (r < 0)
		reply_status(req, r);
	return r == 0;
}

/* Both know it. `node` is what it is about. */
#define ROUTE(op, REQUEST, PARAMETERS, ARGUMENTS)                                                         \
	static void route_##op PARAMETERS                                                                 \
	{                                                                                                 \
		COUNT(REQUEST);                                                                           \
		if (status_dir_has(node))                                                                 \
			status_dir_##op ARGUMENTS;                                                        \
		else if (can_do(req, REQUEST))                                                            \
			op_##op ARGUMENTS;                                                                \
	}

/* Only the source's files know it; what else it is about, if `is_other` is true, is refused. */
#define ROUTE_OR_REFUSE(op, REQUEST, is_other, error, PARAMETERS, ARGUMENTS)                              \
	static void route_##op PARAMETERS                                                                 \
	{                                                                                                 \
		COUNT(REQUEST);                                                                           \
		if (is_other)                                                                             \
			fuse_reply_err(req, error);                                                       \
		else if (can_do(req, REQUEST))                                                            \
			op_##op ARGUMENTS;                                                                \
	}

ROUTE(getattr, FS_GETATTR, (fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi), (req, node, fi))
ROUTE(statx, FS_STATX, (fuse_req_t req, fuse_ino_t node, int flags, int mask, struct fuse_file_info *fi),
      (req, node, flags, mask, fi))
ROUTE(statfs, FS_STATFS, (fuse_req_t req, fuse_ino_t node), (req, node))
ROUTE(getxattr, FS_GETXATTR, (fuse_req_t req, fuse_ino_t node, const char *name, size_t size),
      (req, node, name, size))
ROUTE(listxattr, FS_LISTXATTR, (fuse_req_t req, fuse_ino_t node, size_t size), (req, node, size))
ROUTE(opendir, FS_OPENDIR, (fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi), (req, node, fi))
ROUTE(readdir, FS_READDIR,
      (fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi),
      (req, node, size, offset, fi))
ROUTE(readdirplus, FS_READDIR,
      (fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi),
      (req, node, size, offset, fi))
ROUTE(releasedir, FS_RELEASEDIR, (fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi), (req, node, fi))
ROUTE(fsyncdir, FS_FSYNCDIR, (fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi),
      (req, node, datasync, fi))
ROUTE(open, FS_OPEN, (fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi), (req, node, fi))
ROUTE(read, FS_READ, (fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi),
      (req, node, size, offset, fi))
ROUTE(release, FS_RELEASE, (fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi), (req, node, fi))
ROUTE(fsync, FS_FSYNC, (fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi),
      (req, node, datasync, fi))
ROUTE(write_buf, FS_WRITE,
      (fuse_req_t req, fuse_ino_t node, struct fuse_bufvec *data, off_t offset, struct fuse_file_info *fi),
      (req, node, data, offset, fi))
ROUTE(setattr, FS_SETATTR,
      (fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set, struct fuse_file_info *fi),
      (req, node, attr, to_set, fi))

ROUTE_OR_REFUSE(readlink, FS_READLINK, status_dir_has(node), EINVAL, (fuse_req_t req, fuse_ino_t node),
		(req, node))
ROUTE_OR_REFUSE(setxattr, FS_SETXATTR, status_dir_has(node), EPERM,
		(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags),
		(req, node, name, value, size, flags))
ROUTE_OR_REFUSE(removexattr, FS_REMOVEXATTR, status_dir_has(node), EPERM,
		(fuse_req_t req, fuse_ino_t node, const char *name), (req, node, name))
ROUTE_OR_REFUSE(mknod, FS_MKNOD, status_dir_has(parent), EPERM,
		(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device),
		(req, parent, name, mode, device))
ROUTE_OR_REFUSE(mkdir, FS_MKDIR, status_dir_has(parent), EPERM,
		(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode), (req, parent, name, mode))
ROUTE_OR_REFUSE(symlink, FS_SYMLINK, status_dir_has(parent), EPERM,
		(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name),
		(req, target, parent, name))
ROUTE_OR_REFUSE(link, FS_LINK, status_dir_has(node) || status_dir_has(parent), EPERM,
		(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name), (req, node, parent, name))
ROUTE_OR_REFUSE(unlink, FS_UNLINK, status_dir_has(parent), EPERM,
		(fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))
ROUTE_OR_REFUSE(rmdir, FS_RMDIR, status_dir_has(parent), EPERM,
		(fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))
ROUTE_OR_REFUSE(rename, FS_RENAME, status_dir_has(parent) || status_dir_has(new_parent), EPERM,
		(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		 unsigned flags),
		(req, parent, name, new_parent, new_name, flags))
ROUTE_OR_REFUSE(create, FS_CREATE, status_dir_has(parent), EPERM,
		(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi),
		(req, parent, name, mode, fi))
ROUTE_OR_REFUSE(tmpfile, FS_TMPFILE, status_dir_has(parent), EPERM,
		(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi),
		(req, parent, mode, fi))
ROUTE_OR_REFUSE(fallocate, FS_FALLOCATE, status_dir_has(node), EPERM,
		(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length, struct fuse_file_info *fi),
		(req, node, mode, offset, length, fi))
ROUTE_OR_REFUSE(flush, FS_FLUSH, status_dir_has(node), 0, (fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi),
		(req, node, fi))
ROUTE_OR_REFUSE(lseek, FS_LSEEK, status_dir_has(node), EINVAL,
		(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, struct fuse_file_info *fi),
		(req, node, offset, whence, fi))
/* The kernel then copies by reading and writing. */
ROUTE_OR_REFUSE(copy_file_range, FS_COPY_FILE_RANGE, status_dir_has(from_node) || status_dir_has(to_node), EXDEV,
		(fuse_req_t req, fuse_ino_t from_node, off_t from_offset, struct fuse_file_info *from,
		 fuse_ino_t to_node, off_t to_offset, struct fuse_file_info *to, size_t length, int flags),
		(req, from_node, from_offset, from, to_node, to_offset, to, length, flags))
ROUTE_OR_REFUSE(ioctl, FS_IOCTL, status_dir_has(node), ENOTTY,
		(fuse_req_t req, fuse_ino_t node, unsigned command, void *arg, struct fuse_file_info *fi, unsigned flags,
		 const void *in, size_t in_size, size_t out_size),
		(req, node, command, arg, fi, flags, in, in_size, out_size))

static void route_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	COUNT(FS_LOOKUP);
	if (status_dir_has(parent) || status_dir_is_named(parent, name))
		status_dir_lookup(req, parent, name);
	else
		op_lookup(req, parent, name);
}

static void route_forget(fuse_req_t req, fuse_ino_t node, uint64_t n_lookups)
{
	COUNT(FS_FORGET);
	if (status_dir_has(node)) {
		status_dir_forget(fs_of(req), node);
		fuse_reply_none(req);
	} else {
		op_forget(req, node, n_lookups);
	}
}

static void route_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	size_t kept = 0;

	COUNT(FS_FORGET);
	for (size_t i = 0; i < count; i++)
		if (status_dir_has(forgets[i].ino))
			status_dir_forget(fs_of(req), forgets[i].ino);
		else
			forgets[kept++] = forgets[i];
	op_forget_multi(req, kept, forgets);
}

const struct fuse_lowlevel_ops *fs_operations(void)
{
	static const struct fuse_lowlevel_ops operations = {
		.init = op_init,
		.lookup = route_lookup,
		.forget = route_forget,
		.forget_multi = route_forget_multi,
		.readlink = route_readlink,
		.mknod = route_mknod,
		.mkdir = route_mkdir,
		.symlink = route_symlink,
		.link = route_link,
		.unlink = route_unlink,
		.rmdir = route_rmdir,
		.rename = route_rename,
		.getattr = route_getattr,
		.statx = route_statx,
		.setattr = route_setattr,
		.statfs = route_statfs,
		.setxattr = route_setxattr,
		.getxattr = route_getxattr,
		.listxattr = route_listxattr,
		.removexattr = route_removexattr,
		.opendir = route_opendir,
		.readdir = route_readdir,
		.readdirplus = route_readdirplus,
		.releasedir = route_releasedir,
		.fsyncdir = route_fsyncdir,
		.create = route_create,
		.tmpfile = route_tmpfile,
		.open = route_open,
		.release = route_release,
		.read = route_read,
		.write_buf = route_write_buf,
		.flush = route_flush,
		.fsync = route_fsync,
		.fallocate = route_fallocate,
		.lseek = route_lseek,
		.copy_file_range = route_copy_file_range,
		.ioctl = route_ioctl,
	};

	return &operations;
}
