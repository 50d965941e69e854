// SPDX-License-Identifier: Apache-2.0
#include "fs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "fs/file-handle.h"
#include "fs/ops.h"
#include "fs/status-dir.h"
#include "fs/status-file.h"

/* How long a request waits for the kernel to forget an inode. */
#define DESCRIPTOR_WAIT_NS 1000000000

/* What readlink says of a descriptor, or NULL. */
static char *describe_fd(int proc_fd, int fd)
{
	ProcName name = fs_proc_name(fd);
	char path[PATH_MAX];
	ssize_t length = readlinkat(proc_fd, name.text, path, sizeof(path));

	return length < 0 || length >= (ssize_t)sizeof(path) ? NULL : g_strndup(path, length);
}

static size_t descriptor_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

int fs_init(Fs *fs, int root_fd, const FsConfig *config, Log *log, const ClassRules *rules)
{
	auto_fd proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (proc_fd < 0)
		return -errno;
	*fs = (Fs){ .config = *config, .log = log, .rules = rules, .privileged = geteuid() == 0 };
	descriptor_budget_init(&fs->descriptors, descriptor_limit());
	r = inode_table_init(&fs->inodes, root_fd, &fs->descriptors);
	if (r < 0)
		return r;
	mutex_init(&fs->config_lock);
	slot_table_init(&fs->files, sizeof(FileHandle));
	slot_table_init(&fs->dirs, sizeof(DirHandle));
	slot_table_init(&fs->status_files, sizeof(StatusFile));
	fs_metrics_init(&fs->metrics, class_rules_count(rules));
	atomic_init(&fs->passthrough, false);
	atomic_init(&fs->n_writing_back, 0);
	fs->proc_fd = steal_fd(&proc_fd);
	fs->root_fd = root_fd;
	return 0;
}

int fs_wait_descriptor(Fs *fs)
{
	if (descriptor_budget_has_room(&fs->descriptors) ||
	    descriptor_budget_wait(&fs->descriptors, monotonic_ns() + DESCRIPTOR_WAIT_NS) == 0)
		return 0;
	if (!atomic_exchange(&fs->said_none_left, true))
		log_failure(fs->log, WARNING, "open", fs->mount_point, ENFILE,
			    "%s: too many files are open or remembered for a limit of %zu descriptors: who opens more is "
			    "told so (%s); allow more (LimitNOFILE= of the service, ulimit -Hn)",
			    fs->mount_point, fs->descriptors.limit, g_strerror(ENFILE));
	return -ENFILE;
}

static void close_files(Fs *fs)
{
	for (uint64_t index = 1; index < fs->files.n_records; index++) {
		FileHandle *handle = slot_table_get(&fs->files, index);

		cleanup_fd(&handle->fd);
	}
}

static void close_dirs(Fs *fs)
{
	for (uint64_t index = 1; index < fs->dirs.n_records; index++) {
		DirHandle *handle = slot_table_get(&fs->dirs, index);

		if (handle->stream)
			closedir(handle->stream);
	}
}

void fs_close_all(Fs *fs)
{
	close_files(fs);
	close_dirs(fs);
	status_dir_close_all(fs);
}

void fs_deinit(Fs *fs)
{
	fs_metrics_deinit(&fs->metrics);
	slot_table_deinit(&fs->status_files);
	slot_table_deinit(&fs->dirs);
	slot_table_deinit(&fs->files);
	mutex_deinit(&fs->config_lock);
	inode_table_deinit(&fs->inodes);
	descriptor_budget_deinit(&fs->descriptors);
	cleanup_fd(&fs->proc_fd);
}

ProcName fs_proc_name(int fd)
{
	ProcName name;

	snprintf(name.text, sizeof(name.text), "%d", fd);
	return name;
}

int fs_reopen(const Fs *fs, int fd, int flags)
{
	ProcName name = fs_proc_name(fd);
	int opened = openat(fs->proc_fd, name.text, (flags & ~O_NOFOLLOW) | O_CLOEXEC);

	return opened < 0 ? -errno : opened;
}

bool fs_is_hidden(fuse_ino_t parent, const char *name)
{
	return parent == INODE_ROOT_INDEX && strcmp(name, POOL_DIR_NAME) == 0;
}

