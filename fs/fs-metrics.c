// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-metrics.h"

#include <glib.h>

const char *fs_request_name(FsRequest request)
{
	static const char *const names[_FS_REQUEST_MAX] = {
		[FS_LOOKUP] = "lookup",
		[FS_FORGET] = "forget",
		[FS_GETATTR] = "getattr",
		[FS_STATX] = "statx",
		[FS_SETATTR] = "setattr",
		[FS_READLINK] = "readlink",
		[FS_MKNOD] = "mknod",
		[FS_MKDIR] = "mkdir",
		[FS_SYMLINK] = "symlink",
		[FS_LINK] = "link",
		[FS_UNLINK] = "unlink",
		[FS_RMDIR] = "rmdir",
		[FS_RENAME] = "rename",
		[FS_CREATE] = "create",
		[FS_TMPFILE] = "tmpfile",
		[FS_OPEN] = "open",
		[FS_READ] = "read",
		[FS_WRITE] = "write",
		[FS_FLUSH] = "flush",
		[FS_FSYNC] = "fsync",
		[FS_FALLOCATE] = "fallocate",
		[FS_LSEEK] = "lseek",
		[FS_COPY_FILE_RANGE] = "copy_file_range",
		[FS_IOCTL] = "ioctl",
		[FS_RELEASE] = "release",
		[FS_OPENDIR] = "opendir",
		[FS_READDIR] = "readdir",
		[FS_RELEASEDIR] = "releasedir",
		[FS_FSYNCDIR] = "fsyncdir",
		[FS_STATFS] = "statfs",
		[FS_GETXATTR] = "getxattr",
		[FS_SETXATTR] = "setxattr",
		[FS_LISTXATTR] = "listxattr",
		[FS_REMOVEXATTR] = "removexattr",
	};

	return names[request];
}

const char *fs_data_path_name(FsDataPath path)
{
	static const char *const names[_FS_DATA_PATH_MAX] = {
		[FS_PATH_PASSTHROUGH] = "passthrough",
		[FS_PATH_APPEND] = "append",
		[FS_PATH_DAEMON] = "daemon",
	};

	return names[path];
}

void fs_metrics_init(FsMetrics *metrics, size_t n_classes)
{
	for (int i = 0; i < _FS_REQUEST_MAX; i++)
		atomic_init(&metrics->requests[i], 0);
	for (int i = 0; i < _FS_DATA_PATH_MAX; i++)
		atomic_init(&metrics->opens[i], 0);
	metrics->n_create_times = n_classes + 1;
	metrics->create_times = g_new0(AllocTimesShared, metrics->n_create_times);
}

void fs_metrics_deinit(FsMetrics *metrics)
{
	g_clear_pointer(&metrics->create_times, g_free);
}
