// SPDX-License-Identifier: Apache-2.0
/* What the kernel says of files in the page cache. */
#include <fcntl.h>
#include <unistd.h>

#include "alloc/alloc-residency.h"
#include "tests/lib/test-util.h"

#define SIZE (1 << 20)

static uint64_t resident(int fd, size_t length)
{
	uint64_t bytes = 1;

	g_assert_cmpint(sys_kernel.resident_bytes(&sys_kernel, fd, length, &bytes), ==, 0);
	return bytes;
}

static void test_file(void)
{
	char *dir = TEST_DIR_NEW();
	g_autofree char *path = g_build_filename(dir, "file", NULL);
	g_autofree char *zeroes = g_malloc0(SIZE);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	uint64_t bytes;

	g_assert_cmpint(ftruncate(fd, 2 * SIZE), ==, 0);
	g_assert_cmpuint(resident(fd, 2 * SIZE), ==, 0);
	g_assert_cmpint(pwrite(fd, zeroes, SIZE, 0), ==, SIZE);
	g_assert_cmpuint(resident(fd, 2 * SIZE), ==, SIZE);
	/* Only what is asked for counts, to the byte. */
	g_assert_cmpuint(resident(fd, SIZE / 2), ==, SIZE / 2);
	g_assert_cmpuint(resident(fd, 100), ==, 100);
	g_assert_cmpuint(resident(fd, 0), ==, 0);
	g_assert_cmpint(sys_kernel.resident_bytes(&sys_kernel, -1, SIZE, &bytes), <, 0);
	g_assert_cmpuint(bytes, ==, 0);
	close(fd);
	test_dir_remove(dir);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/alloc-residency/file", test_file);
	return g_test_run();
}
