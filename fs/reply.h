/* SPDX-License-Identifier: Apache-2.0 */
/* Answers. An entry or a handle that the kernel does not take is undone here. */
#pragma once

#include "fs/fs.h"

/* `r` is 0 or -errno. */
void reply_status(fuse_req_t req, int r);

/* A looked-up inode, or -errno. Consumes the lookup. */
void reply_entry(fuse_req_t req, int r, Inode *inode, const struct stat *attr);

/* How long the kernel may answer for an inode's attributes, seconds. */
double reply_attr_timeout(const Fs *fs, Inode *inode);
void reply_attr(fuse_req_t req, Inode *inode, const struct stat *attr);

/* What stat has, as statx has it. */
struct statx reply_statx_of(const struct stat *attr);

/* What the kernel is told of an inode. */
struct fuse_entry_param reply_entry_param(const Fs *fs, Inode *inode, const struct stat *attr);
