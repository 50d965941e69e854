// SPDX-License-Identifier: Apache-2.0
/* A live segment: its length, what of it is durable, and what a failing system call leaves. */
#include "alloc/live-segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc/segment-name.h"
#include "alloc/segment-trailer.h"
#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

#define CAPACITY_BYTES (64 * 1024)

typedef struct Fixture {
	TestLog log;
	char *path;
	int dir_fd;
	FakeSys sys;
	LiveTable *table;
	LivePlace place;
	Segment segment;
	SegmentClass *class;
	LiveSegment *live;
} Fixture;

static void fixture_init_class(Fixture *f, const char *class)
{
	*f = (Fixture){ .path = TEST_DIR_NEW(), .class = test_class_new(class) };
	test_log_init(&f->log);
	fake_sys_init(&f->sys, true);
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->table = live_table_open(f->dir_fd, &f->log.log, NULL);
	g_assert_nonnull(f->table);
	f->place = (LivePlace){ &f->sys.base, f->table, f->dir_fd, &f->log.log };
	f->segment.class = f->class;
	segment_name_ready(f->segment.name, f->class, 1);
	f->segment.fd =
		openat(f->dir_fd, f->segment.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(linkat(f->dir_fd, f->segment.name, f->dir_fd, "visible", 0), ==, 0);
}

static void make_live(Fixture *f)
{
	g_assert_cmpint(live_segment_new(&f->place, &f->segment, &f->live), ==, 0);
	close(f->segment.fd);
	fake_sys_reset(&f->sys);
}

static void fixture_init(Fixture *f)
{
	fixture_init_class(f, "a kind=append size=64K");
	g_assert_cmpint(
		segment_trailer_make(&sys_kernel, f->segment.fd, CAPACITY_BYTES, f->segment.name),
		==, 0);
	make_live(f);
}

/* As published: of kind `stream`, or one that was not prepared. */
static void fixture_init_reserved(Fixture *f, const char *class, bool cold)
{
	fixture_init_class(f, class);
	f->segment.cold = cold;
	g_assert_cmpint(fallocate(f->segment.fd, FALLOC_FL_KEEP_SIZE, 0, CAPACITY_BYTES), ==, 0);
	g_assert_cmpint(pwrite(f->segment.fd, "abc", 3, 0), ==, 3);
	make_live(f);
}

static void fixture_deinit(Fixture *f)
{
	live_segment_free(f->live);
	live_table_close(f->table);
	close(f->dir_fd);
	fake_sys_deinit(&f->sys);
	segment_class_free(f->class);
	test_log_deinit(&f->log);
	test_dir_remove(f->path);
}

static LiveEntry entry_of(Fixture *f)
{
	LiveEntry entry;

	g_assert_cmpint(live_table_find(f->table, f->segment.name, &entry), >=, 0);
	return entry;
}

static uint64_t recorded_length(Fixture *f)
{
	uint64_t length;

	g_assert_cmpint(segment_trailer_read(&sys_kernel, f->live->fd, CAPACITY_BYTES,
					     f->segment.name, &length),
			==, 0);
	return length;
}

static void write_at(Fixture *f, const char *data, size_t size, off_t offset)
{
	g_assert_cmpint(live_segment_write(f->live, data, size, offset, false), ==, size);
}

static void sync_data(Fixture *f)
{
	g_assert_cmpint(live_segment_sync(f->live, f->live->fd, true), ==, 0);
}

static off_t file_size(const Fixture *f)
{
	struct stat attr;

	g_assert_cmpint(fstatat(f->dir_fd, "visible", &attr, 0), ==, 0);
	return attr.st_size;
}

static void expect_length(Fixture *f, uint64_t length)
{
	struct stat attr;

	g_assert_cmpint(live_segment_stat(f->live, &attr), ==, 0);
	g_assert_cmpuint(attr.st_size, ==, length);
	g_assert_cmpuint(attr.st_nlink, ==, 1);
	g_assert_cmpuint(entry_of(f).length, ==, length);
}

static void test_length(void)
{
	Fixture f;

	fixture_init(&f);
	expect_length(&f, 0);
	g_assert_cmpuint(live_segment_readable(f.live, 0, 100), ==, 0);
	write_at(&f, "hello", 5, 0);
	write_at(&f, "J", 1, 0);
	expect_length(&f, 5);
	g_assert_cmpuint(live_segment_readable(f.live, 3, 100), ==, 2);
	g_assert_cmpuint(live_segment_readable(f.live, 5, 100), ==, 0);
	fixture_deinit(&f);
}

/* Then it is a plain file, at once. */
static void test_past_capacity(void)
{
	Fixture f;
	struct stat attr;
	char bytes[3];

	fixture_init(&f);
	write_at(&f, "hello", 5, 0);
	fake_sys_fail(&f.sys, FAKE_SYS_FTRUNCATE, 1, 1, -EIO);
	g_assert_cmpint(live_segment_write(f.live, "far", 3, CAPACITY_BYTES - 1, false), ==, -EIO);
	expect_length(&f, 5);
	write_at(&f, "far", 3, CAPACITY_BYTES - 1);
	g_assert_cmpint(file_size(&f), ==, CAPACITY_BYTES + 2);
	g_assert_cmpint(live_segment_stat(f.live, &attr), ==, 0);
	g_assert_cmpint(attr.st_size, ==, CAPACITY_BYTES + 2);
	g_assert_cmpuint(attr.st_nlink, ==, 1);
	g_assert_cmpint(pread(f.live->fd, bytes, 3, 4), ==, 3);
	g_assert_cmpmem(bytes, 3, "o\0\0", 3);
	write_at(&f, "x", 1, CAPACITY_BYTES + 2);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpint(live_segment_truncate(f.live, CAPACITY_BYTES + 1), ==, 0);
	g_assert_cmpint(live_segment_seal(f.live), ==, 0);
	g_assert_cmpint(file_size(&f), ==, CAPACITY_BYTES + 1);
	g_assert_false(live_segment_is_named(f.live));
	fixture_deinit(&f);
}

/* The record is written where the data would not show the length, and nowhere else. */
static void test_durable(void)
{
	Fixture f;

	fixture_init(&f);
	write_at(&f, "text", 4, 0);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, 1);
	g_assert_cmpuint(recorded_length(&f), ==, 0);
	/* What showed the length goes; one that stays, or what was not synced, is no matter. */
	write_at(&f, "more", 4, 4);
	write_at(&f, "\0", 1, 7);
	write_at(&f, "x", 1, 3);
	g_assert_cmpuint(recorded_length(&f), ==, 0);
	write_at(&f, "a\0", 2, 2);
	g_assert_cmpuint(recorded_length(&f), ==, 4);
	unsigned n_flushes = fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, false), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FSYNC), ==, 1);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, n_flushes);
	g_assert_cmpuint(recorded_length(&f), ==, 8);
	/* Growing by itself: the data may come through a mapping. */
	g_assert_cmpint(live_segment_truncate(f.live, 1000), ==, 0);
	g_assert_cmpuint(recorded_length(&f), ==, 1000);
	fixture_deinit(&f);
}

