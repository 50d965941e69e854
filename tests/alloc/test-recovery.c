// SPDX-License-Identifier: Apache-2.0
/* What is sealed of that which a daemon left live, and what of the pool is not touched. */
#include "alloc/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/segment-name.h"
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

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/recovery/reserved", test_reserved);
	test_add("/recovery/reserved-open", test_reserved_open);
	test_add("/recovery/reserved-fails", test_reserved_fails);
	test_add("/recovery/not-live", test_not_live);
	return g_test_run();
}