void fs_patch_attr(const Fs *fs, int dir_fd, const char *name, struct stat *attr)
{
	struct stat again;

	if (!fs->live || !S_ISREG(attr->st_mode) || live_set_patch(fs->live, attr) || attr->st_nlink < 2)
		return;
	/* It may have been sealed since: then what was said is not true any more. Or removed: then it is. */
	if (fstatat(dir_fd, name, &again, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0 && again.st_ino == attr->st_ino &&
	    again.st_dev == attr->st_dev) {
		live_set_patch(fs->live, &again);
		*attr = again;
	}
}

/* The directory's path below the root, "" for the root, or NULL if it is not there (any more). */
static char *path_below_root(const Fs *fs, const Inode *directory)
{
	g_autofree char *root = NULL;
	g_autofree char *path = NULL;
	size_t root_length;

	if (directory->index == INODE_ROOT_INDEX)
		return g_strdup("");
	/* Both are asked for each time: either may have been renamed. */
	root = describe_fd(fs->proc_fd, fs->root_fd);
	path = describe_fd(fs->proc_fd, directory->fd);
	if (!root || !path)
		return NULL;
	/* The root's own path is "/" if the whole filesystem is served. */
	root_length = strlen(root) == 1 ? 0 : strlen(root);
	if (strncmp(path, root, root_length) != 0 || path[root_length] != '/')
		return NULL;
	return g_strdup(path + root_length + 1);
}

const SegmentClass *fs_find_class(const Fs *fs, const Inode *parent, const char *name, char **ret_path)
{
	g_autofree char *directory = NULL;
	g_autofree char *path = NULL;
	const SegmentClass *class;

	if (!fs->service || !(directory = path_below_root(fs, parent)))
		return NULL;
	path = *directory ? g_strconcat(directory, "/", name, NULL) : g_strdup(name);
	class = class_rules_find(fs->rules, path);
	if (class)
		*ret_path = g_steal_pointer(&path);
	return class;
}

static void want(struct fuse_conn_info *conn, uint64_t flag)
{
	/* False if the kernel cannot; none of what is asked for so is indispensable. */
	fuse_set_feature_flag(conn, flag);
}

bool fs_source_is_stacked(const Fs *fs)
{
	struct statfs filesystem;

	return fstatfs(fs->root_fd, &filesystem) < 0 || filesystem.f_type == OVERLAYFS_SUPER_MAGIC ||
	       filesystem.f_type == FUSE_SUPER_MAGIC || filesystem.f_type == ECRYPTFS_SUPER_MAGIC;
}

void op_init(void *userdata, struct fuse_conn_info *conn)
{
	Fs *fs = userdata;

	/* The kernel allows two levels in all: ours and the source's, or that of who stacks upon us. */
	conn->max_backing_stack_depth = fs_source_is_stacked(fs) ? FUSE_BACKING_STACKED_OVER : FUSE_BACKING_STACKED_UNDER;
	if (fs->config.passthrough && fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH))
		atomic_store(&fs->passthrough, true);
	else
		log_warning(fs->log, "passthrough: %s; data goes through the daemon: correct, but slower",
			    fs->config.passthrough ? "this kernel has none (Linux 6.9 does)" : "switched off");

	/* Without it every write asks for security.capability first; we clear set-id bits instead. */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
	/* New files get their umask and default ACL here, from the directory they are made in. */
	want(conn, FUSE_CAP_DONT_MASK);
	want(conn, FUSE_CAP_POSIX_ACL);
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC);
	want(conn, FUSE_CAP_PARALLEL_DIROPS);
	want(conn, FUSE_CAP_READDIRPLUS);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO);
	want(conn, FUSE_CAP_AUTO_INVAL_DATA);
	want(conn, FUSE_CAP_ASYNC_DIO);
	/* Nobody can hand out our files over NFS: handles do not survive the daemon. */
	want(conn, FUSE_CAP_NO_EXPORT_SUPPORT);
	/* A pipe for every request costs more than the copy it saves. */
	fuse_unset_feature_flag(conn, FUSE_CAP_SPLICE_READ);
	fuse_unset_feature_flag(conn, FUSE_CAP_SPLICE_WRITE);
	fuse_unset_feature_flag(conn, FUSE_CAP_SPLICE_MOVE);
}