static bool is_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* That a length was recorded is not to be seen; that something was written since is. */
static void test_times(void)
{
	Fixture f;
	struct stat before, after, sealed;

	fixture_init(&f);
	write_at(&f, "a\0", 2, 0);
	g_assert_cmpint(live_segment_stat(f.live, &before), ==, 0);
	g_usleep(20000);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpuint(recorded_length(&f), ==, 2);
	g_assert_cmpint(live_segment_stat(f.live, &after), ==, 0);
	g_assert_true(is_same_time(before.st_mtim, after.st_mtim));
	g_assert_true(is_same_time(before.st_ctim, after.st_ctim));
	g_usleep(20000);
	write_at(&f, "b\0", 2, 2);
	g_assert_cmpint(live_segment_stat(f.live, &before), ==, 0);
	g_assert_false(is_same_time(before.st_mtim, after.st_mtim));
	g_usleep(20000);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpint(live_segment_seal(f.live), ==, 0);
	g_assert_cmpint(fstatat(f.dir_fd, "visible", &sealed, 0), ==, 0);
	g_assert_true(is_same_time(before.st_mtim, sealed.st_mtim));
	fixture_deinit(&f);
}

/* A clock that has not moved between (the kernel's may be that coarse) makes no difference. */
static void test_times_in_same_tick(void)
{
	Fixture f;
	struct stat before, after;
	struct timespec own[2];

	fixture_init(&f);
	write_at(&f, "a\0", 2, 0);
	g_assert_cmpint(live_segment_stat(f.live, &before), ==, 0);
	g_usleep(20000);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	own[0] = own[1] = f.live->own_mtime;
	write_at(&f, "b", 1, 2);
	g_assert_cmpint(futimens(f.live->fd, own), ==, 0);
	g_assert_cmpint(live_segment_stat(f.live, &after), ==, 0);
	g_assert_false(is_same_time(before.st_mtim, after.st_mtim));
	fixture_deinit(&f);
}

