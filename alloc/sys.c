// SPDX-License-Identifier: Apache-2.0
#include "alloc/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/ioprio.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <glib.h>

#include "alloc/io-pressure.h"

#define NEGATIVE_ERRNO(call) ((call) < 0 ? -errno : 0)

static int kernel_openat(const Sys *sys, int dir_fd, const char *name, int flags, mode_t mode)
{
	int fd = openat(dir_fd, name, flags, mode);

	(void)sys;
	return fd < 0 ? -errno : fd;
}

static int kernel_close(const Sys *sys, int fd)
{
	(void)sys;
	return NEGATIVE_ERRNO(close(fd));
}

static int kernel_unlinkat(const Sys *sys, int dir_fd, const char *name, int flags)
{
	(void)sys;
	return NEGATIVE_ERRNO(unlinkat(dir_fd, name, flags));
}

static int kernel_renameat2(const Sys *sys, int old_dir_fd, const char *old_name, int new_dir_fd,
			    const char *new_name, unsigned flags)
{
	(void)sys;
	return NEGATIVE_ERRNO(renameat2(old_dir_fd, old_name, new_dir_fd, new_name, flags));
}

static int kernel_linkat(const Sys *sys, int old_dir_fd, const char *old_name, int new_dir_fd,
			 const char *new_name)
{
	(void)sys;
	return NEGATIVE_ERRNO(linkat(old_dir_fd, old_name, new_dir_fd, new_name, 0));
}

static int kernel_fallocate(const Sys *sys, int fd, int mode, off_t offset, off_t length)
{
	(void)sys;
	return NEGATIVE_ERRNO(fallocate(fd, mode, offset, length));
}

static int kernel_ftruncate(const Sys *sys, int fd, off_t length)
{
	(void)sys;
	return NEGATIVE_ERRNO(ftruncate(fd, length));
}

static ssize_t kernel_pread(const Sys *sys, int fd, void *data, size_t length, off_t offset)
{
	ssize_t n = pread(fd, data, length, offset);

	(void)sys;
	return n < 0 ? -errno : n;
}

static ssize_t kernel_pwrite(const Sys *sys, int fd, const void *data, size_t length, off_t offset)
{
	ssize_t n = pwrite(fd, data, length, offset);

	(void)sys;
	return n < 0 ? -errno : n;
}

static int kernel_fsync(const Sys *sys, int fd)
{
	(void)sys;
	return NEGATIVE_ERRNO(fsync(fd));
}

static int kernel_fdatasync(const Sys *sys, int fd)
{
	(void)sys;
	return NEGATIVE_ERRNO(fdatasync(fd));
}

static int kernel_sync_file_range(const Sys *sys, int fd, off_t offset, off_t length, unsigned flags)
{
	(void)sys;
	return NEGATIVE_ERRNO(sync_file_range(fd, offset, length, flags));
}

static int kernel_fstat(const Sys *sys, int fd, struct stat *ret_attr)
{
	(void)sys;
	return NEGATIVE_ERRNO(fstat(fd, ret_attr));
}

static int kernel_fstatvfs(const Sys *sys, int fd, struct statvfs *ret_attr)
{
	(void)sys;
	return NEGATIVE_ERRNO(fstatvfs(fd, ret_attr));
}

static int kernel_fchown(const Sys *sys, int fd, uid_t uid, gid_t gid)
{
	(void)sys;
	return NEGATIVE_ERRNO(fchown(fd, uid, gid));
}

static int kernel_fchmod(const Sys *sys, int fd, mode_t mode)
{
	(void)sys;
	return NEGATIVE_ERRNO(fchmod(fd, mode));
}

static int kernel_futimens(const Sys *sys, int fd, const struct timespec times[2])
{
	(void)sys;
	return NEGATIVE_ERRNO(futimens(fd, times));
}

static int kernel_set_lease(const Sys *sys, int fd, int type)
{
	(void)sys;
	return NEGATIVE_ERRNO(fcntl(fd, F_SETLEASE, type));
}

static int kernel_get_lease(const Sys *sys, int fd)
{
	int type = fcntl(fd, F_GETLEASE);

	(void)sys;
	return type < 0 ? -errno : type;
}

static ssize_t kernel_flistxattr(const Sys *sys, int fd, char *names, size_t size)
{
	ssize_t n = flistxattr(fd, names, size);

	(void)sys;
	return n < 0 ? -errno : n;
}

static int kernel_fremovexattr(const Sys *sys, int fd, const char *name)
{
	(void)sys;
	return NEGATIVE_ERRNO(fremovexattr(fd, name));
}

/* What ext4 sets by itself: extents, and more than 2 TiB. */
#define OWN_FLAGS (FS_EXTENT_FL | 0x00040000)

static int kernel_has_flags(const Sys *sys, int fd)
{
	struct fsxattr extended = { .fsx_projid = 0 };
	int flags = 0;

	(void)sys;
	/* Where there is no such call, there are no flags. */
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 && errno != ENOTTY && errno != EOPNOTSUPP)
		return -errno;
	if (ioctl(fd, FS_IOC_FSGETXATTR, &extended) < 0 && errno != ENOTTY && errno != EOPNOTSUPP)
		return -errno;
	return (flags & ~OWN_FLAGS) || extended.fsx_projid != 0;
}

static int kernel_mmap_shared(const Sys *sys, int fd, size_t length, void **ret_map)
{
	void *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)sys;
	if (map == MAP_FAILED)
		return -errno;
	*ret_map = map;
	return 0;
}

