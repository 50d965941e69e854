// SPDX-License-Identifier: Apache-2.0
/* What is found in the memory of a daemon that was killed: what of it gets into its segments, and what is refused. */
#include "alloc/transient-recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/segment-name.h"
#include "alloc/segment-trailer.h"
#include "alloc/transient-fixture.h"

#define CAPACITY_BYTES (64 * 1024)

typedef struct Fixture {
	TransientFixture transient;
	char *path;
	int source_fd;
	PoolDir *dir;
	char name[SEGMENT_NAME_SIZE];
	int fd;
	TransientBuffer *buffer;
	TransientResult result;
} Fixture;

/* A live segment with "abcd" in its buffer, at 10, and its daemon gone. */
static void fixture_init(Fixture *f)
{
	g_autoptr(GError) error = NULL;
	struct stat attr;

	*f = (Fixture){ .path = TEST_DIR_NEW() };
	transient_fixture_init(&f->transient, "a kind=append size=64K transient=on transient_pool_size=2");
	transient_fixture_make_pool(&f->transient);
	f->source_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->dir = pool_dir_open(f->source_fd, f->path, &f->transient.log.log, &error);
	g_assert_no_error(error);
	segment_name_ready(f->name, f->transient.class, 1);
	f->fd = openat(f->dir->segments_fd, f->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(segment_trailer_make(&sys_kernel, f->fd, CAPACITY_BYTES, f->name), ==, 0);
	g_assert_cmpint(linkat(f->dir->segments_fd, f->name, f->source_fd, "visible", 0), ==, 0);
	g_assert_cmpint(fstat(f->fd, &attr), ==, 0);
	f->buffer = transient_pool_borrow(f->transient.pool, f->transient.class);
	transient_buffer_assign(f->buffer, f->name, attr.st_ino);
	transient_buffer_write(f->buffer, "abcd", 4, 10);
}

static void fixture_deinit(Fixture *f)
{
	pool_dir_close(f->dir);
	close(f->source_fd);
	close(f->fd);
	test_dir_remove(f->path);
	transient_fixture_deinit(&f->transient);
}

static void die(Fixture *f)
{
	transient_pool_leave(f->transient.pool, f->buffer);
	f->transient.pool = transient_pool_free(f->transient.pool);
}

static void recover(Fixture *f, bool dry_run, int r, unsigned n_written, unsigned n_refused)
{
	g_assert_cmpint(transient_recovery_run(&f->transient.place, f->dir, dry_run, &f->result), ==, r);
	g_assert_cmpuint(f->result.n_written, ==, n_written);
	g_assert_cmpuint(f->result.n_refused, ==, n_refused);
	g_assert_cmpuint(f->result.n_failed > 0, ==, r < 0);
}

static void expect_file(Fixture *f, const char *data)
{
	char bytes[4];
	struct stat attr;

	g_assert_cmpint(pread(f->fd, bytes, 4, 10), ==, 4);
	g_assert_cmpmem(bytes, 4, data, 4);
	g_assert_cmpint(fstat(f->fd, &attr), ==, 0);
	g_assert_cmpint(attr.st_size, ==, segment_trailer_offset(CAPACITY_BYTES) + SEGMENT_TRAILER_BYTES);
}

static void test_written(void)
{
	Fixture f;
	struct stat before, after;

	fixture_init(&f);
	die(&f);
	recover(&f, true, 0, 1, 0);
	expect_file(&f, "\0\0\0\0");
	g_assert_cmpuint(transient_fixture_count_files(&f.transient), ==, 1);
	g_assert_cmpint(fstat(f.fd, &before), ==, 0);
	recover(&f, false, 0, 1, 0);
	expect_file(&f, "abcd");
	g_assert_cmpint(fstat(f.fd, &after), ==, 0);
	g_assert_cmpint(before.st_mtim.tv_nsec, ==, after.st_mtim.tv_nsec);
	g_assert_cmpuint(transient_fixture_count_files(&f.transient), ==, 0);
	recover(&f, false, 0, 0, 0);
	fixture_deinit(&f);
}

/* Of another source, or of nobody. */
static void test_nothing_to_do(void)
{
	Fixture f;

	fixture_init(&f);
	transient_buffer_committed(f.buffer, 14);
	transient_pool_leave(f.transient.pool, f.buffer);
	die(&f);
	f.transient.place.source_ino++;
	recover(&f, false, 0, 0, 0);
	g_assert_cmpuint(transient_fixture_count_files(&f.transient), ==, 1);
	f.transient.place.source_ino--;
	recover(&f, false, 0, 0, 0);
	g_assert_cmpuint(transient_fixture_count_files(&f.transient), ==, 0);
	expect_file(&f, "\0\0\0\0");
	fixture_deinit(&f);

	fixture_init(&f);
	transient_buffer_hide(f.buffer);
	die(&f);
	recover(&f, false, 0, 0, 0);
	fixture_deinit(&f);
}

/* Then nothing may be sealed, and the next try gets it all. */
static void test_tried_again(void)
{
	Fixture f;

	fixture_init(&f);
	die(&f);
	fake_sys_reset(&f.transient.sys);
	fake_sys_fail(&f.transient.sys, FAKE_SYS_PWRITE, 1, 1, -EIO);
	recover(&f, false, -EIO, 0, 0);
	recover(&f, false, 0, 1, 0);
	expect_file(&f, "abcd");
	fixture_deinit(&f);
}

/* Told once. */
static void test_memory_is_gone(void)
{
	Fixture f;
	g_autoptr(GError) error = NULL;

	fixture_init(&f);
	f.dir->has_buffers = true;
	g_assert_true(pool_dir_take_stock(f.dir, f.transient.rules, &error));
	g_assert_true(pool_dir_left_buffers(f.dir));
	f.transient.pool = transient_pool_free(f.transient.pool);
	recover(&f, true, 0, 0, 0);
	recover(&f, false, 0, 0, 0);
	g_assert_cmpuint(test_log_count(&f.transient.log, LOG_LEVEL_WARNING, "is lost, and reads as zeroes"), ==, 2);
	g_assert_false(pool_dir_left_buffers(f.dir));
	recover(&f, false, 0, 0, 0);
	g_assert_cmpuint(test_log_count(&f.transient.log, LOG_LEVEL_WARNING, "is lost, and reads as zeroes"), ==, 2);
	pool_dir_mark_clean(f.dir);
	g_assert_false(pool_dir_left_buffers(f.dir));
	fixture_deinit(&f);
}

typedef void (*Damage)(Fixture *f);

static void other_inode(Fixture *f)
{
	transient_buffer_assign(f->buffer, f->name, 1);
	transient_buffer_write(f->buffer, "abcd", 4, 10);
}

static void no_check(Fixture *f)
{
	f->buffer->slot->owner.check ^= 1;
}

static void no_name_of_ours(Fixture *f)
{
	struct stat attr;

	fstat(f->fd, &attr);
	transient_buffer_assign(f->buffer, "../../visible", attr.st_ino);
	transient_buffer_write(f->buffer, "abcd", 4, 10);
}

static void behind_the_capacity(Fixture *f)
{
	atomic_store(&f->buffer->slot->end, CAPACITY_BYTES + 1);
}

static void behind_the_memory(Fixture *f)
{
	f->buffer->slot->owner.offset_bytes = UINT64_MAX - 100;
	transient_owner_seal(&f->buffer->slot->owner);
}

static void not_live(Fixture *f)
{
	g_assert_cmpint(unlinkat(f->source_fd, "visible", 0), ==, 0);
}

static void not_there(Fixture *f)
{
	g_assert_cmpint(unlinkat(f->dir->segments_fd, f->name, 0), ==, 0);
}

static void symlink_there(Fixture *f)
{
	not_there(f);
	g_assert_cmpint(linkat(f->source_fd, "visible", f->source_fd, "second", 0), ==, 0);
	g_assert_cmpint(symlinkat("../../visible", f->dir->segments_fd, f->name), ==, 0);
}

static void sealed_already(Fixture *f)
{
	g_assert_cmpint(ftruncate(f->fd, 20), ==, 0);
}

static void test_refused(void)
{
	static const Damage damages[] = { other_inode,	     no_check, no_name_of_ours, behind_the_capacity,
					  behind_the_memory, not_live,	 not_there,	  symlink_there,
					  sealed_already };

	for (size_t i = 0; i < G_N_ELEMENTS(damages); i++) {
		Fixture f;
		struct stat before, after;

		g_test_message("damage %zu", i);
		fixture_init(&f);
		damages[i](&f);
		die(&f);
		g_assert_cmpint(fstat(f.fd, &before), ==, 0);
		recover(&f, false, 0, 0, 1);
		g_assert_cmpint(fstat(f.fd, &after), ==, 0);
		g_assert_cmpint(after.st_size, ==, before.st_size);
		g_assert_cmpint(after.st_mtim.tv_nsec, ==, before.st_mtim.tv_nsec);
		g_assert_cmpuint(test_log_count(&f.transient.log, LOG_LEVEL_WARNING, "not believed"), ==, 1);
		g_assert_cmpuint(transient_fixture_count_files(&f.transient), ==, 0);
		fixture_deinit(&f);
	}
}

/* Whatever stands there, it ends, and no file becomes shorter. */
static void test_garbage(void)
{
	g_autoptr(GRand) rand = test_rand_new();

	for (int i = 0; i < 300; i++) {
		Fixture f;
		struct stat attr;

		fixture_init(&f);
		die(&f);
		g_autofree char *path = transient_fixture_file(&f.transient);
		auto_fd fd = open(path, O_RDWR | O_CLOEXEC);
		g_assert_cmpint(fstat(fd, &attr), ==, 0);
		for (int n = g_rand_int_range(rand, 1, 10); n > 0; n--) {
			off_t offset = g_rand_int_range(rand, 0, 2) ? g_rand_int_range(rand, 0, 48) :
								      g_rand_int_range(rand, 4096, 4096 + 160);
			uint8_t byte = g_rand_int_range(rand, 0, 256);

			g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
		}
		if (g_rand_int_range(rand, 0, 3) == 0)
			g_assert_cmpint(ftruncate(fd, g_rand_int_range(rand, 0, attr.st_size)), ==, 0);
		transient_recovery_run(&f.transient.place, f.dir, false, &f.result);
		g_assert_cmpint(fstat(f.fd, &attr), ==, 0);
		g_assert_cmpint(attr.st_size, ==, segment_trailer_offset(CAPACITY_BYTES) + SEGMENT_TRAILER_BYTES);
		fixture_deinit(&f);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/transient-recovery/written", test_written);
	test_add("/transient-recovery/nothing-to-do", test_nothing_to_do);
	test_add("/transient-recovery/tried-again", test_tried_again);
	test_add("/transient-recovery/memory-is-gone", test_memory_is_gone);
	test_add("/transient-recovery/refused", test_refused);
	test_add("/transient-recovery/garbage", test_garbage);
	return g_test_run();
}
