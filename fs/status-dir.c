// SPDX-License-Identifier: Apache-2.0
#include "fs/status-dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs-report.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/status-file.h"

/* These names never change. And as long as the kernel knows them, it lets people in also while a create waits in the
 * mount's root (fs/known-name.h). */
#define NAME_TIMEOUT_S 86400

static char *make_metrics(const FsReport *report)
{
	return fs_report_to_metrics(report, false);
}

static char *make_open_metrics(const FsReport *report)
{
	return fs_report_to_metrics(report, true);
}

typedef struct StatusName {
	const char *name;
	mode_t mode;
	/* NULL: it is for commands. */
	char *(*make)(const FsReport *report);
} StatusName;

/* The node of each is the directory's and its place here, counted from 1. */
static const StatusName NAMES[] = {
	{ "status", 0444, fs_report_to_text },
	{ "status.json", 0444, fs_report_to_json },
	{ "metrics", 0444, make_metrics },
	{ "openmetrics", 0444, make_open_metrics },
	{ "config", 0444, fs_report_to_config },
	{ "control", 0600, NULL },
};

static const StatusName *name_of(fuse_ino_t nodeid)
{
	return nodeid > STATUS_DIR_NODE && nodeid <= STATUS_DIR_NODE + G_N_ELEMENTS(NAMES) ?
		       &NAMES[nodeid - STATUS_DIR_NODE - 1] :
		       NULL;
}

bool status_dir_is_named(fuse_ino_t parent, const char *name)
{
	return parent == INODE_ROOT_INDEX && strcmp(name, STATUS_DIR_NAME) == 0;
}

static struct stat attr_of(fuse_ino_t nodeid)
{
	const StatusName *name = name_of(nodeid);
	struct stat attr = {
		.st_ino = nodeid,
		.st_mode = name ? S_IFREG | name->mode : S_IFDIR | 0555,
		.st_nlink = name ? 1 : 2,
		.st_uid = geteuid(),
		.st_gid = getegid(),
	};

	/* What is read is always of now. */
	clock_gettime(CLOCK_REALTIME, &attr.st_mtim);
	attr.st_atim = attr.st_ctim = attr.st_mtim;
	return attr;
}

static struct fuse_entry_param entry_of(const Fs *fs, fuse_ino_t nodeid)
{
	return (struct fuse_entry_param){
		.ino = nodeid,
		.attr = attr_of(nodeid),
		.attr_timeout = fs->config.attr_timeout,
		.entry_timeout = NAME_TIMEOUT_S,
	};
}

static fuse_ino_t find(fuse_ino_t parent, const char *name)
{
	if (status_dir_is_named(parent, name))
		return STATUS_DIR_NODE;
	if (parent != STATUS_DIR_NODE)
		return 0;
	for (size_t i = 0; i < G_N_ELEMENTS(NAMES); i++)
		if (strcmp(name, NAMES[i].name) == 0)
			return STATUS_DIR_NODE + 1 + i;
	return 0;
}

void status_dir_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ino_t nodeid = find(parent, name);
	struct fuse_entry_param entry;

	if (nodeid == 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	entry = entry_of(fs_of(req), nodeid);
	fuse_reply_entry(req, &entry);
}

void status_dir_forget(Fs *fs, fuse_ino_t nodeid)
{
	if (nodeid == STATUS_DIR_NODE && fs->known_name)
		known_name_lost(fs->known_name);
}

void status_dir_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	struct stat attr = attr_of(nodeid);

	(void)fi;
	fuse_reply_attr(req, &attr, fs_of(req)->config.attr_timeout);
}

void status_dir_statx(fuse_req_t req, fuse_ino_t nodeid, int flags, int mask, struct fuse_file_info *fi)
{
	struct stat attr = attr_of(nodeid);
	struct statx all = reply_statx_of(&attr);

	(void)flags;
	(void)mask;
	(void)fi;
	fuse_reply_statx(req, 0, &all, fs_of(req)->config.attr_timeout);
}

void status_dir_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
	(void)nodeid;
	op_statfs(req, INODE_ROOT_INDEX);
}

/* Not "no such call": the kernel would never ask again, for the source's files neither. */
void status_dir_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
	(void)nodeid;
	(void)name;
	(void)size;
	fuse_reply_err(req, ENODATA);
}

