// SPDX-License-Identifier: Apache-2.0
/* A sum of data: any change shows, in memory as in the file, however it is cut into parts. */
#include "alloc/data-sum.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

#define SIZE 20000

static void fill(char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = i % 251 + 1;
}

static void test_any_change(void)
{
	char bytes[150];

	for (size_t size = 1; size <= sizeof(bytes); size++) {
		uint64_t sum;

		fill(bytes, size);
		sum = data_sum(bytes, size, 0);
		for (size_t i = 0; i < size; i++) {
			char was = bytes[i];

			bytes[i] = 0;
			g_assert_cmpuint(data_sum(bytes, size, 0), !=, sum);
			bytes[i] = was ^ 1;
			g_assert_cmpuint(data_sum(bytes, size, 0), !=, sum);
			bytes[i] = was;
		}
		g_assert_cmpuint(data_sum(bytes, size, 0), ==, sum);
	}
}

/* What is in the wrong place is not the same data. */
static void test_places(void)
{
	const char forward[] = "first---second--", backward[] = "second--first---";
	char bytes[200] = "";

	g_assert_cmpuint(data_sum(forward, 16, 0), !=, data_sum(backward, 16, 0));
	uint64_t sum = 0;
	for (size_t at = 0; at + 8 <= sizeof(bytes); at += 8) {
		memset(bytes, 0, sizeof(bytes));
		bytes[at] = 1;
		g_assert_cmpuint(data_sum(bytes, sizeof(bytes), 0), !=, sum);
		sum = data_sum(bytes, sizeof(bytes), 0);
	}
}

static void test_zeroes(void)
{
	static const char zeroes[1000];
	char bytes[1000] = "text";

	g_assert_cmpuint(data_sum(zeroes, 1000, 0), ==, 0);
	g_assert_cmpuint(data_sum(zeroes, 0, 0), ==, 0);
	g_assert_cmpuint(data_sum(bytes, 1000, 0), ==, data_sum(bytes, 4, 0));
}

static void test_parts(void)
{
	g_autofree char *bytes = g_malloc(SIZE);

	fill(bytes, SIZE);
	for (size_t cut = 0; cut <= SIZE; cut += 8)
		g_assert_cmpuint(data_sum(bytes, cut, 0) + data_sum(bytes + cut, SIZE - cut, cut),
				 ==, data_sum(bytes, SIZE, 0));
}

static void test_file(void)
{
	char *path = TEST_DIR_NEW();
	g_autofree char *name = g_build_filename(path, "file", NULL);
	g_autofree char *bytes = g_malloc(SIZE);
	static const size_t starts[] = { 0, 1, 7, 4095, 4097, SIZE - 1, SIZE };
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	FakeSys sys;
	uint64_t sum;

	fake_sys_init(&sys, true);
	fill(bytes, SIZE);
	g_assert_cmpint(pwrite(fd, bytes, SIZE, 0), ==, SIZE);
	for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
		g_assert_cmpint(data_sum_of_file(&sys.base, fd, starts[i], SIZE, &sum), ==, 0);
		g_assert_cmpuint(sum, ==, data_sum(bytes + starts[i], SIZE - starts[i], 0));
	}
	g_assert_cmpint(data_sum_of_file(&sys.base, fd, 0, SIZE + 1, &sum), ==, -EIO);
	fake_sys_reset(&sys);
	fake_sys_fail(&sys, FAKE_SYS_PREAD, 2, 1, -EUCLEAN);
	g_assert_cmpint(data_sum_of_file(&sys.base, fd, 0, SIZE, &sum), ==, -EUCLEAN);
	fake_sys_deinit(&sys);
	close(fd);
	test_dir_remove(path);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/data-sum/any-change", test_any_change);
	test_add("/data-sum/places", test_places);
	test_add("/data-sum/zeroes", test_zeroes);
	test_add("/data-sum/parts", test_parts);
	test_add("/data-sum/file", test_file);
	return g_test_run();
}
