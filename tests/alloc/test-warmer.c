// SPDX-License-Identifier: Apache-2.0
/* Without a file: what is asked of the system, in which order, and what becomes of each answer. */
#include "alloc/warmer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

#define MIB ((uint64_t)1 << 20)

typedef struct Fixture {
	FakeSys sys;
	SegmentClass *class;
	atomic_bool cancel;
	/* Raise the flag at this call, counted from 1. */
	FakeSysCall cancel_call;
	unsigned cancel_nth;
} Fixture;

static void fixture_init(Fixture *f, const char *class)
{
	*f = (Fixture){ .class = test_class_new(class) };
	fake_sys_init(&f->sys, false);
}

static void fixture_deinit(Fixture *f)
{
	fake_sys_deinit(&f->sys);
	segment_class_free(f->class);
}

static int fill(Fixture *f)
{
	WarmStint stint;

	warm_stint_begin(&stint, NULL, &f->cancel);
	return warmer_fill(&f->sys.base, 3, f->class, &stint);
}

static unsigned count(Fixture *f, FakeSysCall call)
{
	return fake_sys_count(&f->sys, call);
}

static void maybe_cancel(void *arg, FakeSysCall call)
{
	Fixture *f = arg;

	if (call == f->cancel_call && count(f, call) + 1 == f->cancel_nth)
		atomic_store(&f->cancel, true);
}

static void cancel_at(Fixture *f, FakeSysCall call, unsigned nth)
{
	f->cancel_call = call;
	f->cancel_nth = nth;
	f->sys.before = maybe_cancel;
	f->sys.before_arg = f;
}

static void test_device_zeroes(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M");
	g_assert_cmpint(fill(&f), ==, 0);
	g_assert_cmpuint(count(&f, FAKE_SYS_FALLOCATE), ==, 1);
	FakeSysRecord record = fake_sys_record(&f.sys, FAKE_SYS_FALLOCATE, 0);
	g_assert_cmpint(record.flags, ==, FALLOC_FL_WRITE_ZEROES);
	g_assert_cmpuint(record.offset, ==, 0);
	g_assert_cmpuint(record.length, ==, MIB);
	g_assert_cmpuint(count(&f, FAKE_SYS_PWRITE), ==, 0);
	g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, 1);
	fixture_deinit(&f);
}

/* Every byte once, in order, in writes of the class's size. */
static void check_writes(Fixture *f, uint64_t write_bytes)
{
	uint64_t offset = 0;
	unsigned n = count(f, FAKE_SYS_PWRITE);

	for (unsigned i = 0; i < n; i++) {
		FakeSysRecord record = fake_sys_record(&f->sys, FAKE_SYS_PWRITE, i);

		g_assert_cmpuint(record.offset, ==, offset);
		g_assert_cmpuint(record.length, ==,
				 MIN(write_bytes, f->class->size_bytes - offset));
		offset += record.length;
	}
	g_assert_cmpuint(offset, ==, f->class->size_bytes);
}

static void test_reserve_then_write(void)
{
	static const char *const CLASSES[] = { "a size=1M folio=4K",	   "a size=1M folio=64K",
					       "a size=1M folio=1M",	   "a size=64K folio=1M",
					       "a size=1000001 folio=64K", "a size=1 folio=64K" };

	for (size_t i = 0; i < G_N_ELEMENTS(CLASSES); i++) {
		Fixture f;

		fixture_init(&f, CLASSES[i]);
		fake_sys_fail(&f.sys, FAKE_SYS_FALLOCATE, 1, 1, -EOPNOTSUPP);
		g_assert_cmpint(fill(&f), ==, 0);
		g_assert_cmpuint(count(&f, FAKE_SYS_FALLOCATE), ==, 2);
		FakeSysRecord record = fake_sys_record(&f.sys, FAKE_SYS_FALLOCATE, 1);
		g_assert_cmpint(record.flags, ==, 0);
		g_assert_cmpuint(record.length, ==, f.class->size_bytes);
		check_writes(&f, f.class->folio_bytes);
		g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, 1);
		fixture_deinit(&f);
	}
}