/* Nor is it that a store beyond the end, through a mapping, was taken back before a sync. */
static void test_times_of_clean_tail(void)
{
	Fixture f;
	struct stat before, after;
	char byte;

	fixture_init(&f);
	write_at(&f, "abc", 3, 0);
	g_assert_cmpint(pwrite(f.live->fd, "x", 1, 10), ==, 1);
	g_assert_cmpint(live_segment_stat(f.live, &before), ==, 0);
	g_usleep(20000);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpint(pread(f.live->fd, &byte, 1, 10), ==, 1);
	g_assert_cmpint(byte, ==, 0);
	g_assert_cmpint(live_segment_stat(f.live, &after), ==, 0);
	g_assert_true(is_same_time(before.st_mtim, after.st_mtim));
	g_assert_true(is_same_time(before.st_ctim, after.st_ctim));
	fixture_deinit(&f);
}

/* Through a mapping the end of what was synced may become zero unseen. */
static void test_expect_mapping(void)
{
	Fixture f;

	fixture_init(&f);
	write_at(&f, "text", 4, 0);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpuint(recorded_length(&f), ==, 0);
	unsigned n_flushes = fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC);
	g_assert_cmpint(live_segment_expect_mapping(f.live), ==, 0);
	g_assert_cmpuint(recorded_length(&f), ==, 4);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, n_flushes + 1);
	write_at(&f, "more", 4, 4);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpuint(recorded_length(&f), ==, 8);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, n_flushes + 2);
	fixture_deinit(&f);
}

/* A mapping outlives its descriptor; when it has gone, nothing more can happen unseen. */
static void test_recheck_mappings(void)
{
	Fixture f;
	int fd;
	void *memory;

	fixture_init(&f);
	write_at(&f, "text", 4, 0);
	g_assert_cmpint(live_segment_expect_mapping(f.live), ==, 0);
	fd = openat(f.dir_fd, "visible", O_RDWR | O_CLOEXEC);
	memory = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	g_assert_true(memory != MAP_FAILED);
	close(fd);
	live_segment_recheck_mappings(f.live);
	write_at(&f, "more", 4, 4);
	sync_data(&f);
	g_assert_cmpuint(recorded_length(&f), ==, 8);
	munmap(memory, 4);
	live_segment_recheck_mappings(f.live);
	write_at(&f, "last", 4, 8);
	sync_data(&f);
	g_assert_cmpuint(recorded_length(&f), ==, 8);
	fixture_deinit(&f);
}

/* Without the proof it stays as it is. */
static void test_recheck_mappings_without_lease(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(live_segment_expect_mapping(f.live), ==, 0);
	fake_sys_fail(&f.sys, FAKE_SYS_SET_LEASE, 1, 1, -EINVAL);
	live_segment_recheck_mappings(f.live);
	write_at(&f, "text", 4, 0);
	sync_data(&f);
	g_assert_cmpuint(recorded_length(&f), ==, 4);
	fixture_deinit(&f);
}