void status_dir_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
	(void)nodeid;
	if (size == 0)
		fuse_reply_xattr(req, 0);
	else
		fuse_reply_buf(req, NULL, 0);
}

/*
 * The directory.
 */

void status_dir_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)nodeid;
	fuse_reply_open(req, fi);
}

void status_dir_releasedir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)nodeid;
	(void)fi;
	fuse_reply_err(req, 0);
}

void status_dir_fsyncdir(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	(void)nodeid;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, 0);
}

/* The nth entry, of those that readdir gives: itself, its parent, and its files. */
static const char *nth_entry(const Fs *fs, size_t nth, struct fuse_entry_param *ret_entry)
{
	if (nth == 1) {
		*ret_entry = (struct fuse_entry_param){ .attr = { .st_mode = S_IFDIR } };
		fstat(fs->root_fd, &ret_entry->attr);
		return "..";
	}
	*ret_entry = entry_of(fs, STATUS_DIR_NODE + (nth ? nth - 1 : 0));
	return nth ? NAMES[nth - 2].name : ".";
}

static void list(fuse_req_t req, size_t size, off_t offset, bool plus)
{
	g_autofree char *buffer = g_malloc(size);
	struct fuse_entry_param entry;
	size_t filled = 0;

	for (size_t nth = offset; nth < G_N_ELEMENTS(NAMES) + 2; nth++) {
		const char *name = nth_entry(fs_of(req), nth, &entry);
		size_t room = size - filled, used;

		/* An entry without a node is not looked up. */
		if (nth < 2)
			entry.ino = 0;
		used = plus ? fuse_add_direntry_plus(req, buffer + filled, room, name, &entry, nth + 1) :
			      fuse_add_direntry(req, buffer + filled, room, name, &entry.attr, nth + 1);
		if (used > room)
			break;
		filled += used;
	}
	fuse_reply_buf(req, buffer, filled);
}

void status_dir_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)nodeid;
	(void)fi;
	list(req, size, offset, false);
}

void status_dir_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
			    struct fuse_file_info *fi)
{
	(void)nodeid;
	(void)fi;
	list(req, size, offset, true);
}

/*
 * Its files.
 */

void status_dir_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	Fs *fs = fs_of(req);
	const StatusName *name = name_of(nodeid);
	g_autoptr(FsReport) report = NULL;
	bool is_open;

	/* Also root's rights end here. */
	if (!name || (name->make && ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC)))) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (name->make)
		report = fs_report_new(fs);
	is_open = name->make ? status_file_open(&fs->status_files, name->make(report), fi) :
			       status_file_open_control(&fs->status_files, fi);
	if (!is_open)
		fuse_reply_err(req, ENFILE);
	else if (fuse_reply_open(req, fi) < 0)
		status_file_close(&fs->status_files, fi);
}

void status_dir_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)nodeid;
	status_file_read(&fs_of(req)->status_files, req, size, offset, fi);
}

/* The kernel has checked that it was opened for writing: so it is `control`. */
void status_dir_write_buf(fuse_req_t req, fuse_ino_t nodeid, struct fuse_bufvec *data, off_t offset,
			  struct fuse_file_info *fi)
{
	size_t size = fuse_buf_size(data);
	struct fuse_bufvec copy = FUSE_BUFVEC_INIT(size);
	g_autofree char *bytes = g_malloc(size);
	ssize_t n;

	(void)nodeid;
	(void)offset;
	copy.buf[0].mem = bytes;
	n = fuse_buf_copy(&copy, data, 0);
	if (n < 0)
		fuse_reply_err(req, -n);
	else
		status_file_write(&fs_of(req)->status_files, req, bytes, n, fi);
}

/* `echo ... > control` cuts it to nothing first, which it always is. */
void status_dir_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	const StatusName *name = name_of(nodeid);

	(void)attr;
	if (name && !name->make && !(to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		status_dir_getattr(req, nodeid, fi);
	else
		fuse_reply_err(req, EPERM);
}

void status_dir_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)nodeid;
	status_file_close(&fs_of(req)->status_files, fi);
	fuse_reply_err(req, 0);
}

void status_dir_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	(void)nodeid;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, 0);
}

void status_dir_close_all(Fs *fs)
{
	status_file_close_all(&fs->status_files);
}
