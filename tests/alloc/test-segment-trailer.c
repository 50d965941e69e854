// SPDX-License-Identifier: Apache-2.0
/* A segment's trailer: what it tells, and that nothing torn or foreign is believed. */
#include "alloc/segment-trailer.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/lib/test-util.h"

#define CAPACITY_BYTES 100000
#define NAME	       "ready-append-100000-65536-0123456789abcdef"

typedef struct Fixture {
	char *path;
	int fd;
} Fixture;

static void fixture_init(Fixture *f)
{
	*f = (Fixture){ .path = TEST_DIR_NEW() };
	g_autofree char *name = g_build_filename(f->path, "file", NULL);

	f->fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(f->fd, >=, 0);
	g_assert_cmpint(segment_trailer_make(&sys_kernel, f->fd, CAPACITY_BYTES, NAME), ==, 0);
}

static void fixture_deinit(Fixture *f)
{
	close(f->fd);
	test_dir_remove(f->path);
}

static void record(Fixture *f, uint64_t sequence, uint64_t length)
{
	g_assert_cmpint(
		segment_trailer_record(&sys_kernel, f->fd, CAPACITY_BYTES, NAME, sequence, length),
		==, 0);
}

static void expect(Fixture *f, int r, uint64_t length)
{
	uint64_t found = 0;

	g_assert_cmpint(segment_trailer_read(&sys_kernel, f->fd, CAPACITY_BYTES, NAME, &found), ==,
			r);
	g_assert_cmpuint(found, ==, length);
}

static void overwrite(Fixture *f, size_t offset, const char *data, size_t size)
{
	g_assert_cmpint(pwrite(f->fd, data, size, segment_trailer_offset(CAPACITY_BYTES) + offset),
			==, size);
}

static void test_newest(void)
{
	Fixture f;
	struct stat attr;

	fixture_init(&f);
	g_assert_cmpint(fstat(f.fd, &attr), ==, 0);
	g_assert_cmpuint(attr.st_size, ==, segment_trailer_end(CAPACITY_BYTES));
	g_assert_cmpuint(segment_trailer_offset(CAPACITY_BYTES) % 65536, ==, 0);
	g_assert_cmpuint(segment_trailer_offset(65536), ==, 65536);
	expect(&f, 0, 0);
	for (uint64_t n = 1; n < 20; n++) {
		record(&f, n, n * 1000);
		expect(&f, 0, n * 1000);
	}
	/* Never more than there can be. */
	record(&f, 20, CAPACITY_BYTES + 1);
	expect(&f, 0, CAPACITY_BYTES);
	fixture_deinit(&f);
}

static void test_torn(void)
{
	Fixture f;

	fixture_init(&f);
	record(&f, 1, 1000);
	record(&f, 2, 2000);
	/* Number two has the first of the two places. */
	overwrite(&f, 512 + 8, "\1", 1);
	expect(&f, 0, 1000);
	overwrite(&f, 1024, "\7", 1);
	expect(&f, 0, 0);
	fixture_deinit(&f);
}

static void test_foreign(void)
{
	Fixture f;
	uint64_t length = 0;

	fixture_init(&f);
	record(&f, 1, 1000);
	g_assert_cmpint(segment_trailer_read(&sys_kernel, f.fd, CAPACITY_BYTES,
					     "ready-append-100000-65536-0123456789abcdee", &length),
			==, -ENOENT);
	/* Another file size: it is the application's data. */
	g_assert_cmpint(ftruncate(f.fd, segment_trailer_end(CAPACITY_BYTES) + 1), ==, 0);
	expect(&f, -ENOENT, 0);
	g_assert_cmpint(ftruncate(f.fd, segment_trailer_end(CAPACITY_BYTES)), ==, 0);
	expect(&f, 0, 1000);
	overwrite(&f, 20, "x", 1);
	expect(&f, -ENOENT, 0);
	g_assert_cmpint(ftruncate(f.fd, 10), ==, 0);
	expect(&f, -ENOENT, 0);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/segment-trailer/newest", test_newest);
	test_add("/segment-trailer/torn", test_torn);
	test_add("/segment-trailer/foreign", test_foreign);
	return g_test_run();
}
