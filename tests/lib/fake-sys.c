// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/fake-sys.h"

#include <errno.h>
#include <fcntl.h>

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

static const char *const NAMES[_FAKE_SYS_CALL_MAX] = {
	[FAKE_SYS_OPENAT] = "openat",	    [FAKE_SYS_UNLINKAT] = "unlinkat",
	[FAKE_SYS_RENAMEAT2] = "renameat2", [FAKE_SYS_FALLOCATE] = "fallocate",
	[FAKE_SYS_FTRUNCATE] = "ftruncate", [FAKE_SYS_PWRITE] = "pwrite",
	[FAKE_SYS_FSYNC] = "fsync",	    [FAKE_SYS_SYNC_FILE_RANGE] = "sync_file_range",
	[FAKE_SYS_FSTAT] = "fstat",	    [FAKE_SYS_FSTATVFS] = "fstatvfs",
	[FAKE_SYS_FCHOWN] = "fchown",	    [FAKE_SYS_FCHMOD] = "fchmod",
	[FAKE_SYS_FUTIMENS] = "futimens",   [FAKE_SYS_SET_LEASE] = "set_lease",
	[FAKE_SYS_MMAP] = "mmap",	    [FAKE_SYS_MUNMAP] = "munmap",
	[FAKE_SYS_MADVISE] = "madvise",	    [FAKE_SYS_LINKAT] = "linkat",
	[FAKE_SYS_FDATASYNC] = "fdatasync", [FAKE_SYS_PREAD] = "pread",
	[FAKE_SYS_MSYNC] = "msync",	    [FAKE_SYS_CLOSE] = "close",
	[FAKE_SYS_MLOCK] = "mlock",
	[FAKE_SYS_MUNLOCK] = "munlock",
	[FAKE_SYS_SET_IO_IDLE] = "set_io_idle", [FAKE_SYS_IO_STALLED_US] = "io_stalled_us",
	[FAKE_SYS_GET_LEASE] = "get_lease", [FAKE_SYS_FLISTXATTR] = "flistxattr",
	[FAKE_SYS_HAS_FLAGS] = "has_flags", [FAKE_SYS_FREMOVEXATTR] = "fremovexattr",
};

const char *fake_sys_call_name(FakeSysCall call)
{
	return NAMES[call];
}

/* The table is const for its users; the fake behind it is not. */
static FakeSys *fake_sys(const Sys *sys)
{
	return (FakeSys *)sys;
}

static int note(const Sys *base, FakeSysRecord record)
{
	FakeSys *sys = fake_sys(base);
	FakeSysCall call = record.call;

	if (sys->before)
		sys->before(sys->before_arg, call);
	MUTEX_SCOPE(&sys->lock);
	g_array_append_val(sys->records, record);
	unsigned nth = ++sys->counts[call];
	if (sys->faults[call].from && nth >= sys->faults[call].from && nth < sys->faults[call].to)
		return sys->faults[call].error;
	return 0;
}

#define NOTE(...) note(base, (FakeSysRecord){ __VA_ARGS__ })
/* Fails as told, goes on to the kernel, or returns what a call that does nothing returns. */
#define CONCLUDE(r, kernel_call, nothing) \
	((r) < 0 ? (r) : fake_sys(base)->with_kernel ? sys_kernel.kernel_call : (nothing))

static int fake_openat(const Sys *base, int dir_fd, const char *name, int flags, mode_t mode)
{
	int r = NOTE(.call = FAKE_SYS_OPENAT, .flags = flags);

	return CONCLUDE(r, openat(base, dir_fd, name, flags, mode), -ENOSYS);
}

static int fake_close(const Sys *base, int fd)
{
	int r = NOTE(.call = FAKE_SYS_CLOSE);

	return CONCLUDE(r, close(base, fd), 0);
}

static int fake_unlinkat(const Sys *base, int dir_fd, const char *name, int flags)
{
	int r = NOTE(.call = FAKE_SYS_UNLINKAT, .flags = flags);

	return CONCLUDE(r, unlinkat(base, dir_fd, name, flags), 0);
}

static int fake_renameat2(const Sys *base, int old_dir_fd, const char *old_name, int new_dir_fd,
			  const char *new_name, unsigned flags)
{
	int r = NOTE(.call = FAKE_SYS_RENAMEAT2, .flags = (int)flags);

	return CONCLUDE(r, renameat2(base, old_dir_fd, old_name, new_dir_fd, new_name, flags), 0);
}

static int fake_linkat(const Sys *base, int old_dir_fd, const char *old_name, int new_dir_fd,
		       const char *new_name)
{
	int r = NOTE(.call = FAKE_SYS_LINKAT);

	return CONCLUDE(r, linkat(base, old_dir_fd, old_name, new_dir_fd, new_name), 0);
}

