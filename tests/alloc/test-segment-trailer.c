// SPDX-License-Identifier: Apache-2.0
/* A segment's trailer: what it tells, and that nothing torn or foreign is believed. */
#include "alloc/segment-trailer.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/data-sum.h"
#include "alloc/mix.h"
#include "alloc/segment.h"
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

static void record_length(Fixture *f, uint64_t sequence, uint64_t length)
{
	LengthRecord record = { .sequence = sequence, .length = length, .sum_start = length };

	g_assert_cmpint(segment_trailer_record(&sys_kernel, f->fd, CAPACITY_BYTES, NAME, &record),
			==, 0);
}

/* With the sum of what is in the file from `start` on. */
static void record_with_sum(Fixture *f, uint64_t sequence, uint64_t start, uint64_t length)
{
	LengthRecord record = { .sequence = sequence, .length = length, .sum_start = start };

	g_assert_cmpint(data_sum_of_file(&sys_kernel, f->fd, start, length, &record.sum), ==, 0);
	g_assert_cmpint(segment_trailer_record(&sys_kernel, f->fd, CAPACITY_BYTES, NAME, &record),
			==, 0);
}

static void put(Fixture *f, const char *data, size_t size, off_t offset)
{
	g_assert_cmpint(pwrite(f->fd, data, size, offset), ==, size);
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
		record_length(&f, n, n * 1000);
		expect(&f, 0, n * 1000);
	}
	/* Never more than there can be. */
	record_length(&f, 20, CAPACITY_BYTES + 1);
	expect(&f, 0, CAPACITY_BYTES);
	fixture_deinit(&f);
}

/* The slot that has the record of that number. */
static size_t slot_of(uint64_t sequence)
{
	return 512 * (1 + sequence % SEGMENT_TRAILER_SLOTS);
}

static void test_torn(void)
{
	Fixture f;

	fixture_init(&f);
	record_length(&f, 1, 1000);
	record_length(&f, 2, 2000);
	overwrite(&f, slot_of(2) + 8, "\1", 1);
	expect(&f, 0, 1000);
	overwrite(&f, slot_of(1), "\7", 1);
	expect(&f, 0, 0);
	fixture_deinit(&f);
}

/* It holds while the data is there, all of it, and as it was. */
static void test_sum(void)
{
	Fixture f;

	fixture_init(&f);
	put(&f, "first\0", 6, 0);
	record_length(&f, 1, 6);
	put(&f, "second\0\0", 8, 6);
	record_with_sum(&f, 2, 6, 14);
	expect(&f, 0, 14);
	put(&f, "F", 1, 0);
	expect(&f, 0, 14);
	put(&f, "\0", 1, 6);
	expect(&f, 0, 6);
	put(&f, "s", 1, 6);
	expect(&f, 0, 14);
	put(&f, "\1", 1, 13);
	expect(&f, 0, 6);
	/* The last that holds, not the last. */
	put(&f, "\0", 1, 13);
	put(&f, "third\0", 6, 14);
	record_with_sum(&f, 3, 14, 20);
	expect(&f, 0, 20);
	put(&f, "T", 1, 14);
	expect(&f, 0, 14);
	fixture_deinit(&f);
}

/* What nobody has written is neither believed nor followed outside. */
static void test_hostile_sum(void)
{
	static const LengthRecord records[] = {
		{ 2, UINT64_MAX, 0, 0 },
		{ 3, UINT64_MAX, UINT64_MAX - 1, 0 },
		{ 4, CAPACITY_BYTES + 1, CAPACITY_BYTES, 0 },
		{ 5, CAPACITY_BYTES + 70000, 0, 0 },
		{ UINT64_MAX - 1, (uint64_t)1 << 63, 1, 0 },
	};
	Fixture f;

	fixture_init(&f);
	record_length(&f, 1, 1000);
	for (size_t i = 0; i < G_N_ELEMENTS(records); i++) {
		g_assert_cmpint(segment_trailer_record(&sys_kernel, f.fd, CAPACITY_BYTES, NAME,
						       &records[i]),
				==, 0);
		expect(&f, 0, 1000);
	}
	fixture_deinit(&f);
}

/* More than is ever summed: recovery does not read that much. */
static void test_long_sum(void)
{
	const uint64_t capacity_bytes = 4 * SEGMENT_TRAILER_SUM_MAX;
	LengthRecord record = { 1, SEGMENT_TRAILER_SUM_MAX, 0, 0 };
	uint64_t length;
	Fixture f;

	fixture_init(&f);
	/* Of zeroes, whose sum is 0. */
	g_assert_cmpint(ftruncate(f.fd, 0), ==, 0);
	g_assert_cmpint(segment_trailer_make(&sys_kernel, f.fd, capacity_bytes, NAME), ==, 0);
	g_assert_cmpint(segment_trailer_record(&sys_kernel, f.fd, capacity_bytes, NAME, &record),
			==, 0);
	g_assert_cmpint(segment_trailer_read(&sys_kernel, f.fd, capacity_bytes, NAME, &length), ==,
			0);
	g_assert_cmpuint(length, ==, SEGMENT_TRAILER_SUM_MAX);
	record.sequence = 2;
	record.length = SEGMENT_TRAILER_SUM_MAX + 1;
	g_assert_cmpint(segment_trailer_record(&sys_kernel, f.fd, capacity_bytes, NAME, &record),
			==, 0);
	g_assert_cmpint(segment_trailer_read(&sys_kernel, f.fd, capacity_bytes, NAME, &length), ==,
			0);
	g_assert_cmpuint(length, ==, SEGMENT_TRAILER_SUM_MAX);
	fixture_deinit(&f);
}

/* As it was before there were sums: sequence, length and their check, in the first two slots. */
static void test_without_sums(void)
{
	const size_t check_at = 16 + SEGMENT_NAME_SIZE;
	uint64_t slot[3], head_check;
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(
		pread(f.fd, &head_check, 8, segment_trailer_offset(CAPACITY_BYTES) + check_at), ==,
		8);
	for (uint64_t n = 1; n < 5; n++) {
		slot[0] = n;
		slot[1] = n * 100;
		slot[2] = mix(mix(head_check, slot[0]), slot[1]);
		overwrite(&f, 512 * (1 + n % 2), (const char *)slot, sizeof(slot));
		expect(&f, 0, n * 100);
	}
	fixture_deinit(&f);
}

static void test_foreign(void)
{
	Fixture f;
	uint64_t length = 0;

	fixture_init(&f);
	record_length(&f, 1, 1000);
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
	test_add("/segment-trailer/sum", test_sum);
	test_add("/segment-trailer/hostile-sum", test_hostile_sum);
	test_add("/segment-trailer/long-sum", test_long_sum);
	test_add("/segment-trailer/without-sums", test_without_sums);
	test_add("/segment-trailer/foreign", test_foreign);
	return g_test_run();
}