/* What the flush was to make durable is written again. */
static void test_failed_sync(void)
{
	Fixture f;

	fixture_init(&f);
	write_at(&f, "a\0", 2, 0);
	fake_sys_fail(&f.sys, FAKE_SYS_FDATASYNC, 1, 1, -EIO);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, -EIO);
	unsigned n_writes = fake_sys_count(&f.sys, FAKE_SYS_PWRITE);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_PWRITE), ==, n_writes + 1);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_PWRITE), ==, n_writes + 1);
	g_assert_cmpuint(recorded_length(&f), ==, 2);
	fixture_deinit(&f);
}

static unsigned n_pushed(Fixture *f)
{
	return fake_sys_count(&f->sys, FAKE_SYS_SYNC_FILE_RANGE);
}

static void write_and_sync(Fixture *f, unsigned n_writes)
{
	for (unsigned i = 0; i < n_writes; i++)
		write_at(f, "text", 4, f->live->length);
	g_assert_cmpint(live_segment_sync(f->live, f->live->fd, true), ==, 0);
}

/* What is synced after every second write goes to the disk with each second one, until that
 * changes. */
static void test_written_ahead(void)
{
	Fixture f;

	fixture_init(&f);
	for (unsigned i = 0; i <= SYNC_FORECAST_ALIKE; i++)
		write_and_sync(&f, 2);
	g_assert_cmpuint(n_pushed(&f), ==, 0);
	uint64_t end = f.live->length;
	write_at(&f, "text", 4, end);
	g_assert_cmpuint(n_pushed(&f), ==, 0);
	write_at(&f, "more", 4, end + 4);
	g_assert_cmpuint(n_pushed(&f), ==, 1);
	FakeSysRecord pushed = fake_sys_record(&f.sys, FAKE_SYS_SYNC_FILE_RANGE, 0);
	g_assert_cmpuint(pushed.offset, ==, end + 4);
	g_assert_cmpuint(pushed.length, ==, 4);
	g_assert_cmpint(pushed.flags, ==, SYNC_FILE_RANGE_WRITE);
	/* One more than usual: the guess was wrong, and is not repeated. */
	write_and_sync(&f, 1);
	for (unsigned i = 0; i <= SYNC_FORECAST_ALIKE; i++)
		write_and_sync(&f, 2);
	g_assert_cmpuint(n_pushed(&f), ==, 1);
	write_and_sync(&f, 2);
	g_assert_cmpuint(n_pushed(&f), ==, 2);
	fixture_deinit(&f);
}

/* How often a length was recorded. */
static unsigned n_records(Fixture *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < fake_sys_count(&f->sys, FAKE_SYS_PWRITE); i++)
		if (fake_sys_record(&f->sys, FAKE_SYS_PWRITE, i).offset >= CAPACITY_BYTES)
			n++;
	return n;
}

static uint64_t last_record_offset(Fixture *f)
{
	unsigned n = fake_sys_count(&f->sys, FAKE_SYS_PWRITE);

	return fake_sys_record(&f->sys, FAKE_SYS_PWRITE, n - 1).offset;
}

/* What a power cut would leave while that byte is not on the disk. */
static uint64_t recorded_without(Fixture *f, off_t offset)
{
	char was, lost = '?';
	uint64_t length;

	g_assert_cmpint(pread(f->live->fd, &was, 1, offset), ==, 1);
	g_assert_cmpint(pwrite(f->live->fd, &lost, 1, offset), ==, 1);
	length = recorded_length(f);
	g_assert_cmpint(pwrite(f->live->fd, &was, 1, offset), ==, 1);
	return length;
}

