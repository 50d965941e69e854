/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that count, remember and fail as a test says. They go on to the kernel, or, without
 * one, succeed at once and do nothing. Any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include <glib.h>

#include "alloc/sync.h"
#include "alloc/sys.h"

typedef enum FakeSysCall {
	FAKE_SYS_OPENAT,
	FAKE_SYS_CLOSE,
	FAKE_SYS_UNLINKAT,
	FAKE_SYS_RENAMEAT2,
	FAKE_SYS_LINKAT,
	FAKE_SYS_FALLOCATE,
	FAKE_SYS_FTRUNCATE,
	FAKE_SYS_PREAD,
	FAKE_SYS_PWRITE,
	FAKE_SYS_FSYNC,
	FAKE_SYS_FDATASYNC,
	FAKE_SYS_SYNC_FILE_RANGE,
	FAKE_SYS_FSTAT,
	FAKE_SYS_FSTATVFS,
	FAKE_SYS_FCHOWN,
	FAKE_SYS_FCHMOD,
	FAKE_SYS_FUTIMENS,
	FAKE_SYS_SET_LEASE,
	FAKE_SYS_GET_LEASE,
	FAKE_SYS_FLISTXATTR,
	FAKE_SYS_FREMOVEXATTR,
	FAKE_SYS_HAS_FLAGS,
	FAKE_SYS_MMAP,
	FAKE_SYS_MUNMAP,
	FAKE_SYS_MLOCK,
	FAKE_SYS_MADVISE,
	FAKE_SYS_MSYNC,
	FAKE_SYS_MUNLOCK,
	FAKE_SYS_SET_IO_IDLE,
	FAKE_SYS_IO_STALLED_US,
	_FAKE_SYS_CALL_MAX,
} FakeSysCall;

const char *fake_sys_call_name(FakeSysCall call);

/* One call as it came, in order. What does not apply is 0. */
typedef struct FakeSysRecord {
	FakeSysCall call;
	uint64_t offset;
	uint64_t length;
	/* Of fallocate and sync_file_range: mode, flags; of madvise: the advice; of set_io_idle: whether it is. */
	int flags;
} FakeSysRecord;

typedef struct FakeSys {
	Sys base;
	/* Immutable once in use. */
	bool with_kernel;
	/* The kernel knows no FALLOC_FL_WRITE_ZEROES. */
	bool no_write_zeroes;
	/* Bound on what one pwrite writes; 0: none. */
	size_t short_write_bytes;
	/* What io_stalled_us says without a kernel. */
	atomic_uint_fast64_t stalled_us;
	/* What page_bytes says; 0: what the kernel does. */
	size_t page_bytes;
	/* What fstatvfs says, if f_frsize is set. */
	struct statvfs statvfs;
	/* Called before each, with no lock held. */
	void (*before)(void *arg, FakeSysCall call);
	void *before_arg;
	Mutex lock;
	/* Protected by lock. */
	unsigned counts[_FAKE_SYS_CALL_MAX];
	struct {
		/* From 1; 0: no fault. */
		unsigned from, to;
		int error;
	} faults[_FAKE_SYS_CALL_MAX];
	GArray *records;
} FakeSys;

void fake_sys_init(FakeSys *sys, bool with_kernel);
void fake_sys_deinit(FakeSys *sys);
/* Forgets counts, faults and records. */
void fake_sys_reset(FakeSys *sys);

/* The nth call of the kind from now on, and the next ones, `times` in all, return error. */
void fake_sys_fail(FakeSys *sys, FakeSysCall call, unsigned nth, unsigned times, int error);
unsigned fake_sys_count(FakeSys *sys, FakeSysCall call);
/* The nth record, from 0, of that call. */
FakeSysRecord fake_sys_record(FakeSys *sys, FakeSysCall call, unsigned nth);
