/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls by which segments are made, behind a table, so that a test can make any of them fail.
 * Each returns what the call returns, or -errno. `sys_kernel` is the real one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

typedef struct Sys Sys;

struct Sys {
	int (*openat)(const Sys *sys, int dir_fd, const char *name, int flags, mode_t mode);
	int (*close)(const Sys *sys, int fd);
	int (*unlinkat)(const Sys *sys, int dir_fd, const char *name, int flags);
	int (*renameat2)(const Sys *sys, int old_dir_fd, const char *old_name, int new_dir_fd,
			 const char *new_name, unsigned flags);
	int (*linkat)(const Sys *sys, int old_dir_fd, const char *old_name, int new_dir_fd, const char *new_name);
	int (*fallocate)(const Sys *sys, int fd, int mode, off_t offset, off_t length);
	int (*ftruncate)(const Sys *sys, int fd, off_t length);
	ssize_t (*pread)(const Sys *sys, int fd, void *data, size_t length, off_t offset);
	ssize_t (*pwrite)(const Sys *sys, int fd, const void *data, size_t length, off_t offset);
	int (*fsync)(const Sys *sys, int fd);
	int (*fdatasync)(const Sys *sys, int fd);
	int (*sync_file_range)(const Sys *sys, int fd, off_t offset, off_t length, unsigned flags);
	int (*fstat)(const Sys *sys, int fd, struct stat *ret_attr);
	int (*fstatvfs)(const Sys *sys, int fd, struct statvfs *ret_attr);
	int (*fchown)(const Sys *sys, int fd, uid_t uid, gid_t gid);
	int (*fchmod)(const Sys *sys, int fd, mode_t mode);
	int (*futimens)(const Sys *sys, int fd, const struct timespec times[2]);
	/* fcntl's F_SETLEASE: F_WRLCK or F_UNLCK. The process must ignore SIGIO. */
	int (*set_lease)(const Sys *sys, int fd, int type);
	/* F_GETLEASE: once somebody breaks it, what he leaves. */
	int (*get_lease)(const Sys *sys, int fd);
	ssize_t (*flistxattr)(const Sys *sys, int fd, char *names, size_t size);
	int (*fremovexattr)(const Sys *sys, int fd, const char *name);
	/* 1 if the file has flags (as of chattr) or a project, which a new file does not have; else 0. */
	int (*has_flags)(const Sys *sys, int fd);
	int (*mmap_shared)(const Sys *sys, int fd, size_t length, void **ret_map);
	int (*munmap)(const Sys *sys, void *map, size_t length);
	int (*mlock)(const Sys *sys, void *map, size_t length);
	int (*munlock)(const Sys *sys, void *map, size_t length);
	int (*madvise)(const Sys *sys, void *map, size_t length, int advice);
	/* Of the calling thread: whether its I/O goes behind everybody else's. */
	int (*set_io_idle)(const Sys *sys, bool idle);
	/* alloc/io-pressure.h */
	int (*io_stalled_us)(const Sys *sys, uint64_t *ret_us);
	/* Of one page of memory; a power of two. */
	size_t (*page_bytes)(const Sys *sys);
	/* How many bytes of the file are in the page cache. */
	int (*resident_bytes)(const Sys *sys, int fd, size_t length, uint64_t *ret_bytes);
	/* Written and flushed on return. */
	int (*msync)(const Sys *sys, void *map, size_t length);
};

extern const Sys sys_kernel;

/* All of it, over short calls and those that a signal has ended. 0 or -errno; -EIO if the file has no more, or takes no more. */
int sys_read_fully(const Sys *sys, int fd, void *data, size_t size, off_t offset);
int sys_write_fully(const Sys *sys, int fd, const void *data, size_t size, off_t offset);