static void test_write_only(void)
{
	static const int ERRORS[] = { -EOPNOTSUPP, -EINVAL, -ENOSYS };

	for (size_t i = 0; i < G_N_ELEMENTS(ERRORS); i++) {
		Fixture f;

		fixture_init(&f, "a size=1M");
		fake_sys_fail(&f.sys, FAKE_SYS_FALLOCATE, 1, 2, ERRORS[i]);
		g_assert_cmpint(fill(&f), ==, 0);
		check_writes(&f, f.class->folio_bytes);
		g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, 1);
		fixture_deinit(&f);
	}
}

/* No rung is tried after an error that is not about what the filesystem can do. */
static void test_errors(void)
{
	static const struct {
		FakeSysCall call;
		unsigned nth;
		int error;
		unsigned n_writes;
		unsigned n_syncs;
	} CASES[] = {
		{ FAKE_SYS_FALLOCATE, 1, -ENOSPC, 0, 0 }, { FAKE_SYS_FALLOCATE, 1, -EIO, 0, 0 },
		{ FAKE_SYS_FALLOCATE, 2, -ENOSPC, 0, 0 }, { FAKE_SYS_FALLOCATE, 2, -EDQUOT, 0, 0 },
		{ FAKE_SYS_PWRITE, 1, -EIO, 1, 0 },	  { FAKE_SYS_PWRITE, 7, -ENOSPC, 7, 0 },
		{ FAKE_SYS_PWRITE, 16, -EINVAL, 16, 0 },  { FAKE_SYS_FSYNC, 1, -EIO, 16, 1 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		Fixture f;

		g_test_message("%s %u", fake_sys_call_name(CASES[i].call), CASES[i].nth);
		fixture_init(&f, "a size=1M folio=64K");
		f.sys.no_write_zeroes = true;
		fake_sys_fail(&f.sys, CASES[i].call, CASES[i].nth, 1, CASES[i].error);
		g_assert_cmpint(fill(&f), ==, CASES[i].error);
		g_assert_cmpuint(count(&f, FAKE_SYS_PWRITE), ==, CASES[i].n_writes);
		g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, CASES[i].n_syncs);
		fixture_deinit(&f);
	}
}

static void test_interrupted_write(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M folio=64K");
	f.sys.no_write_zeroes = true;
	fake_sys_fail(&f.sys, FAKE_SYS_PWRITE, 3, 2, -EINTR);
	g_assert_cmpint(fill(&f), ==, 0);
	g_assert_cmpuint(count(&f, FAKE_SYS_PWRITE), ==, 18);
	for (unsigned i = 2; i <= 4; i++)
		g_assert_cmpuint(fake_sys_record(&f.sys, FAKE_SYS_PWRITE, i).offset, ==,
				 2 * 64 * 1024);
	fixture_deinit(&f);
}

static void test_short_writes(void)
{
	Fixture f;
	uint64_t offset = 0;

	fixture_init(&f, "a size=256K folio=64K");
	f.sys.no_write_zeroes = true;
	f.sys.short_write_bytes = 5000;
	g_assert_cmpint(fill(&f), ==, 0);
	for (unsigned i = 0; i < count(&f, FAKE_SYS_PWRITE); i++) {
		FakeSysRecord record = fake_sys_record(&f.sys, FAKE_SYS_PWRITE, i);

		g_assert_cmpuint(record.offset, ==, offset);
		/* The rest of the folio, not the next one as well. */
		g_assert_cmpuint(record.length, ==, 64 * 1024 - offset % (64 * 1024));
		offset += MIN(record.length, 5000);
	}
	g_assert_cmpuint(offset, ==, 256 * 1024);
	fixture_deinit(&f);
}

static ssize_t write_nothing(const Sys *sys, int fd, const void *data, size_t length, off_t offset)
{
	(void)sys;
	(void)fd;
	(void)data;
	(void)length;
	(void)offset;
	return 0;
}

static void test_write_of_nothing(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M");
	f.sys.no_write_zeroes = true;
	f.sys.base.pwrite = write_nothing;
	g_assert_cmpint(fill(&f), ==, -EIO);
	fixture_deinit(&f);
}

static void test_cancel(void)
{
	Fixture f;

	fixture_init(&f, "a size=1G folio=64K");
	f.sys.no_write_zeroes = true;
	cancel_at(&f, FAKE_SYS_PWRITE, 37);
	g_assert_cmpint(fill(&f), ==, -ECANCELED);
	g_assert_cmpuint(count(&f, FAKE_SYS_PWRITE), ==, 37);
	g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, 0);
	fixture_deinit(&f);
}

