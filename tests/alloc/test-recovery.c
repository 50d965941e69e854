// SPDX-License-Identifier: Apache-2.0
/* What is sealed of that which a daemon left live, and what of the pool is not touched. */
#include "alloc/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/data-sum.h"
#include "alloc/segment-name.h"
#include "alloc/segment-trailer.h"
#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

#define RESERVED_BYTES (64 * 1024)

typedef struct Fixture {
	TestLog log;
	char *path;
	int source_fd;
	FakeSys sys;
	PoolDir *dir;
	SegmentClass *stream;
	RecoveryResult result;
} Fixture;

static void fixture_init(Fixture *f)
{
	g_autoptr(GError) error = NULL;

	*f = (Fixture){ .path = TEST_DIR_NEW(),
			.stream = test_class_new("a kind=stream size=64K") };
	test_log_init(&f->log);
	fake_sys_init(&f->sys, true);
	f->source_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->dir = pool_dir_open(f->source_fd, f->path, &f->log.log, &error);
	g_assert_no_error(error);
}

static void fixture_deinit(Fixture *f)
{
	pool_dir_close(f->dir);
	close(f->source_fd);
	fake_sys_deinit(&f->sys);
	segment_class_free(f->stream);
	test_log_deinit(&f->log);
	test_dir_remove(f->path);
}

/* A file with a reservation and 4 bytes. */
static void make(Fixture *f, const char *name)
{
	int fd = openat(f->dir->segments_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	g_assert_cmpint(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, RESERVED_BYTES), ==, 0);
	g_assert_cmpint(write(fd, "data", 4), ==, 4);
	close(fd);
}

static void publish(Fixture *f, const char *name, const char *visible)
{
	make(f, name);
	g_assert_cmpint(linkat(f->dir->segments_fd, name, f->source_fd, visible, 0), ==, 0);
}

static void recover(Fixture *f, bool dry_run, unsigned n_sealed, unsigned n_busy, unsigned n_failed)
{
	g_assert_cmpint(recovery_run(&f->sys.base, f->dir, NULL, &f->log.log, dry_run, NULL, NULL,
				     &f->result),
			==, 0);
	g_assert_cmpuint(f->result.n_sealed, ==, n_sealed);
	g_assert_cmpuint(f->result.n_busy, ==, n_busy);
	g_assert_cmpuint(f->result.n_failed, ==, n_failed);
}

static struct stat stat_of(int dir_fd, const char *name)
{
	struct stat attr;

	g_assert_cmpint(fstatat(dir_fd, name, &attr, AT_SYMLINK_NOFOLLOW), ==, 0);
	return attr;
}

static bool is_sealed(Fixture *f, const char *visible)
{
	struct stat attr = stat_of(f->source_fd, visible);

	g_assert_cmpint(attr.st_size, ==, 4);
	g_assert_cmpint((attr.st_blocks * 512 < RESERVED_BYTES), ==, (attr.st_nlink == 1));
	return attr.st_nlink == 1;
}

/* Of kind `stream`, and one of any kind that was not prepared in time. */
static void test_reserved(void)
{
	char ready[SEGMENT_NAME_SIZE], warming[SEGMENT_NAME_SIZE];
	Fixture f;

	fixture_init(&f);
	segment_name_ready(ready, f.stream, 1);
	segment_name_warming(warming, 2);
	publish(&f, ready, "stream");
	publish(&f, warming, "cold");
	recover(&f, true, 2, 0, 0);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_NOTICE, "would be sealed to 4 bytes"), ==,
			 2);
	g_assert_false(is_sealed(&f, "stream"));
	g_assert_false(is_sealed(&f, "cold"));
	recover(&f, false, 2, 0, 0);
	g_assert_true(is_sealed(&f, "stream"));
	g_assert_true(is_sealed(&f, "cold"));
	g_assert_cmpuint(test_count_names(f.dir->segments_fd), ==, 0);
	recover(&f, false, 0, 0, 0);
	fixture_deinit(&f);
}

static void test_reserved_open(void)
{
	char name[SEGMENT_NAME_SIZE];
	Fixture f;
	int fd;

	fixture_init(&f);
	segment_name_ready(name, f.stream, 1);
	publish(&f, name, "stream");
	fd = openat(f.source_fd, "stream", O_RDONLY | O_CLOEXEC);
	recover(&f, false, 0, 1, 0);
	g_assert_false(is_sealed(&f, "stream"));
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_NOTICE, "still open"), ==, 1);
	close(fd);
	recover(&f, false, 1, 0, 0);
	g_assert_true(is_sealed(&f, "stream"));
	fixture_deinit(&f);
}

static void test_reserved_fails(void)
{
	static const FakeSysCall calls[] = { FAKE_SYS_OPENAT, FAKE_SYS_FSTAT, FAKE_SYS_FTRUNCATE,
					     FAKE_SYS_UNLINKAT };

	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
		char name[SEGMENT_NAME_SIZE];
		Fixture f;

		fixture_init(&f);
		segment_name_ready(name, f.stream, 1);
		publish(&f, name, "stream");
		fake_sys_fail(&f.sys, calls[i], 1, 1, -EIO);
		recover(&f, false, 0, 0, 1);
		g_assert_cmpuint(stat_of(f.source_fd, "stream").st_nlink, ==, 2);
		recover(&f, false, 1, 0, 0);
		g_assert_true(is_sealed(&f, "stream"));
		fixture_deinit(&f);
	}
}