/* The record goes with the data that is about to be synced, and holds only with it. */
static void test_recorded_ahead(void)
{
	Fixture f;

	fixture_init(&f);
	write_at(&f, "one\0", 4, 0);
	g_assert_cmpuint(n_records(&f), ==, 0);
	sync_data(&f);
	g_assert_cmpuint(n_records(&f), ==, 1);
	unsigned n_fstats = fake_sys_count(&f.sys, FAKE_SYS_FSTAT);
	for (uint64_t n = 2; n < 20; n++) {
		write_at(&f, "more\0\0\0\0", 8, f.live->length);
		g_assert_cmpuint(n_records(&f), ==, n);
		g_assert_cmpuint(recorded_length(&f), ==, f.live->length);
		g_assert_cmpuint(recorded_without(&f, f.live->length - 8), ==, f.live->length - 8);
		g_assert_cmpuint(recorded_without(&f, f.live->length - 1), ==, f.live->length - 8);
		sync_data(&f);
		g_assert_cmpuint(n_records(&f), ==, n);
	}
	/* Which would make every later write move the times. */
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FSTAT), ==, n_fstats);
	/* Not what is not likely to be synced, or shows its length by itself. */
	write_at(&f, "text", 4, f.live->length);
	write_at(&f, "more\0", 5, f.live->length);
	g_assert_cmpuint(n_records(&f), ==, 19);
	fixture_deinit(&f);
}

static void test_recorded_ahead_of_several_writes(void)
{
	Fixture f;
	uint64_t start;

	fixture_init(&f);
	for (unsigned i = 0; i <= SYNC_FORECAST_ALIKE; i++)
		write_and_sync(&f, 2);
	start = f.live->length;
	write_at(&f, "head", 4, start);
	write_at(&f, "tail\0", 5, start + 4);
	g_assert_cmpuint(recorded_length(&f), ==, start + 9);
	g_assert_cmpuint(recorded_without(&f, start), ==, 0);
	/* One push for both. */
	g_assert_cmpuint(n_pushed(&f), ==, 1);
	FakeSysRecord pushed = fake_sys_record(&f.sys, FAKE_SYS_SYNC_FILE_RANGE, 0);
	g_assert_cmpuint(pushed.offset + pushed.length, ==, segment_trailer_end(CAPACITY_BYTES));
	fixture_deinit(&f);
}

/* A write with O_DSYNC is synced for sure, and at once: no use in pushing it. */
static void test_synced_next(void)
{
	Fixture f;

	fixture_init(&f);
	for (unsigned i = 0; i < 10; i++) {
		g_assert_cmpint(live_segment_write(f.live, "text\0", 5, f.live->length, true), ==,
				5);
		g_assert_cmpuint(recorded_length(&f), ==, f.live->length);
		sync_data(&f);
	}
	g_assert_cmpuint(n_records(&f), ==, 10);
	g_assert_cmpuint(n_pushed(&f), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FSTAT), ==, 0);
	fixture_deinit(&f);
}

/* The promise then no longer rests on what is there. */
static void test_summed_data_is_overwritten(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(live_segment_write(f.live, "text\0", 5, 0, true), ==, 5);
	/* Nothing was promised yet. */
	unsigned n_flushes = fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC);
	write_at(&f, "T", 1, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, n_flushes);
	sync_data(&f);
	g_assert_cmpuint(recorded_length(&f), ==, 5);
	g_assert_cmpint(live_segment_write(f.live, "more\0", 5, 5, true), ==, 5);
	sync_data(&f);
	n_flushes = fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC);
	write_at(&f, "x", 1, 2);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, n_flushes);
	fake_sys_fail(&f.sys, FAKE_SYS_FDATASYNC, 1, 1, -EIO);
	g_assert_cmpint(live_segment_write(f.live, "x", 1, 7, false), ==, -EIO);
	write_at(&f, "x", 1, 7);
	g_assert_cmpuint(recorded_without(&f, 6), ==, 10);
	n_flushes = fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC);
	write_at(&f, "y", 1, 7);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, n_flushes);
	fixture_deinit(&f);
}