#define FLAGS_SYNC (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)

/* Each page is sent to the disk once at most, in pieces of that size; the rest is the fsync's. */
static void check_flushes(Fixture *f, uint64_t flush_bytes, unsigned flags)
{
	unsigned n = count(f, FAKE_SYS_SYNC_FILE_RANGE);

	g_assert_cmpuint(n, ==, f->class->size_bytes / flush_bytes);
	for (unsigned i = 0; i < n; i++) {
		FakeSysRecord record = fake_sys_record(&f->sys, FAKE_SYS_SYNC_FILE_RANGE, i);

		g_assert_cmpuint(record.offset, ==, i * flush_bytes);
		g_assert_cmpuint(record.length, ==, flush_bytes);
		g_assert_cmpuint(record.flags, ==, flags);
	}
	g_assert_cmpuint(count(f, FAKE_SYS_FSYNC), ==, 1);
}

static void test_flush(void)
{
	static const struct {
		const char *class;
		uint64_t flush_bytes;
		unsigned flags;
	} CASES[] = {
		{ "a size=70M", 16 * MIB, FLAGS_SYNC },
		{ "a size=15M", 16 * MIB, FLAGS_SYNC },
		{ "a size=32M flush_least_pages=1 folio=4K", 4096, FLAGS_SYNC },
		{ "a size=30M flush_least_pages=1024", 4 * MIB, FLAGS_SYNC },
		/* Never less than one write. */
		{ "a size=16M flush_least_pages=3 folio=1M", MIB, FLAGS_SYNC },
		{ "a size=70M flush=async", 16 * MIB, SYNC_FILE_RANGE_WRITE },
		{ "a size=8M flush=async flush_least_pages=256 kind=append", MIB, SYNC_FILE_RANGE_WRITE },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		Fixture f;

		g_test_message("%s", CASES[i].class);
		fixture_init(&f, CASES[i].class);
		f.sys.no_write_zeroes = true;
		f.sys.page_bytes = 4096;
		g_assert_cmpint(fill(&f), ==, 0);
		check_writes(&f, f.class->folio_bytes);
		check_flushes(&f, CASES[i].flush_bytes, CASES[i].flags);
		fixture_deinit(&f);
	}
}

/* B11: pages are of 64 KiB on some machines. */
static void test_page_size(void)
{
	Fixture f;

	fixture_init(&f, "a size=70M flush_least_pages=128");
	f.sys.no_write_zeroes = true;
	f.sys.page_bytes = 64 * 1024;
	g_assert_cmpint(fill(&f), ==, 0);
	check_flushes(&f, 8 * MIB, FLAGS_SYNC);
	fixture_deinit(&f);
}

/* B12: what is flushed grows with the size, not with its square; nothing goes through msync of a whole mapping. */
static void test_linear_flush(void)
{
	uint64_t flushed = 0;
	Fixture f;

	fixture_init(&f, "a size=1G folio=1M");
	f.sys.no_write_zeroes = true;
	g_assert_cmpint(fill(&f), ==, 0);
	for (unsigned i = 0; i < count(&f, FAKE_SYS_SYNC_FILE_RANGE); i++)
		flushed += fake_sys_record(&f.sys, FAKE_SYS_SYNC_FILE_RANGE, i).length;
	g_assert_cmpuint(flushed, ==, f.class->size_bytes);
	g_assert_cmpuint(count(&f, FAKE_SYS_MSYNC), ==, 0);
	g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, 1);
	fixture_deinit(&f);
}

/* The kernel tells of a failed write-back once: whoever drops it here loses the segment's data without a word. */
static void test_flush_errors(void)
{
	static const struct {
		int error, result;
	} CASES[] = {
		{ -EIO, -EIO }, { -ENOSPC, -ENOSPC }, { -ENOSYS, 0 }, { -EINVAL, 0 }, { -EOPNOTSUPP, 0 },
		{ -ESPIPE, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		Fixture f;

		fixture_init(&f, "a size=8M flush_least_pages=256");
		f.sys.no_write_zeroes = true;
		fake_sys_fail(&f.sys, FAKE_SYS_SYNC_FILE_RANGE, 2, 1, CASES[i].error);
		g_assert_cmpint(fill(&f), ==, CASES[i].result);
		g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, CASES[i].result == 0);
		fixture_deinit(&f);
	}
}

