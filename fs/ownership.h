/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New objects belong to whoever asked for them, not to the daemon.
 *
 * For most of them the calling thread acts as that user while it makes them (ownership_enter), so that the
 * source applies its own rules: owner, group of a set-group-id directory, default ACL. It keeps the
 * right to reach the directory: the kernel has checked the user's own rights already
 * (default_permissions), with all his groups, which we do not know.
 *
 * A segment exists before it is asked for, so these rules are worked out here (ownership_of_segment).
 */
#pragma once

#include "alloc/segment.h"
#include "fs/fs.h"

/* `mode` is that of the object to be made. 0 or -errno; then nothing has changed. A daemon without privileges stays
 * who it is. */
int ownership_enter(fuse_req_t req, mode_t mode);
void ownership_leave(fuse_req_t req, mode_t mode);

/* Whether the caller is in a group, also by his supplementary ones. */
bool ownership_in_group(fuse_req_t req, gid_t gid);

/* The mode to create with: a directory with a default ACL does not know of a umask. */
mode_t ownership_mode(const Fs *fs, const Inode *parent, mode_t mode, mode_t umask);

/* Fills the target's uid, gid and mode, and gives the segment the ACL that the directory passes on. */
int ownership_of_segment(fuse_req_t req, const Inode *parent, mode_t mode, Segment *segment,
			 SegmentTarget *target);
/* Takes that ACL away again from a segment that was not published. */
void ownership_undo(Segment *segment);

/* Whether a write or a chown by the caller takes the set-group-id bit away: of a file whose group may execute it from everybody
 * without CAP_FSETID (which is not asked for here), of another from who is not in that group. */
bool ownership_ends_set_gid(fuse_req_t req, const struct stat *attr);

/* Clears what a write by a caller without CAP_FSETID must clear: set-user-id, and set-group-id as above. `fd` is not O_PATH. */
int ownership_drop_set_ids(fuse_req_t req, int fd);