/* Stores would change it unseen. */
static void test_summed_data_may_be_mapped(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(live_segment_write(f.live, "text\0", 5, 0, true), ==, 5);
	sync_data(&f);
	fake_sys_fail(&f.sys, FAKE_SYS_FDATASYNC, 1, 1, -EIO);
	g_assert_cmpint(live_segment_expect_mapping(f.live), ==, -EIO);
	unsigned n_failed = n_records(&f);
	sync_data(&f);
	g_assert_cmpuint(n_records(&f), ==, n_failed + 1);
	g_assert_cmpuint(recorded_without(&f, 1), ==, 5);
	g_assert_cmpint(live_segment_write(f.live, "more\0", 5, 5, true), ==, 5);
	g_assert_cmpuint(recorded_length(&f), ==, 5);
	sync_data(&f);
	g_assert_cmpuint(recorded_without(&f, 6), ==, 10);
	fixture_deinit(&f);
}

/* The cut is on the disk some time later, and what is written to the plain file may be before. */
static void test_promise_before_seal(void)
{
	Fixture f;

	fixture_init(&f);
	write_at(&f, "text", 4, 0);
	sync_data(&f);
	g_assert_cmpuint(n_records(&f), ==, 0);
	g_assert_cmpint(live_segment_truncate(f.live, 2), ==, 0);
	g_assert_cmpuint(n_records(&f), ==, 1);
	FakeSysRecord cut = fake_sys_record(&f.sys, FAKE_SYS_FTRUNCATE, 0);
	g_assert_cmpuint(cut.length, ==, 2);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, 2);
	fixture_deinit(&f);
}

/* Whatever fails, the record that is on the disk stays there. */
static void test_durable_record_stays(void)
{
	Fixture f;
	uint64_t durable_at;

	fixture_init(&f);
	write_at(&f, "a\0", 2, 0);
	sync_data(&f);
	durable_at = last_record_offset(&f);
	fake_sys_fail(&f.sys, FAKE_SYS_FDATASYNC, 1, 30, -EIO);
	for (unsigned i = 0; i < 30; i++) {
		write_at(&f, "b", 1, f.live->length);
		write_at(&f, "\0", 1, f.live->length);
		g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, -EIO);
		g_assert_cmpuint(last_record_offset(&f), !=, durable_at);
	}
	sync_data(&f);
	g_assert_cmpuint(recorded_length(&f), ==, 62);
	fixture_deinit(&f);
}

/* Once, while a flush is under way. */
static void zero_the_end(void *arg, FakeSysCall call)
{
	Fixture *f = arg;

	if (call != FAKE_SYS_FDATASYNC || !f)
		return;
	f->sys.before_arg = NULL;
	write_at(f, "\0", 1, f->live->length - 1);
}

/* The sync counts on a byte that shows the length, or on a record's sum. */
static void test_end_vanishes_while_syncing(void)
{
	static const char *ends[] = { "x", "\0" };

	for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
		Fixture f;

		fixture_init(&f);
		write_at(&f, "text", 4, 0);
		sync_data(&f);
		write_at(&f, "more", 4, 4);
		g_assert_cmpint(live_segment_write(f.live, ends[i], 1, 8, true), ==, 1);
		f.sys.before = zero_the_end;
		f.sys.before_arg = &f;
		sync_data(&f);
		g_assert_null(f.sys.before_arg);
		g_assert_cmpuint(recorded_without(&f, 4), ==, 9);
		/* Flushed by the one who made it zero. */
		g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, 3);
		fixture_deinit(&f);
	}
}

static void test_failed_write(void)
{
	Fixture f;

	fixture_init(&f);
	write_at(&f, "abc", 3, 0);
	fake_sys_fail(&f.sys, FAKE_SYS_PWRITE, 1, 1, -ENOSPC);
	g_assert_cmpint(live_segment_write(f.live, "def", 3, 3, false), ==, -ENOSPC);
	expect_length(&f, 3);
	f.sys.short_write_bytes = 2;
	g_assert_cmpint(live_segment_write(f.live, "def", 3, 3, false), ==, 2);
	expect_length(&f, 5);
	fixture_deinit(&f);
}