static void stall(void *arg, FakeSysCall call)
{
	if (call == FAKE_SYS_IO_STALLED_US)
		atomic_fetch_add(&((Fixture *)arg)->sys.stalled_us, 1000000000);
}

/* So that the disk is the others' in the pauses. */
static void test_flush_while_others_wait(void)
{
	static const WarmPaceConfig config = { .yields = true };
	WarmStint stint;
	Fixture f;

	fixture_init(&f, "a size=4M flush=async");
	f.sys.no_write_zeroes = true;
	f.sys.before = stall;
	f.sys.before_arg = &f;
	WarmPace *pace = warm_pace_new(&config, &f.sys.base, &clock_monotonic);
	warm_stint_begin(&stint, pace, &f.cancel);
	g_assert_cmpint(warmer_fill(&f.sys.base, 3, f.class, &stint), ==, 0);
	warm_stint_end(&stint);
	check_flushes(&f, MIB, FLAGS_SYNC);
	warm_pace_free(pace);
	fixture_deinit(&f);
}

static void check_only_reserved(const char *class)
{
	Fixture f;

	g_test_message("%s", class);
	fixture_init(&f, class);
	g_assert_cmpint(fill(&f), ==, 0);
	g_assert_cmpuint(count(&f, FAKE_SYS_FALLOCATE), ==, 1);
	FakeSysRecord record = fake_sys_record(&f.sys, FAKE_SYS_FALLOCATE, 0);
	g_assert_cmpint(record.flags, ==, 0);
	g_assert_cmpuint(record.length, ==, f.class->size_bytes);
	g_assert_cmpuint(count(&f, FAKE_SYS_PWRITE), ==, 0);
	g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, 1);
	fixture_deinit(&f);
}

static void test_cold(void)
{
	Fixture f;

	check_only_reserved("a size=1M warm=off");
	check_only_reserved("a size=1M warm=off kind=append");
	check_only_reserved("a size=1M warm_min_size=1025K");

	fixture_init(&f, "a size=1M warm_min_size=1M");
	f.sys.no_write_zeroes = true;
	g_assert_cmpint(fill(&f), ==, 0);
	check_writes(&f, f.class->folio_bytes);
	fixture_deinit(&f);
}

/* What cannot be reserved is written: there must be room for it. */
static void test_cold_without_fallocate(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M warm=off");
	fake_sys_fail(&f.sys, FAKE_SYS_FALLOCATE, 1, 1, -EOPNOTSUPP);
	g_assert_cmpint(fill(&f), ==, 0);
	check_writes(&f, f.class->folio_bytes);
	fake_sys_fail(&f.sys, FAKE_SYS_FALLOCATE, 1, 1, -ENOSPC);
	g_assert_cmpint(fill(&f), ==, -ENOSPC);
	fixture_deinit(&f);
}

static void test_stream(void)
{
	Fixture f;

	fixture_init(&f, "a kind=stream size=1M");
	g_assert_cmpint(fill(&f), ==, 0);
	FakeSysRecord record = fake_sys_record(&f.sys, FAKE_SYS_FALLOCATE, 0);
	g_assert_cmpint(record.flags, ==, FALLOC_FL_KEEP_SIZE);
	g_assert_cmpuint(record.length, ==, MIB);
	g_assert_cmpuint(count(&f, FAKE_SYS_PWRITE), ==, 0);
	g_assert_cmpuint(count(&f, FAKE_SYS_FSYNC), ==, 1);

	fake_sys_fail(&f.sys, FAKE_SYS_FALLOCATE, 1, 1, -EOPNOTSUPP);
	g_assert_cmpint(fill(&f), ==, 0);
	fake_sys_fail(&f.sys, FAKE_SYS_FALLOCATE, 1, 1, -ENOSPC);
	g_assert_cmpint(fill(&f), ==, -ENOSPC);
	fake_sys_fail(&f.sys, FAKE_SYS_FSYNC, 1, 1, -EIO);
	g_assert_cmpint(fill(&f), ==, -EIO);
	fixture_deinit(&f);
}