static int kernel_munmap(const Sys *sys, void *map, size_t length)
{
	(void)sys;
	return NEGATIVE_ERRNO(munmap(map, length));
}

/* By their numbers: under the sanitizers, the functions do nothing. */
static int kernel_mlock(const Sys *sys, void *map, size_t length)
{
	(void)sys;
	return NEGATIVE_ERRNO(syscall(SYS_mlock, map, length));
}

static int kernel_munlock(const Sys *sys, void *map, size_t length)
{
	(void)sys;
	return NEGATIVE_ERRNO(syscall(SYS_munlock, map, length));
}

static int kernel_madvise(const Sys *sys, void *map, size_t length, int advice)
{
	(void)sys;
	return NEGATIVE_ERRNO(madvise(map, length, advice));
}

static int kernel_set_io_idle(const Sys *sys, bool idle)
{
	int class = idle ? IOPRIO_CLASS_IDLE : IOPRIO_CLASS_NONE;

	(void)sys;
	return NEGATIVE_ERRNO(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(class, 0)));
}

static int kernel_io_stalled_us(const Sys *sys, uint64_t *ret_us)
{
	(void)sys;
	return io_pressure_stalled_us(ret_us);
}

static size_t kernel_page_bytes(const Sys *sys)
{
	(void)sys;
	return sysconf(_SC_PAGESIZE);
}

/* As <linux/mman.h> has them since Linux 6.5. */
typedef struct CachestatRange {
	uint64_t offset;
	uint64_t length;
} CachestatRange;

typedef struct Cachestat {
	uint64_t n_cached;
	uint64_t n_dirty;
	uint64_t n_writeback;
	uint64_t n_evicted;
	uint64_t n_recently_evicted;
} Cachestat;

#define CACHESTAT_CALL 451

/* For older kernels, by a mapping. */
static int count_by_mincore(int fd, size_t length, uint64_t *ret_pages)
{
	size_t n_pages = (length - 1) / sysconf(_SC_PAGESIZE) + 1;
	g_autofree unsigned char *in_core = NULL;
	void *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
	int r;

	if (map == MAP_FAILED)
		return -errno;
	in_core = g_malloc(n_pages);
	r = NEGATIVE_ERRNO(mincore(map, length, in_core));
	*ret_pages = 0;
	for (size_t i = 0; r == 0 && i < n_pages; i++)
		*ret_pages += in_core[i] & 1;
	munmap(map, length);
	return r;
}

static int kernel_resident_bytes(const Sys *sys, int fd, size_t length, uint64_t *ret_bytes)
{
	CachestatRange range = { .length = length };
	Cachestat cached = { 0 };
	uint64_t n_pages;
	int r;

	(void)sys;
	*ret_bytes = 0;
	/* Of a length of 0, cachestat would take the whole file. */
	if (length == 0)
		return 0;
	r = NEGATIVE_ERRNO(syscall(CACHESTAT_CALL, fd, &range, &cached, 0));
	n_pages = cached.n_cached;
	if (r == -ENOSYS)
		r = count_by_mincore(fd, length, &n_pages);
	if (r == 0)
		*ret_bytes = MIN(n_pages * sysconf(_SC_PAGESIZE), length);
	return r;
}

static int kernel_msync(const Sys *sys, void *map, size_t length)
{
	(void)sys;
	return NEGATIVE_ERRNO(msync(map, length, MS_SYNC));
}

const Sys sys_kernel = {
	.openat = kernel_openat,
	.close = kernel_close,
	.unlinkat = kernel_unlinkat,
	.renameat2 = kernel_renameat2,
	.linkat = kernel_linkat,
	.fallocate = kernel_fallocate,
	.ftruncate = kernel_ftruncate,
	.pread = kernel_pread,
	.pwrite = kernel_pwrite,
	.fsync = kernel_fsync,
	.fdatasync = kernel_fdatasync,
	.sync_file_range = kernel_sync_file_range,
	.fstat = kernel_fstat,
	.fstatvfs = kernel_fstatvfs,
	.fchown = kernel_fchown,
	.fchmod = kernel_fchmod,
	.futimens = kernel_futimens,
	.set_lease = kernel_set_lease,
	.get_lease = kernel_get_lease,
	.flistxattr = kernel_flistxattr,
	.fremovexattr = kernel_fremovexattr,
	.has_flags = kernel_has_flags,
	.mmap_shared = kernel_mmap_shared,
	.munmap = kernel_munmap,
	.mlock = kernel_mlock,
	.munlock = kernel_munlock,
	.madvise = kernel_madvise,
	.set_io_idle = kernel_set_io_idle,
	.io_stalled_us = kernel_io_stalled_us,
	.page_bytes = kernel_page_bytes,
	.resident_bytes = kernel_resident_bytes,
	.msync = kernel_msync,
};

int sys_read_fully(const Sys *sys, int fd, void *data, size_t size, off_t offset)
{
	while (size > 0) {
		ssize_t n = sys->pread(sys, fd, data, size, offset);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? n : -EIO;
		data = (char *)data + n;
		size -= n;
		offset += n;
	}
	return 0;
}

int sys_write_fully(const Sys *sys, int fd, const void *data, size_t size, off_t offset)
{
	while (size > 0) {
		ssize_t n = sys->pwrite(sys, fd, data, size, offset);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? n : -EIO;
		data = (const char *)data + n;
		size -= n;
		offset += n;
	}
	return 0;
}
