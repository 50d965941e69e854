// SPDX-License-Identifier: Apache-2.0
/* Blocks behind the end: given back if nobody else can write there, and else not. */
#include "alloc/reservation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

#define RESERVED_BYTES (256 * 1024)
#define LENGTH_BYTES   5000

typedef struct Fixture {
	char *path;
	char *file;
	int fd;
	FakeSys sys;
} Fixture;

static void fixture_init(Fixture *f)
{
	static const char data[LENGTH_BYTES] = "data";
	/* Not now, so that it would be seen to move. */
	static const struct timespec times[2] = { { 1000, 1 }, { 2000, 2 } };

	*f = (Fixture){ .path = TEST_DIR_NEW() };
	f->file = g_build_filename(f->path, "file", NULL);
	f->fd = open(f->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(fallocate(f->fd, FALLOC_FL_KEEP_SIZE, 0, RESERVED_BYTES), ==, 0);
	g_assert_cmpint(pwrite(f->fd, data, sizeof(data), 0), ==, sizeof(data));
	g_assert_cmpint(futimens(f->fd, times), ==, 0);
	fake_sys_init(&f->sys, true);
}

static void fixture_deinit(Fixture *f)
{
	close(f->fd);
	fake_sys_deinit(&f->sys);
	test_dir_remove(f->path);
	g_free(f->file);
}

static int release(Fixture *f)
{
	return reservation_release(&f->sys.base, f->fd);
}

static struct stat stat_of(const Fixture *f)
{
	struct stat attr;

	g_assert_cmpint(fstat(f->fd, &attr), ==, 0);
	return attr;
}

static bool is_reserved(const Fixture *f)
{
	return (off_t)stat_of(f).st_blocks * 512 >= RESERVED_BYTES;
}

/* The lease is not kept, whatever happens: others would wait for it. */
static void check_no_lease(const Fixture *f)
{
	g_assert_cmpint(fcntl(f->fd, F_GETLEASE), ==, F_UNLCK);
}

static void test_release(void)
{
	Fixture f;
	struct stat attr;

	fixture_init(&f);
	g_assert_true(is_reserved(&f));
	g_assert_cmpint(release(&f), ==, 0);
	attr = stat_of(&f);
	g_assert_cmpint(attr.st_blocks * 512, ==, 8192);
	g_assert_cmpint(attr.st_size, ==, LENGTH_BYTES);
	g_assert_cmpint(attr.st_mtim.tv_sec, ==, 2000);
	g_assert_cmpint(attr.st_mtim.tv_nsec, ==, 2);
	check_no_lease(&f);
	/* Again: there is nothing left, and no harm in it. */
	g_assert_cmpint(release(&f), ==, 0);
	g_assert_cmpint(stat_of(&f).st_size, ==, LENGTH_BYTES);
	fixture_deinit(&f);
}

/* Whoever has it open, in whatever way; a duplicate of our own descriptor is nobody. */
static void test_open_elsewhere(void)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR };

	for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
		Fixture f;
		int other;

		fixture_init(&f);
		other = open(f.file, flags[i] | O_CLOEXEC);
		g_assert_cmpint(release(&f), ==, -EBUSY);
		g_assert_true(is_reserved(&f));
		close(other);
		other = fcntl(f.fd, F_DUPFD_CLOEXEC, 3);
		g_assert_cmpint(release(&f), ==, 0);
		g_assert_false(is_reserved(&f));
		close(other);
		fixture_deinit(&f);
	}
}

/* By path only, as the daemon keeps every inode. */
static void test_path_descriptor(void)
{
	Fixture f;
	int other;

	fixture_init(&f);
	other = open(f.file, O_PATH | O_CLOEXEC);
	g_assert_cmpint(release(&f), ==, 0);
	g_assert_false(is_reserved(&f));
	close(other);
	fixture_deinit(&f);
}

static void test_mapped_elsewhere(void)
{
	Fixture f;
	int other;
	void *map;

	fixture_init(&f);
	other = open(f.file, O_RDWR | O_CLOEXEC);
	map = mmap(NULL, LENGTH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	g_assert_true(map != MAP_FAILED);
	close(other);
	g_assert_cmpint(release(&f), ==, -EBUSY);
	g_assert_true(is_reserved(&f));
	munmap(map, LENGTH_BYTES);
	g_assert_cmpint(release(&f), ==, 0);
	g_assert_false(is_reserved(&f));
	fixture_deinit(&f);
}

/* No proof, no truncation: a filesystem without leases, a process that may take none. */
static void test_no_leases(void)
{
	static const int errors[] = { -EINVAL, -EACCES };

	for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
		Fixture f;

		fixture_init(&f);
		fake_sys_fail(&f.sys, FAKE_SYS_SET_LEASE, 1, 1, errors[i]);
		g_assert_cmpint(release(&f), ==, 0);
		g_assert_true(is_reserved(&f));
		g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FTRUNCATE), ==, 0);
		fixture_deinit(&f);
	}
}

static void test_failures(void)
{
	static const FakeSysCall calls[] = { FAKE_SYS_SET_LEASE, FAKE_SYS_FSTAT,
					     FAKE_SYS_FTRUNCATE };

	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
		Fixture f;

		fixture_init(&f);
		fake_sys_fail(&f.sys, calls[i], 1, 1, -EIO);
		g_assert_cmpint(release(&f), ==, -EIO);
		g_assert_true(is_reserved(&f));
		check_no_lease(&f);
		g_assert_cmpint(release(&f), ==, 0);
		g_assert_false(is_reserved(&f));
		fixture_deinit(&f);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/reservation/release", test_release);
	test_add("/reservation/open-elsewhere", test_open_elsewhere);
	test_add("/reservation/path-descriptor", test_path_descriptor);
	test_add("/reservation/mapped-elsewhere", test_mapped_elsewhere);
	test_add("/reservation/no-leases", test_no_leases);
	test_add("/reservation/failures", test_failures);
	return g_test_run();
}