static int populate(Fixture *f, uint64_t length)
{
	WarmStint stint;

	warm_stint_begin(&stint, NULL, &f->cancel);
	return warmer_populate(&f->sys.base, (void *)(uintptr_t)4096, length, false, &stint);
}

static void test_populate(void)
{
	Fixture f;
	uint64_t length = 15 * MIB + 4096, at = 4096;

	fixture_init(&f, "a size=1M");
	g_assert_cmpint(populate(&f, length), ==, 0);
	for (unsigned i = 0; i < count(&f, FAKE_SYS_MADVISE); i++) {
		FakeSysRecord record = fake_sys_record(&f.sys, FAKE_SYS_MADVISE, i);

		g_assert_cmpint(record.flags, ==, MADV_POPULATE_READ);
		g_assert_cmpuint(record.offset, ==, at);
		at += record.length;
	}
	g_assert_cmpuint(at, ==, 4096 + length);
	g_assert_cmpuint(count(&f, FAKE_SYS_MADVISE), >, 1);
	fixture_deinit(&f);
}

static void test_populate_errors(void)
{
	static const struct {
		int error, result;
		unsigned n_calls;
	} CASES[] = {
		{ -EINTR, 0, 4 },  { -EINVAL, 0, 2 },	    { -EFAULT, -EIO, 2 },
		{ -EIO, -EIO, 2 }, { -ENOMEM, -ENOMEM, 2 }, { -EHWPOISON, -EHWPOISON, 2 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		Fixture f;

		fixture_init(&f, "a size=1M");
		fake_sys_fail(&f.sys, FAKE_SYS_MADVISE, 2, 1, CASES[i].error);
		g_assert_cmpint(populate(&f, 12 * MIB), ==, CASES[i].result);
		g_assert_cmpuint(count(&f, FAKE_SYS_MADVISE), ==, CASES[i].n_calls);
		fixture_deinit(&f);
	}
}

/* Whoever touches a page that cannot be had gets a signal, which nobody expects. Here the file has none. */
static void test_missing_pages(void)
{
	int fd = memfd_create("missing", MFD_CLOEXEC);
	size_t length = 4 * (size_t)sysconf(_SC_PAGESIZE);
	atomic_bool cancel = false;
	WarmStint stint;
	void *map;

	g_assert_cmpint(fd, >=, 0);
	map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	g_assert_true(map != MAP_FAILED);
	warm_stint_begin(&stint, NULL, &cancel);
	g_assert_cmpint(warmer_populate(&sys_kernel, map, length, false, &stint), ==, -EIO);
	g_assert_cmpint(munmap(map, length), ==, 0);
	close(fd);
}

static void test_populate_cancel(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M");
	cancel_at(&f, FAKE_SYS_MADVISE, 2);
	g_assert_cmpint(populate(&f, 1024 * MIB), ==, -ECANCELED);
	g_assert_cmpuint(count(&f, FAKE_SYS_MADVISE), ==, 2);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/warmer/device-zeroes", test_device_zeroes);
	test_add("/warmer/reserve-then-write", test_reserve_then_write);
	test_add("/warmer/write-only", test_write_only);
	test_add("/warmer/errors", test_errors);
	test_add("/warmer/interrupted-write", test_interrupted_write);
	test_add("/warmer/short-writes", test_short_writes);
	test_add("/warmer/write-of-nothing", test_write_of_nothing);
	test_add("/warmer/cancel", test_cancel);
	test_add("/warmer/flush", test_flush);
	test_add("/warmer/B11-the-page-size-is-asked", test_page_size);
	test_add("/warmer/B12-each-page-is-flushed-once", test_linear_flush);
	test_add("/warmer/flush-errors", test_flush_errors);
	test_add("/warmer/flush-while-others-wait", test_flush_while_others_wait);
	test_add("/warmer/cold", test_cold);
	test_add("/warmer/cold-without-fallocate", test_cold_without_fallocate);
	test_add("/warmer/stream", test_stream);
	test_add("/warmer/populate", test_populate);
	test_add("/warmer/populate-errors", test_populate_errors);
	test_add("/warmer/populate-cancel", test_populate_cancel);
	test_add("/warmer/B2-a-missing-page-is-an-error", test_missing_pages);
	return g_test_run();
}
