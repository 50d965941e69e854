// SPDX-License-Identifier: Apache-2.0
/* Removed files: who may become a segment again, and that nothing of what it was is left. */
#include "alloc/recycled-file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/segment-trailer.h"
#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

/* No multiple of anything. */
#define SIZE (300 * 1024 + 100)
#define NAME "recycled-0000000000000001"

typedef struct Fixture {
	char *path;
	int dir_fd;
	SegmentClass *class;
	FakeSys sys;
	ino_t ino;
	atomic_bool cancel;
} Fixture;

static void make_file(Fixture *f, off_t size)
{
	g_autofree char *data = g_malloc(size);
	auto_fd fd = openat(f->dir_fd, NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	struct stat attr;

	memset(data, 'x', size);
	g_assert_cmpint(write(fd, data, size), ==, size);
	g_assert_cmpint(fsync(fd), ==, 0);
	g_assert_cmpint(fstat(fd, &attr), ==, 0);
	f->ino = attr.st_ino;
}

static void expect_no_lease(int fd)
{
	g_assert_cmpint(fcntl(fd, F_GETLEASE), ==, F_UNLCK);
}

static void fixture_init(Fixture *f, const char *kind, off_t size)
{
	g_autofree char *text = g_strdup_printf("a kind=%s size=%d folio=64K", kind, SIZE);

	*f = (Fixture){ .path = TEST_DIR_NEW() };
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->class = test_class_new(text);
	fake_sys_init(&f->sys, true);
	make_file(f, size);
}

static void fixture_deinit(Fixture *f)
{
	fake_sys_deinit(&f->sys);
	segment_class_free(f->class);
	close(f->dir_fd);
	test_dir_remove(f->path);
}

static int open_it(Fixture *f)
{
	return recycled_file_open(&f->sys.base, f->dir_fd, NAME, f->ino, f->class);
}

static int renew(Fixture *f, int fd)
{
	WarmStint stint;
	int r;

	warm_stint_begin(&stint, NULL, &f->cancel);
	r = recycled_file_renew(&f->sys.base, fd, f->class, "ready", &stint);
	warm_stint_end(&stint);
	return r;
}

static void check_zeroes(int fd, off_t end)
{
	g_autofree char *data = g_malloc(end);

	g_assert_cmpint(pread(fd, data, end, 0), ==, end);
	for (off_t i = 0; i < end; i++)
		g_assert_cmpint(data[i], ==, 0);
}

/* Of every size that is taken, all of it. */
static void test_zeroed(void)
{
	static const off_t SIZES[] = { SIZE, SIZE / 2, SIZE * 2, SIZE - 1, SIZE + 1, SIZE + 70000 };
	static const char *const KINDS[] = { "mapped", "append" };

	for (size_t i = 0; i < G_N_ELEMENTS(SIZES) * 2; i++) {
		Fixture f;
		struct stat attr;
		uint64_t length;
		bool append = i % 2;

		fixture_init(&f, KINDS[i % 2], SIZES[i / 2]);
		auto_fd fd = open_it(&f);
		g_assert_cmpint(fd, >=, 0);
		expect_no_lease(fd);
		g_assert_cmpint(renew(&f, fd), ==, 0);
		g_assert_cmpint(fstat(fd, &attr), ==, 0);
		g_assert_cmpuint(attr.st_ino, ==, f.ino);
		g_assert_cmpint(attr.st_size, ==, append ? (off_t)segment_trailer_end(SIZE) : SIZE);
		check_zeroes(fd, append ? (off_t)segment_trailer_offset(SIZE) : SIZE);
		/* Nor behind its end. */
		g_assert_cmpint(ftruncate(fd, attr.st_size + 100000), ==, 0);
		if (append) {
			g_assert_cmpint(ftruncate(fd, attr.st_size), ==, 0);
			g_assert_cmpint(segment_trailer_read(&f.sys.base, fd, SIZE, "ready", &length), ==, 0);
			g_assert_cmpuint(length, ==, 0);
		} else {
			check_zeroes(fd, attr.st_size + 100000);
		}
		expect_no_lease(fd);
		fixture_deinit(&f);
	}
}

/* Whoever had it finds all of it under its old name after a power cut, if the removal was not on the disk by then. */
static void test_removal_is_synced_first(void)
{
	Fixture f;
	g_autofree char *data = g_malloc(SIZE);

	fixture_init(&f, "mapped", SIZE);
	auto_fd fd = open_it(&f);
	g_assert_cmpint(fd, >=, 0);
	fake_sys_fail(&f.sys, FAKE_SYS_FSYNC, 1, 1, -EIO);
	g_assert_cmpint(renew(&f, fd), ==, -EIO);
	g_assert_cmpint(pread(fd, data, SIZE, 0), ==, SIZE);
	for (size_t i = 0; i < SIZE; i++)
		g_assert_cmpint(data[i], ==, 'x');
	fixture_deinit(&f);
}

static void test_attributes(void)
{
	Fixture f;
	struct stat attr;
	char names[256];

	fixture_init(&f, "mapped", SIZE);
	g_autofree char *path = g_build_filename(f.path, NAME, NULL);
	bool has_xattrs = setxattr(path, "user.a", "1", 1, 0) == 0 && setxattr(path, "user.b", "2", 1, 0) == 0;
	g_assert_cmpint(chmod(path, 04777), ==, 0);
	auto_fd fd = open_it(&f);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(renew(&f, fd), ==, 0);
	g_assert_cmpint(fstat(fd, &attr), ==, 0);
	g_assert_cmpuint(attr.st_mode & 07777, ==, 0600);
	g_assert_cmpuint(attr.st_uid, ==, geteuid());
	if (has_xattrs)
		g_assert_cmpint(flistxattr(fd, names, sizeof(names)), ==, 0);
	fixture_deinit(&f);
}

/* One that stays is one too many: some say that it is removed, and it is not. */
static void test_attribute_stays(void)
{
	Fixture f;

	fixture_init(&f, "mapped", SIZE);
	g_autofree char *path = g_build_filename(f.path, NAME, NULL);
	if (setxattr(path, "user.a", "1", 1, 0) == 0) {
		auto_fd fd = open_it(&f);
		fake_sys_fail(&f.sys, FAKE_SYS_FREMOVEXATTR, 1, 1, -ENODATA);
		g_assert_cmpint(renew(&f, fd), ==, -EPERM);
	}
	fixture_deinit(&f);
}

static void test_who_has_it(void)
{
	Fixture f;
	int fd;

	fixture_init(&f, "mapped", SIZE);
	for (int flags = O_RDONLY; flags <= O_RDWR; flags++) {
		fd = openat(f.dir_fd, NAME, flags | O_CLOEXEC);
		g_assert_cmpint(open_it(&f), ==, -EBUSY);
		close(fd);
	}
	fd = openat(f.dir_fd, NAME, O_RDONLY | O_CLOEXEC);
	void *map = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	g_assert_cmpint(open_it(&f), ==, -EBUSY);
	munmap(map, SIZE);

	/* A descriptor that is none does not count. */
	fd = openat(f.dir_fd, NAME, O_PATH | O_CLOEXEC);
	int taken = open_it(&f);
	g_assert_cmpint(taken, >=, 0);
	close(taken);
	close(fd);

	f.ino++;
	g_assert_cmpint(open_it(&f), ==, -EBUSY);
	f.ino--;
	g_assert_cmpint(linkat(f.dir_fd, NAME, f.dir_fd, "other", 0), ==, 0);
	g_assert_cmpint(open_it(&f), ==, -EBUSY);
	fixture_deinit(&f);
}

static void test_fits(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a kind=append size=1M");
	struct stat attr = { .st_mode = S_IFREG, .st_size = 1 << 20, .st_blocks = 2048 };

	g_assert_true(recycled_file_fits(class, &attr));
	attr.st_blocks = 1023;
	g_assert_false(recycled_file_fits(class, &attr));
	attr.st_blocks = 1024;
	attr.st_size = 1 << 19;
	g_assert_true(recycled_file_fits(class, &attr));
	attr.st_size--;
	g_assert_false(recycled_file_fits(class, &attr));
	attr.st_size = (2 << 20) + 1;
	g_assert_true(recycled_file_fits(class, &attr));
	attr.st_size++;
	g_assert_false(recycled_file_fits(class, &attr));
	attr.st_size = 1 << 20;
	attr.st_mode = S_IFDIR;
	g_assert_false(recycled_file_fits(class, &attr));
	attr.st_mode = S_IFREG;
	g_assert_true(recycled_file_fits(class, &attr));
	class->recycle = false;
	g_assert_false(recycled_file_fits(class, &attr));
	class->recycle = true;
	class->warm = false;
	g_assert_false(recycled_file_fits(class, &attr));
	class->warm = true;
	class->kind = SEGMENT_KIND_STREAM;
	g_assert_false(recycled_file_fits(class, &attr));
}

typedef struct Call {
	FakeSysCall call;
	unsigned nth;
} Call;

/* Whatever fails: it is no segment then. */
static void test_calls_fail(void)
{
	static const Call OPENING[] = { { FAKE_SYS_OPENAT, 1 }, { FAKE_SYS_SET_LEASE, 1 }, { FAKE_SYS_FSTAT, 1 },
					{ FAKE_SYS_HAS_FLAGS, 1 }, { FAKE_SYS_SET_LEASE, 2 } };
	/* Also the last write, of the trailer. */
	static const Call RENEWING[] = {
		{ FAKE_SYS_SET_LEASE, 1 }, { FAKE_SYS_FSTAT, 1 }, { FAKE_SYS_HAS_FLAGS, 1 }, { FAKE_SYS_FTRUNCATE, 1 },
		{ FAKE_SYS_PWRITE, 1 }, { FAKE_SYS_PWRITE, 6 }, { FAKE_SYS_FCHOWN, 1 }, { FAKE_SYS_FLISTXATTR, 1 },
		{ FAKE_SYS_FCHMOD, 1 }, { FAKE_SYS_GET_LEASE, 1 }, { FAKE_SYS_SET_LEASE, 2 },
	};
	Fixture f;

	fixture_init(&f, "append", SIZE);
	for (size_t i = 0; i < G_N_ELEMENTS(OPENING); i++) {
		fake_sys_fail(&f.sys, OPENING[i].call, OPENING[i].nth, 1, -EIO);
		g_assert_cmpint(open_it(&f), ==, -EIO);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(RENEWING); i++) {
		auto_fd fd = open_it(&f);

		g_assert_cmpint(fd, >=, 0);
		fake_sys_fail(&f.sys, RENEWING[i].call, RENEWING[i].nth, 1, -EIO);
		g_assert_cmpint(renew(&f, fd), ==, -EIO);
	}
	auto_fd fd = open_it(&f);
	atomic_store(&f.cancel, true);
	g_assert_cmpint(renew(&f, fd), ==, -ECANCELED);
	fixture_deinit(&f);
}

/* Whoever came since it was taken over does not have to wait, and keeps it. */
static void test_somebody_came(void)
{
	Fixture f;

	fixture_init(&f, "mapped", SIZE);
	auto_fd fd = open_it(&f);
	int opened = openat(f.dir_fd, NAME, O_RDONLY | O_CLOEXEC);
	g_assert_cmpint(opened, >=, 0);
	g_assert_cmpint(renew(&f, fd), ==, -EBUSY);
	close(opened);
	g_assert_cmpint(linkat(f.dir_fd, NAME, f.dir_fd, "other", 0), ==, 0);
	g_assert_cmpint(renew(&f, fd), ==, -EBUSY);
	g_assert_cmpint(unlinkat(f.dir_fd, "other", 0), ==, 0);
	g_assert_cmpint(renew(&f, fd), ==, 0);
	fixture_deinit(&f);
}

typedef struct Comer {
	Fixture *f;
	int fd;
	pthread_t thread;
	bool comes;
} Comer;

static void *open_meanwhile(void *arg)
{
	return GINT_TO_POINTER(openat(((Comer *)arg)->f->dir_fd, NAME, O_RDONLY | O_CLOEXEC));
}

static void come(void *arg, FakeSysCall call)
{
	Comer *comer = arg;

	if (call != FAKE_SYS_FCHOWN || comer->comes)
		return;
	comer->comes = true;
	g_assert_cmpint(thread_start(&comer->thread, "comer", open_meanwhile, comer), ==, 0);
	TEST_WAIT_UNTIL(fcntl(comer->fd, F_GETLEASE) != F_WRLCK);
}

/* He waits, and gets it. */
static void test_somebody_comes(void)
{
	Fixture f;
	Comer comer = { .f = &f };
	void *opened;

	signal(SIGIO, SIG_IGN);
	fixture_init(&f, "mapped", SIZE);
	comer.fd = open_it(&f);
	f.sys.before_arg = &comer;
	f.sys.before = come;
	g_assert_cmpint(renew(&f, comer.fd), ==, -EBUSY);
	close(comer.fd);
	pthread_join(comer.thread, &opened);
	g_assert_cmpint(GPOINTER_TO_INT(opened), >=, 0);
	close(GPOINTER_TO_INT(opened));
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/recycled-file/no-byte-is-left", test_zeroed);
	test_add("/recycled-file/removal-is-synced-first", test_removal_is_synced_first);
	test_add("/recycled-file/attributes", test_attributes);
	test_add("/recycled-file/attribute-stays", test_attribute_stays);
	test_add("/recycled-file/who-has-it", test_who_has_it);
	test_add("/recycled-file/fits", test_fits);
	test_add("/recycled-file/calls-fail", test_calls_fail);
	test_add("/recycled-file/somebody-came", test_somebody_came);
	test_add("/recycled-file/somebody-comes", test_somebody_comes);
	return g_test_run();
}
