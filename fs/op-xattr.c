// SPDX-License-Identifier: Apache-2.0
/*
 * Extended attributes, by way of /proc/self/fd: an O_PATH descriptor does not do. That way follows the link to
 * the inode itself, also when that is a symbolic link.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/ops.h"
#include "fs/ownership.h"
#include "fs/reply.h"
#include "fs/segment-xattr.h"

typedef struct ProcPath {
	char text[32];
} ProcPath;

static ProcPath proc_path(fuse_req_t req, fuse_ino_t nodeid)
{
	ProcPath path;

	snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", fs_inode(fs_of(req), nodeid)->fd);
	return path;
}

static void reply_outcome(fuse_req_t req, fuse_ino_t nodeid, int r)
{
	reply_status(req, inode_outcome(fs_inode(fs_of(req), nodeid), r));
}

/* An ACL stands for the mode as well, and with it goes the set-group-id bit, if he who sets it is not in the group.
 * The source does not take it away, since it is we who ask. */
static void drop_foreign_group_id(fuse_req_t req, fuse_ino_t nodeid)
{
	Fs *fs = fs_of(req);
	int fd = fs_inode(fs, nodeid)->fd;
	ProcName name = fs_proc_name(fd);
	struct stat attr;

	if (fuse_req_ctx(req)->uid == 0 || fstatat(fd, "", &attr, AT_EMPTY_PATH) < 0)
		return;
	if ((attr.st_mode & S_ISGID) && !S_ISDIR(attr.st_mode) && !ownership_in_group(req, attr.st_gid))
		fchmodat(fs->proc_fd, name.text, attr.st_mode & 07777 & ~S_ISGID, 0);
}

void op_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value, size_t size,
		 int flags)
{
	ProcPath path = proc_path(req, nodeid);
	int r = segment_xattr_is_name(name)			  ? -EPERM :
		setxattr(path.text, name, value, size, flags) < 0 ? -errno :
								    0;

	if (r == 0 && strcmp(name, "system.posix_acl_access") == 0)
		drop_foreign_group_id(req, nodeid);
	reply_outcome(req, nodeid, r);
}

void op_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
	ProcPath path = proc_path(req, nodeid);

	if (segment_xattr_is_name(name))
		reply_status(req, -EPERM);
	else
		reply_outcome(req, nodeid, removexattr(path.text, name) < 0 ? -errno : 0);
}

/* `size` 0 asks how much there is. `n` may be -errno. */
static void reply_bytes(fuse_req_t req, fuse_ino_t nodeid, const char *bytes, ssize_t n, size_t size)
{
	n = inode_outcome(fs_inode(fs_of(req), nodeid), n);
	if (n < 0)
		reply_status(req, n);
	else if (size == 0)
		fuse_reply_xattr(req, n);
	else
		fuse_reply_buf(req, bytes, n);
}

static void reply_segment_xattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
	g_autofree char *value = segment_xattr_value(fs_of(req), fs_inode(fs_of(req), nodeid), name);

	if (!value)
		reply_outcome(req, nodeid, -ENODATA);
	else if (size > 0 && strlen(value) > size)
		reply_outcome(req, nodeid, -ERANGE);
	else
		reply_bytes(req, nodeid, value, strlen(value), size);
}

void op_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
	if (segment_xattr_is_name(name)) {
		reply_segment_xattr(req, nodeid, name, size);
		return;
	}
	ProcPath path = proc_path(req, nodeid);
	g_autofree char *value = g_malloc(size);
	ssize_t n = getxattr(path.text, name, value, size);

	reply_bytes(req, nodeid, value, n < 0 ? -errno : n, size);
}

/* Takes out what only the privileged see. In place; returns what is left. */
static size_t hide_trusted(char *names, size_t size)
{
	size_t kept = 0;

	for (size_t at = 0; at < size;) {
		size_t length = strlen(names + at) + 1;

		if (strncmp(names + at, "trusted.", strlen("trusted.")) != 0) {
			memmove(names + kept, names + at, length);
			kept += length;
		}
		at += length;
	}
	return kept;
}

/* The whole list, or -errno. It is read in any case: how long it is for the caller shows only then. */
static ssize_t list_names(fuse_req_t req, const char *path, char *names, size_t room)
{
	ssize_t n = listxattr(path, names, room);

	if (n < 0)
		return -errno;
	return fuse_req_ctx(req)->uid != 0 ? (ssize_t)hide_trusted(names, n) : n;
}

void op_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
	ProcPath path = proc_path(req, nodeid);
	g_autofree char *names = g_malloc(XATTR_LIST_MAX);
	ssize_t n = list_names(req, path.text, names, XATTR_LIST_MAX);

	if (size > 0 && n > (ssize_t)size)
		n = -ERANGE;
	reply_bytes(req, nodeid, names, n, size);
}