/* Nobody has had them, or they are none of ours. */
static void test_not_live(void)
{
	char ready[SEGMENT_NAME_SIZE], warming[SEGMENT_NAME_SIZE], directory[SEGMENT_NAME_SIZE];
	Fixture f;

	fixture_init(&f);
	segment_name_ready(ready, f.stream, 1);
	segment_name_warming(warming, 2);
	segment_name_warming(directory, 3);
	make(&f, ready);
	make(&f, warming);
	publish(&f, "foreign", "file");
	g_assert_cmpint(mkdirat(f.dir->segments_fd, directory, 0700), ==, 0);
	recover(&f, false, 0, 0, 0);
	g_assert_cmpuint(test_count_names(f.dir->segments_fd), ==, 4);
	g_assert_cmpuint(stat_of(f.dir->segments_fd, ready).st_blocks * 512, >=, RESERVED_BYTES);
	g_assert_cmpuint(stat_of(f.source_fd, "file").st_blocks * 512, >=, RESERVED_BYTES);
	fixture_deinit(&f);
}

#define CAPACITY_BYTES (64 * 1024)

/* A live segment of kind `append` whose power was cut: what it holds, and what its trailer says. */
typedef struct AppendCase {
	const char *data;
	size_t size;
	/* Without an end: none. */
	LengthRecord records[3];
	/* What of the data did not get to the disk: that byte. */
	off_t lost;
	off_t length;
} AppendCase;

static const AppendCase append_cases[] = {
	{ "text", 4, {}, -1, 4 },
	{ "text\0\0", 6, {}, -1, 4 },
	{ "text\0\0", 6, { { 1, 6, 6, 0 } }, -1, 6 },
	{ "text\0\0", 6, { { 1, 6, 0, 0 } }, -1, 6 },
	/* A record that got there before its data: what was promised before counts. */
	{ "text\0more\0\0", 11, { { 1, 5, 0, 0 }, { 2, 11, 5, 0 } }, -1, 11 },
	{ "text\0more\0\0", 11, { { 1, 5, 0, 0 }, { 2, 11, 5, 0 } }, 5, 9 },
	{ "text\0m\0\0\0", 9, { { 1, 5, 0, 0 }, { 2, 9, 5, 0 } }, 5, 5 },
	{ "text\0m\0\0\0", 9, { { 1, 5, 0, 0 }, { 2, 9, 5, 0 } }, 0, 9 },
	/* Never shorter than what is there, nor longer than it can be. */
	{ "text\0more", 9, { { 1, 5, 5, 0 }, { 2, 1, 1, 0 } }, -1, 9 },
	{ "text", 4, { { 1, G_MAXUINT64, 2, 0 } }, -1, 4 },
	{ "text", 4, { { 1, CAPACITY_BYTES + 1, CAPACITY_BYTES, 0 } }, -1, 4 },
	{ "text", 4, { { 1, CAPACITY_BYTES, 1, 0 } }, 1, 4 },
	{ "text", 4, { { 1, CAPACITY_BYTES, 1, 0 } }, -1, CAPACITY_BYTES },
};

static void make_append(const char *name, int fd, const AppendCase *it)
{
	g_assert_cmpint(segment_trailer_make(&sys_kernel, fd, CAPACITY_BYTES, name), ==, 0);
	g_assert_cmpint(pwrite(fd, it->data, it->size, 0), ==, it->size);
	for (size_t i = 0; i < G_N_ELEMENTS(it->records) && it->records[i].length > 0; i++) {
		LengthRecord record = it->records[i];

		if (record.length <= CAPACITY_BYTES)
			g_assert_cmpint(data_sum_of_file(&sys_kernel, fd, record.sum_start,
							 record.length, &record.sum),
					==, 0);
		g_assert_cmpint(
			segment_trailer_record(&sys_kernel, fd, CAPACITY_BYTES, name, &record), ==,
			0);
	}
	if (it->lost >= 0)
		g_assert_cmpint(pwrite(fd, "", 1, it->lost), ==, 1);
}

static void test_append(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(append_cases); i++) {
		SegmentClass *append = test_class_new("a kind=append size=64K");
		char name[SEGMENT_NAME_SIZE];
		Fixture f;
		int fd;

		fixture_init(&f);
		segment_name_ready(name, append, 1);
		publish(&f, name, "file");
		fd = openat(f.source_fd, "file", O_RDWR | O_CLOEXEC);
		make_append(name, fd, &append_cases[i]);
		recover(&f, true, 1, 0, 0);
		fake_sys_fail(&f.sys, FAKE_SYS_PREAD, 1, 1, -EIO);
		recover(&f, false, 0, 0, 1);
		recover(&f, false, 1, 0, 0);
		g_test_message("case %zu", i);
		g_assert_cmpint(stat_of(f.source_fd, "file").st_size, ==, append_cases[i].length);
		g_assert_cmpuint(stat_of(f.source_fd, "file").st_nlink, ==, 1);
		close(fd);
		fixture_deinit(&f);
		segment_class_free(append);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/recovery/reserved", test_reserved);
	test_add("/recovery/reserved-open", test_reserved_open);
	test_add("/recovery/reserved-fails", test_reserved_fails);
	test_add("/recovery/append", test_append);
	test_add("/recovery/not-live", test_not_live);
	return g_test_run();
}
