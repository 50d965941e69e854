/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one context of a mount: what every operation works on. It is the `userdata` of the FUSE session; there are
 * no globals.
 *
 * Lock order: Inode.lock, then InodeTable.lock, then the allocate service's. No reply is sent, and no system call
 * that may block is made, with the InodeTable's lock held.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#define FUSE_USE_VERSION 318
#include <fuse_lowlevel.h>

#include "alloc/allocate-service.h"
#include "alloc/file-provider.h"
#include "alloc/live-set.h"
#include "alloc/transient-commit.h"
#include "fs/fs-metrics.h"
#include "fs/inode.h"
#include "fs/known-name.h"
#include "fs/slot-table.h"

typedef struct FsConfig {
	/* Try kernel passthrough. */
	bool passthrough;
	/* How long the kernel may answer lookups and stats by itself, seconds. */
	_Atomic double attr_timeout;
} FsConfig;

typedef struct Fs {
	/* Immutable while the session runs, but for what is atomic. */
	FsConfig config;
	Log *log;
	struct fuse_session *session;
	const ClassRules *rules;
	/* For the status: what was given, where it is mounted, and since when, seconds since 1970. */
	const struct FsOptions *options;
	const char *mount_point;
	int64_t started_s;
	/* Held while options or classes change (fs/config-change.h), and where it is read who gave them. Before the service's. */
	Mutex config_lock;
	/* Hears when the kernel forgets MOUNT/.warmfs. */
	KnownName *known_name;
	/* NULL without classes. */
	AllocateService *service;
	FileProvider *provider;
	WarmPace *pace;
	SegmentLocks *locks;
	/* NULL without a class of kind `append`. */
	LiveSet *live;
	/* NULL without a class with transient=on. */
	TransientPool *transient;
	TransientCommit *transient_commit;
	/* The source. The root inode's, who closes it. */
	int root_fd;
	/* /proc/self/fd: the way from an O_PATH descriptor to one that can do more. */
	int proc_fd;
	/* Whether we may act as other users. */
	bool privileged;

	DescriptorBudget descriptors;
	/* Whether it was said that there are none left. */
	atomic_bool said_none_left;
	InodeTable inodes;
	/* Of FileHandle and DirHandle (fs/file-handle.h, fs/op-dir.c). */
	SlotTable files;
	SlotTable dirs;
	/* Of StatusFile (fs/status-file.h). */
	SlotTable status_files;
	FsMetrics metrics;
	/* Set at INIT, cleared for good when the kernel refuses. */
	atomic_bool passthrough;
	/* Requests that wait for the kernel to write pages back. */
	atomic_uint n_writing_back;
} Fs;

/* Takes ownership of root_fd (any descriptor of the source directory) on success. `log`, `rules`, `service` and
 * `provider` are borrowed. */
int fs_init(Fs *fs, int root_fd, const FsConfig *config, Log *log, const ClassRules *rules);
/* After the session is destroyed: what applications still had open. */
void fs_close_all(Fs *fs);
void fs_deinit(Fs *fs);

/* The operations table, for fuse_session_new with the Fs as its userdata: fs/dispatch.c. */
const struct fuse_lowlevel_ops *fs_operations(void);

static inline Fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline Inode *fs_inode(Fs *fs, fuse_ino_t nodeid)
{
	return inode_table_get(&fs->inodes, nodeid);
}

/* Before a descriptor is opened that stays open. 0; or -ENFILE, which is logged the first time, if there is none, and the
 * kernel has not forgotten anything for a second either. */
int fs_wait_descriptor(Fs *fs);

/* "/proc/self/fd"-relative name of a descriptor. */
typedef struct ProcName {
	char text[16];
} ProcName;

ProcName fs_proc_name(int fd);

/* A descriptor of what `fd` (O_PATH will do) refers to. -errno on failure. */
int fs_reopen(const Fs *fs, int fd, int flags);

/* Whether the source may be stacked on another filesystem, as overlayfs (in containers) and FUSE are. */
bool fs_source_is_stacked(const Fs *fs);

/* Makes of what stat has said of a file in the source (as of fstatat) what it is in the mount. */
void fs_patch_attr(const Fs *fs, int dir_fd, const char *name, struct stat *attr);

/* Whether the name is the pool's directory, which does not exist in the mount. */
bool fs_is_hidden(fuse_ino_t parent, const char *name);

/* The class of a new name below a directory, or NULL. *ret_path is its path below the mount point (g_free). */
const SegmentClass *fs_find_class(const Fs *fs, const Inode *parent, const char *name, char **ret_path);