/* What a mapping left behind the end is gone when the file grows over it, and when it is synced. */
static void test_tail(void)
{
	Fixture f;
	char bytes[4] = "";
	int fd;

	fixture_init(&f);
	fd = openat(f.dir_fd, "visible", O_RDWR | O_CLOEXEC);
	write_at(&f, "abc", 3, 0);
	g_assert_cmpint(pwrite(fd, "tail", 4, 10), ==, 4);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpint(pread(fd, bytes, 4, 10), ==, 4);
	g_assert_cmpmem(bytes, 4, "\0\0\0\0", 4);
	g_assert_cmpint(pwrite(fd, "tail", 4, 10), ==, 4);
	write_at(&f, "z", 1, 100);
	g_assert_cmpint(pread(fd, bytes, 4, 10), ==, 4);
	g_assert_cmpmem(bytes, 4, "\0\0\0\0", 4);
	close(fd);
	fixture_deinit(&f);
}

static void test_seal(void)
{
	Fixture f;
	struct stat before, after;
	LiveEntry entry;

	fixture_init(&f);
	write_at(&f, "abc", 3, 0);
	g_assert_cmpint(live_segment_stat(f.live, &before), ==, 0);
	g_assert_cmpint(file_size(&f), ==, segment_trailer_end(CAPACITY_BYTES));
	g_assert_cmpint(live_segment_seal(f.live), ==, 0);
	g_assert_cmpint(file_size(&f), ==, 3);
	g_assert_cmpint(faccessat(f.dir_fd, f.segment.name, F_OK, 0), ==, -1);
	g_assert_cmpint(live_table_find(f.table, f.segment.name, &entry), ==, -ENOENT);
	g_assert_cmpint(live_segment_stat(f.live, &after), ==, 0);
	g_assert_cmpuint(after.st_nlink, ==, 1);
	g_assert_cmpint(after.st_mtim.tv_nsec, ==, before.st_mtim.tv_nsec);
	/* Whoever still has it open writes to the plain file. */
	write_at(&f, "def", 3, 3);
	g_assert_cmpint(file_size(&f), ==, 6);
	g_assert_cmpint(live_segment_seal(f.live), ==, 0);
	g_assert_cmpint(file_size(&f), ==, 6);
	fixture_deinit(&f);
}

/* Whatever fails, the segment stays live or is sealed later; nothing is lost between. */
static void test_failed_seal(void)
{
	static const FakeSysCall calls[] = { FAKE_SYS_FSTAT, FAKE_SYS_FTRUNCATE, FAKE_SYS_FSYNC,
					     FAKE_SYS_UNLINKAT };

	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
		Fixture f;

		fixture_init(&f);
		write_at(&f, "abc", 3, 0);
		fake_sys_fail(&f.sys, calls[i], 1, 1, -EIO);
		g_assert_cmpint(live_segment_seal(f.live), ==, -EIO);
		expect_length(&f, 3);
		g_assert_true(live_segment_is_named(f.live));
		g_assert_cmpint(live_segment_seal(f.live), ==, 0);
		g_assert_false(live_segment_is_named(f.live));
		g_assert_cmpint(file_size(&f), ==, 3);
		fixture_deinit(&f);
	}
}

static off_t allocated(const Fixture *f)
{
	struct stat attr;

	g_assert_cmpint(fstatat(f->dir_fd, "visible", &attr, 0), ==, 0);
	g_assert_cmpint(attr.st_size, ==, 3);
	return (off_t)attr.st_blocks * 512;
}

static const struct {
	const char *class;
	bool cold;
} reserved_only[] = { { "a kind=stream size=64K", false }, { "a kind=append size=64K", true } };

/* Its length is the file's, and the table knows nothing of it. */
static void test_reserved(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(reserved_only); i++) {
		Fixture f;
		LiveEntry entry;
		struct stat attr;

		fixture_init_reserved(&f, reserved_only[i].class, reserved_only[i].cold);
		g_assert_true(f.live->reserved_only);
		g_assert_false(live_segment_lacks_record(f.live));
		g_assert_cmpint(live_table_find(f.table, f.segment.name, &entry), ==, -ENOENT);
		g_assert_cmpint(live_segment_stat(f.live, &attr), ==, 0);
		g_assert_cmpint(attr.st_size, ==, 3);
		g_assert_cmpuint(attr.st_nlink, ==, 1);
		g_assert_cmpint(live_segment_seal(f.live), ==, 0);
		g_assert_cmpint(allocated(&f), <, CAPACITY_BYTES);
		g_assert_false(live_segment_is_named(f.live));
		g_assert_cmpint(faccessat(f.dir_fd, f.segment.name, F_OK, 0), ==, -1);
		fixture_deinit(&f);
	}
}

