/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mount counts beside what its classes do: requests by operation, opens by data path, and how long creates
 * took. Relaxed atomics: no lock and no order.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "alloc/alloc-times.h"

typedef enum FsRequest {
	FS_LOOKUP,
	FS_FORGET,
	FS_GETATTR,
	FS_STATX,
	FS_SETATTR,
	FS_READLINK,
	FS_MKNOD,
	FS_MKDIR,
	FS_SYMLINK,
	FS_LINK,
	FS_UNLINK,
	FS_RMDIR,
	FS_RENAME,
	FS_CREATE,
	FS_TMPFILE,
	FS_OPEN,
	FS_READ,
	FS_WRITE,
	FS_FLUSH,
	FS_FSYNC,
	FS_FALLOCATE,
	FS_LSEEK,
	FS_COPY_FILE_RANGE,
	FS_IOCTL,
	FS_RELEASE,
	FS_OPENDIR,
	FS_READDIR,
	FS_RELEASEDIR,
	FS_FSYNCDIR,
	FS_STATFS,
	FS_GETXATTR,
	FS_SETXATTR,
	FS_LISTXATTR,
	FS_REMOVEXATTR,
	_FS_REQUEST_MAX,
} FsRequest;

/* How the data of a file moves, decided when it is opened. */
typedef enum FsDataPath {
	/* By the kernel alone. */
	FS_PATH_PASSTHROUGH,
	/* Of a live `append` segment: reads and writes through the daemon, mappings by the kernel. */
	FS_PATH_APPEND,
	/* All through the daemon. */
	FS_PATH_DAEMON,
	_FS_DATA_PATH_MAX,
} FsDataPath;

typedef struct FsMetrics {
	atomic_uint_fast64_t requests[_FS_REQUEST_MAX];
	atomic_uint_fast64_t opens[_FS_DATA_PATH_MAX];
	/* Of each class, from the request's arrival to its answer, if that was a new file; behind them, of files without a
	 * class. */
	AllocTimesShared *create_times;
	size_t n_create_times;
} FsMetrics;

const char *fs_request_name(FsRequest request);
const char *fs_data_path_name(FsDataPath path);

void fs_metrics_init(FsMetrics *metrics, size_t n_classes);
void fs_metrics_deinit(FsMetrics *metrics);

static inline void fs_metrics_note_request(FsMetrics *metrics, FsRequest request)
{
	atomic_fetch_add_explicit(&metrics->requests[request], 1, memory_order_relaxed);
}

static inline void fs_metrics_note_open(FsMetrics *metrics, FsDataPath path)
{
	atomic_fetch_add_explicit(&metrics->opens[path], 1, memory_order_relaxed);
}

/* `nth_class` is the number of classes for a file without one. */
static inline void fs_metrics_note_create(FsMetrics *metrics, size_t nth_class, int64_t took_ns)
{
	alloc_times_shared_add(&metrics->create_times[nth_class], took_ns / 1000);
}
