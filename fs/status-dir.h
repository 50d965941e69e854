/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MOUNT/.warmfs: a directory that is not in the source. It is reached by its name and never listed. Its files say how
 * the mount does, each a text of the moment at which it was opened:
 *
 *	status		for people
 *	status.json	for programs
 *	metrics		for Prometheus
 *	openmetrics	the same, in OpenMetrics
 *	config		the options in force, and where each is from
 *	control		for commands (fs/control.h); only its owner's
 *
 * Its nodeids, which are its inode numbers too, are above all that a source's filesystem or our tables give out.
 */
#pragma once

#include "fs/fs.h"

#define STATUS_DIR_NAME ".warmfs"
/* "warmfs" in ASCII. */
#define STATUS_DIR_NODE UINT64_C(0x7761726d66730000)

/* Whether a nodeid is the directory's or of something in it. */
static inline bool status_dir_has(fuse_ino_t nodeid)
{
	return nodeid >= STATUS_DIR_NODE;
}

/* Whether a name in a directory of the source stands for it. */
bool status_dir_is_named(fuse_ino_t parent, const char *name);

/* `parent` is the root or the directory itself. */
void status_dir_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void status_dir_forget(Fs *fs, fuse_ino_t nodeid);
void status_dir_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void status_dir_statx(fuse_req_t req, fuse_ino_t nodeid, int flags, int mask, struct fuse_file_info *fi);
void status_dir_statfs(fuse_req_t req, fuse_ino_t nodeid);
void status_dir_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size);
void status_dir_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size);
void status_dir_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void status_dir_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi);
void status_dir_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
			    struct fuse_file_info *fi);
void status_dir_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void status_dir_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);
void status_dir_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void status_dir_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi);
void status_dir_write_buf(fuse_req_t req, fuse_ino_t nodeid, struct fuse_bufvec *data, off_t offset,
			 struct fuse_file_info *fi);
void status_dir_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int to_set, struct fuse_file_info *fi);
void status_dir_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void status_dir_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);

/* Frees what applications still had open. */
void status_dir_close_all(Fs *fs);