/* It stays live while somebody has it open, and whatever fails. */
static void test_reserved_not_sealed(void)
{
	static const FakeSysCall calls[] = { FAKE_SYS_FSTAT, FAKE_SYS_FTRUNCATE,
					     FAKE_SYS_UNLINKAT };
	Fixture f;
	int fd;

	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
		fixture_init_reserved(&f, reserved_only[0].class, false);
		fd = openat(f.dir_fd, "visible", O_RDONLY | O_CLOEXEC);
		g_assert_cmpint(live_segment_seal(f.live), ==, -EBUSY);
		g_assert_true(live_segment_is_named(f.live));
		close(fd);
		fake_sys_reset(&f.sys);
		fake_sys_fail(&f.sys, calls[i], 1, 1, -EIO);
		g_assert_cmpint(live_segment_seal(f.live), ==, -EIO);
		g_assert_true(live_segment_is_named(f.live));
		g_assert_cmpint(live_segment_seal(f.live), ==, 0);
		g_assert_cmpint(allocated(&f), <, CAPACITY_BYTES);
		fixture_deinit(&f);
	}
}

/* Finished without being sealed, as one whose owner reserved blocks himself: they stay for good. */
static void test_reserved_finished(void)
{
	Fixture f;

	fixture_init_reserved(&f, reserved_only[0].class, false);
	g_assert_cmpint(live_segment_finish(f.live), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FSYNC), ==, 0);
	g_assert_cmpint(live_segment_seal(f.live), ==, 0);
	g_assert_cmpint(allocated(&f), >=, CAPACITY_BYTES);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/live-segment/length", test_length);
	test_add("/live-segment/past-capacity", test_past_capacity);
	test_add("/live-segment/durable", test_durable);
	test_add("/live-segment/expect-mapping", test_expect_mapping);
	test_add("/live-segment/recheck-mappings", test_recheck_mappings);
	test_add("/live-segment/recheck-mappings-without-lease", test_recheck_mappings_without_lease);
	test_add("/live-segment/times", test_times);
	test_add("/live-segment/times-in-same-tick", test_times_in_same_tick);
	test_add("/live-segment/times-of-clean-tail", test_times_of_clean_tail);
	test_add("/live-segment/failed-sync", test_failed_sync);
	test_add("/live-segment/written-ahead", test_written_ahead);
	test_add("/live-segment/recorded-ahead", test_recorded_ahead);
	test_add("/live-segment/recorded-ahead-of-several-writes",
		 test_recorded_ahead_of_several_writes);
	test_add("/live-segment/synced-next", test_synced_next);
	test_add("/live-segment/summed-data-is-overwritten", test_summed_data_is_overwritten);
	test_add("/live-segment/summed-data-may-be-mapped", test_summed_data_may_be_mapped);
	test_add("/live-segment/promise-before-seal", test_promise_before_seal);
	test_add("/live-segment/durable-record-stays", test_durable_record_stays);
	test_add("/live-segment/end-vanishes-while-syncing", test_end_vanishes_while_syncing);
	test_add("/live-segment/failed-write", test_failed_write);
	test_add("/live-segment/tail", test_tail);
	test_add("/live-segment/seal", test_seal);
	test_add("/live-segment/failed-seal", test_failed_seal);
	test_add("/live-segment/reserved", test_reserved);
	test_add("/live-segment/reserved-not-sealed", test_reserved_not_sealed);
	test_add("/live-segment/reserved-finished", test_reserved_finished);
	return g_test_run();
}
