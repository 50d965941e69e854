// SPDX-License-Identifier: Apache-2.0
#include "fs/ownership.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEFAULT_ACL_XATTR "system.posix_acl_default"
#define ACCESS_ACL_XATTR  "system.posix_acl_access"

static bool is_daemon_itself(const Fs *fs, const struct fuse_ctx *caller)
{
	return !fs->privileged || (caller->uid == 0 && caller->gid == 0);
}

/* The kernel drops these from the effective set when the fs uid leaves 0. Reaching the directory needs them. */
static int raise_reach(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	data[0].effective |= data[0].permitted & (1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH);
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* Of this thread alone, unlike setgroups(3). Only a set-group-id object needs the caller's: the directory's group
 * may be one of them, and then the bit stays. */
static void take_groups(fuse_req_t req)
{
	gid_t groups[NGROUPS_MAX];
	int n_groups = fuse_req_getgroups(req, NGROUPS_MAX, groups);

	if (n_groups >= 0)
		syscall(SYS_setgroups, MIN(n_groups, NGROUPS_MAX), groups);
}

int ownership_enter(fuse_req_t req, mode_t mode)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	int r = 0;

	if (is_daemon_itself(fs_of(req), caller))
		return 0;
	if (mode & S_ISGID)
		take_groups(req);
	setfsgid(caller->gid);
	setfsuid(caller->uid);
	if (caller->uid != 0)
		r = raise_reach();
	if (r < 0)
		ownership_leave(req, mode);
	return r;
}

void ownership_leave(fuse_req_t req, mode_t mode)
{
	if (is_daemon_itself(fs_of(req), fuse_req_ctx(req)))
		return;
	/* Back at 0, the kernel restores the effective set from the permitted one. */
	setfsuid(0);
	setfsgid(0);
	if (mode & S_ISGID)
		syscall(SYS_setgroups, 0, NULL);
}

static ssize_t read_default_acl(const Fs *fs, const Inode *parent, void *acl, size_t size)
{
	char path[32];

	(void)fs;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", parent->fd);
	return getxattr(path, DEFAULT_ACL_XATTR, acl, size);
}

mode_t ownership_mode(const Fs *fs, const Inode *parent, mode_t mode, mode_t umask)
{
	if ((mode & umask) == 0 || read_default_acl(fs, parent, NULL, 0) > 0)
		return mode;
	return mode & ~umask;
}

/* The ACL's form in an extended attribute (linux/posix_acl_xattr.h): little-endian. */
typedef struct AclEntry {
	uint16_t tag;
	uint16_t permissions;
	uint32_t id;
} AclEntry;

typedef struct Acl {
	uint32_t version;
	AclEntry entries[63];
} Acl;

enum {
	ACL_TAG_USER_OBJ = 0x01,
	ACL_TAG_GROUP_OBJ = 0x04,
	ACL_TAG_MASK = 0x10,
	ACL_TAG_OTHER = 0x20,
};

/* One entry and the three mode bits it stands for bound each other. */
static mode_t bound_entry(AclEntry *entry, mode_t mode, unsigned shift)
{
	uint16_t bound = GUINT16_FROM_LE(entry->permissions) & (mode >> shift | ~7u);

	entry->permissions = GUINT16_TO_LE(bound);
	return (mode & ~(07u << shift)) | (mode_t)(bound & 7) << shift;
}

/* What a new file makes of its directory's default ACL (acl(5), "Object creation and default ACLs"). */
static mode_t bound_acl(Acl *acl, size_t n_entries, mode_t mode)
{
	AclEntry *group = NULL;

	for (size_t i = 0; i < n_entries; i++) {
		AclEntry *entry = &acl->entries[i];

		switch (GUINT16_FROM_LE(entry->tag)) {
		case ACL_TAG_USER_OBJ:
			mode = bound_entry(entry, mode, 6);
			break;
		case ACL_TAG_GROUP_OBJ:
			/* The mask, which comes later, has the mode's group bits if there is one. */
			if (!group)
				group = entry;
			break;
		case ACL_TAG_MASK:
			group = entry;
			break;
		case ACL_TAG_OTHER:
			mode = bound_entry(entry, mode, 0);
			break;
		}
	}
	return group ? bound_entry(group, mode, 3) : mode;
}

static int pass_on_acl(const Fs *fs, const Inode *parent, Segment *segment, mode_t *mode, mode_t umask)
{
	Acl acl;
	ssize_t size = read_default_acl(fs, parent, &acl, sizeof(acl));

	if (size < 0 && errno == ERANGE)
		return -E2BIG;
	if (size <= (ssize_t)sizeof(acl.version)) {
		*mode &= ~umask;
		return 0;
	}
	*mode = bound_acl(&acl, (size - sizeof(acl.version)) / sizeof(AclEntry), *mode);
	return fsetxattr(segment->fd, ACCESS_ACL_XATTR, &acl, size, 0) < 0 ? -errno : 0;
}

/* Asks /proc, so only where it matters. */
bool ownership_in_group(fuse_req_t req, gid_t gid)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	gid_t groups[NGROUPS_MAX];
	int n_groups;

	if (caller->uid == 0 || caller->gid == gid)
		return true;
	n_groups = fuse_req_getgroups(req, NGROUPS_MAX, groups);
	for (int i = 0; i < MIN(n_groups, NGROUPS_MAX); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

int ownership_of_segment(fuse_req_t req, const Inode *parent, mode_t mode, Segment *segment,
			 SegmentTarget *target)
{
	const Fs *fs = fs_of(req);
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	struct stat attr;
	int r;

	if (fstatat(parent->fd, "", &attr, AT_EMPTY_PATH) < 0)
		return -errno;
	target->uid = fs->privileged ? caller->uid : geteuid();
	target->gid = fs->privileged ? caller->gid : getegid();
	if (attr.st_mode & S_ISGID)
		target->gid = attr.st_gid;
	mode &= 07777;
	r = pass_on_acl(fs, parent, segment, &mode, caller->umask);
	if (r < 0)
		return r;
	/* Nobody gives away the rights of a group he is not in. */
	if ((mode & S_ISGID) && (mode & S_IXGRP) && !ownership_in_group(req, target->gid))
		mode &= ~S_ISGID;
	target->mode = mode;
	return 0;
}

void ownership_undo(Segment *segment)
{
	fremovexattr(segment->fd, ACCESS_ACL_XATTR);
}

bool ownership_ends_set_gid(fuse_req_t req, const struct stat *attr)
{
	return (attr->st_mode & S_ISGID) && !S_ISDIR(attr->st_mode) &&
	       ((attr->st_mode & S_IXGRP) || !ownership_in_group(req, attr->st_gid));
}

int ownership_drop_set_ids(fuse_req_t req, int fd)
{
	struct stat attr;
	mode_t drop = S_ISUID;

	if (fstat(fd, &attr) < 0)
		return -errno;
	if (ownership_ends_set_gid(req, &attr))
		drop |= S_ISGID;
	if (!S_ISREG(attr.st_mode) || !(attr.st_mode & drop))
		return 0;
	return fchmod(fd, attr.st_mode & ~drop & 07777) < 0 ? -errno : 0;
}