static int fake_fallocate(const Sys *base, int fd, int mode, off_t offset, off_t length)
{
	int r = NOTE(.call = FAKE_SYS_FALLOCATE, .flags = mode, .offset = offset, .length = length);

	if (r == 0 && fake_sys(base)->no_write_zeroes && (mode & FALLOC_FL_WRITE_ZEROES))
		r = -EOPNOTSUPP;
	return CONCLUDE(r, fallocate(base, fd, mode, offset, length), 0);
}

static int fake_ftruncate(const Sys *base, int fd, off_t length)
{
	int r = NOTE(.call = FAKE_SYS_FTRUNCATE, .length = length);

	return CONCLUDE(r, ftruncate(base, fd, length), 0);
}

static ssize_t fake_pread(const Sys *base, int fd, void *data, size_t length, off_t offset)
{
	int r = NOTE(.call = FAKE_SYS_PREAD, .offset = offset, .length = length);

	return CONCLUDE(r, pread(base, fd, data, length, offset), 0);
}

static ssize_t fake_pwrite(const Sys *base, int fd, const void *data, size_t length, off_t offset)
{
	FakeSys *sys = fake_sys(base);
	int r = NOTE(.call = FAKE_SYS_PWRITE, .offset = offset, .length = length);

	if (sys->short_write_bytes)
		length = MIN(length, sys->short_write_bytes);
	return CONCLUDE(r, pwrite(base, fd, data, length, offset), (ssize_t)length);
}

static int fake_fsync(const Sys *base, int fd)
{
	int r = NOTE(.call = FAKE_SYS_FSYNC);

	return CONCLUDE(r, fsync(base, fd), 0);
}

static int fake_fdatasync(const Sys *base, int fd)
{
	int r = NOTE(.call = FAKE_SYS_FDATASYNC);

	return CONCLUDE(r, fdatasync(base, fd), 0);
}

static int fake_sync_file_range(const Sys *base, int fd, off_t offset, off_t length, unsigned flags)
{
	int r = NOTE(.call = FAKE_SYS_SYNC_FILE_RANGE, .offset = offset, .length = length,
		     .flags = (int)flags);

	return CONCLUDE(r, sync_file_range(base, fd, offset, length, flags), 0);
}

static int fake_fstat(const Sys *base, int fd, struct stat *ret_attr)
{
	int r = NOTE(.call = FAKE_SYS_FSTAT);

	return CONCLUDE(r, fstat(base, fd, ret_attr), -ENOSYS);
}

static int fake_fstatvfs(const Sys *base, int fd, struct statvfs *ret_attr)
{
	FakeSys *sys = fake_sys(base);
	int r = NOTE(.call = FAKE_SYS_FSTATVFS);

	if (r == 0 && sys->statvfs.f_frsize) {
		*ret_attr = sys->statvfs;
		return 0;
	}
	return CONCLUDE(r, fstatvfs(base, fd, ret_attr), -ENOSYS);
}

static int fake_fchown(const Sys *base, int fd, uid_t uid, gid_t gid)
{
	int r = NOTE(.call = FAKE_SYS_FCHOWN);

	return CONCLUDE(r, fchown(base, fd, uid, gid), 0);
}

static int fake_fchmod(const Sys *base, int fd, mode_t mode)
{
	int r = NOTE(.call = FAKE_SYS_FCHMOD, .flags = (int)mode);

	return CONCLUDE(r, fchmod(base, fd, mode), 0);
}

static int fake_futimens(const Sys *base, int fd, const struct timespec times[2])
{
	int r = NOTE(.call = FAKE_SYS_FUTIMENS);

	return CONCLUDE(r, futimens(base, fd, times), 0);
}

static int fake_set_lease(const Sys *base, int fd, int type)
{
	int r = NOTE(.call = FAKE_SYS_SET_LEASE, .flags = type);

	return CONCLUDE(r, set_lease(base, fd, type), 0);
}

static int fake_get_lease(const Sys *base, int fd)
{
	int r = NOTE(.call = FAKE_SYS_GET_LEASE);

	return CONCLUDE(r, get_lease(base, fd), F_WRLCK);
}

static ssize_t fake_flistxattr(const Sys *base, int fd, char *names, size_t size)
{
	int r = NOTE(.call = FAKE_SYS_FLISTXATTR, .length = size);

	return CONCLUDE(r, flistxattr(base, fd, names, size), 0);
}

static int fake_fremovexattr(const Sys *base, int fd, const char *name)
{
	int r = NOTE(.call = FAKE_SYS_FREMOVEXATTR);

	return CONCLUDE(r, fremovexattr(base, fd, name), 0);
}

static int fake_has_flags(const Sys *base, int fd)
{
	int r = NOTE(.call = FAKE_SYS_HAS_FLAGS);

	return CONCLUDE(r, has_flags(base, fd), 0);
}

static int fake_mmap(const Sys *base, int fd, size_t length, void **ret_map)
{
	int r = NOTE(.call = FAKE_SYS_MMAP, .length = length);

	return CONCLUDE(r, mmap_shared(base, fd, length, ret_map), -ENOSYS);
}

