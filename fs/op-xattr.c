// SPDX-License-Identifier: Apache-2.0
/*
 * Extended attributes, by way of /proc/self/fd: an O_PATH descriptor does not do. That way follows the link to
 * the inode itself, also when that is a symbolic link.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "fs/ops.h"
#include "fs/reply.h"

typedef struct ProcPath {
	char text[32];
} ProcPath;

static ProcPath proc_path(fuse_req_t req, fuse_ino_t nodeid)
{
	ProcPath path;

	snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", fs_inode(fs_of(req), nodeid)->fd);
	return path;
}

void op_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value, size_t size,
		 int flags)
{
	ProcPath path = proc_path(req, nodeid);

	reply_status(req, setxattr(path.text, name, value, size, flags) < 0 ? -errno : 0);
}

void op_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
	ProcPath path = proc_path(req, nodeid);

	reply_status(req, removexattr(path.text, name) < 0 ? -errno : 0);
}

/* `size` 0 asks how much there is. */
static void reply_bytes(fuse_req_t req, const char *bytes, ssize_t n, size_t size)
{
	if (n < 0)
		reply_status(req, -errno);
	else if (size == 0)
		fuse_reply_xattr(req, n);
	else
		fuse_reply_buf(req, bytes, n);
}

void op_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
	ProcPath path = proc_path(req, nodeid);
	g_autofree char *value = g_malloc(size);
	ssize_t n = getxattr(path.text, name, value, size);

	reply_bytes(req, value, n, size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
	ProcPath path = proc_path(req, nodeid);
	g_autofree char *names = g_malloc(size);
	ssize_t n = listxattr(path.text, names, size);

	reply_bytes(req, names, n, size);
}