static int fake_munmap(const Sys *base, void *map, size_t length)
{
	int r = NOTE(.call = FAKE_SYS_MUNMAP, .length = length);

	return CONCLUDE(r, munmap(base, map, length), 0);
}

static int fake_mlock(const Sys *base, void *map, size_t length)
{
	int r = NOTE(.call = FAKE_SYS_MLOCK, .length = length);

	return CONCLUDE(r, mlock(base, map, length), 0);
}

static int fake_munlock(const Sys *base, void *map, size_t length)
{
	int r = NOTE(.call = FAKE_SYS_MUNLOCK, .length = length);

	return CONCLUDE(r, munlock(base, map, length), 0);
}

static int fake_madvise(const Sys *base, void *map, size_t length, int advice)
{
	int r = NOTE(.call = FAKE_SYS_MADVISE, .offset = (uintptr_t)map, .length = length,
		     .flags = advice);

	return CONCLUDE(r, madvise(base, map, length, advice), 0);
}

static int fake_set_io_idle(const Sys *base, bool idle)
{
	int r = NOTE(.call = FAKE_SYS_SET_IO_IDLE, .flags = idle);

	return CONCLUDE(r, set_io_idle(base, idle), 0);
}

static int fake_io_stalled_us(const Sys *base, uint64_t *ret_us)
{
	int r = NOTE(.call = FAKE_SYS_IO_STALLED_US);

	*ret_us = atomic_load(&fake_sys(base)->stalled_us);
	return CONCLUDE(r, io_stalled_us(base, ret_us), 0);
}

static size_t fake_page_bytes(const Sys *base)
{
	FakeSys *sys = fake_sys(base);

	return sys->page_bytes ? sys->page_bytes : sys_kernel.page_bytes(base);
}

static int fake_msync(const Sys *base, void *map, size_t length)
{
	int r = NOTE(.call = FAKE_SYS_MSYNC, .offset = (uintptr_t)map, .length = length);

	return CONCLUDE(r, msync(base, map, length), 0);
}

void fake_sys_init(FakeSys *sys, bool with_kernel)
{
	*sys = (FakeSys){
		.base = {
			.openat = fake_openat,
			.close = fake_close,
			.unlinkat = fake_unlinkat,
			.renameat2 = fake_renameat2,
			.linkat = fake_linkat,
			.fallocate = fake_fallocate,
			.ftruncate = fake_ftruncate,
			.pread = fake_pread,
			.pwrite = fake_pwrite,
			.fsync = fake_fsync,
			.fdatasync = fake_fdatasync,
			.sync_file_range = fake_sync_file_range,
			.fstat = fake_fstat,
			.fstatvfs = fake_fstatvfs,
			.fchown = fake_fchown,
			.fchmod = fake_fchmod,
			.futimens = fake_futimens,
			.set_lease = fake_set_lease,
			.get_lease = fake_get_lease,
			.flistxattr = fake_flistxattr,
			.fremovexattr = fake_fremovexattr,
			.has_flags = fake_has_flags,
			.mmap_shared = fake_mmap,
			.munmap = fake_munmap,
			.mlock = fake_mlock,
			.munlock = fake_munlock,
			.madvise = fake_madvise,
			.set_io_idle = fake_set_io_idle,
			.io_stalled_us = fake_io_stalled_us,
			.page_bytes = fake_page_bytes,
			.msync = fake_msync,
		},
		.with_kernel = with_kernel,
		.records = g_array_new(FALSE, FALSE, sizeof(FakeSysRecord)),
	};
	mutex_init(&sys->lock);
}

void fake_sys_deinit(FakeSys *sys)
{
	g_array_unref(sys->records);
	mutex_deinit(&sys->lock);
}

void fake_sys_reset(FakeSys *sys)
{
	MUTEX_SCOPE(&sys->lock);
	for (size_t i = 0; i < _FAKE_SYS_CALL_MAX; i++) {
		sys->counts[i] = 0;
		sys->faults[i].from = 0;
	}
	g_array_set_size(sys->records, 0);
}

void fake_sys_fail(FakeSys *sys, FakeSysCall call, unsigned nth, unsigned times, int error)
{
	MUTEX_SCOPE(&sys->lock);
	sys->faults[call].from = sys->counts[call] + nth;
	sys->faults[call].to = sys->faults[call].from + times;
	sys->faults[call].error = error;
}

unsigned fake_sys_count(FakeSys *sys, FakeSysCall call)
{
	MUTEX_SCOPE(&sys->lock);
	return sys->counts[call];
}

FakeSysRecord fake_sys_record(FakeSys *sys, FakeSysCall call, unsigned nth)
{
	MUTEX_SCOPE(&sys->lock);
	for (guint i = 0; i < sys->records->len; i++) {
		FakeSysRecord *record = &g_array_index(sys->records, FakeSysRecord, i);

		if (record->call == call && nth-- == 0)
			return *record;
	}
	g_assert_not_reached();
}
