// SPDX-License-Identifier: Apache-2.0
/* The live table: what it remembers, and what it does not believe. */
#include "alloc/live-table.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc/segment-name.h"
#include "tests/lib/test-util.h"

#define CAPACITY_BYTES (1024 * 1024)
/* Where the records begin, and their size: of the file's format. */
#define HEADER_BYTES 4096
#define RECORD_BYTES 512

typedef struct Fixture {
	TestLog log;
	char *path;
	int dir_fd;
	SegmentClass *class;
	LiveTable *table;
} Fixture;

static void fixture_init(Fixture *f)
{
	*f = (Fixture){ .path = TEST_DIR_NEW() };
	test_log_init(&f->log);
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->class = test_class_new("a kind=mapped size=1M");
}

static void fixture_deinit(Fixture *f)
{
	f->table = live_table_close(f->table);
	f->class = segment_class_free(f->class);
	close(f->dir_fd);
	test_log_deinit(&f->log);
	test_dir_remove(f->path);
}

static void open_table(Fixture *f)
{
	g_autoptr(GError) error = NULL;

	f->table = live_table_close(f->table);
	f->table = live_table_open(f->dir_fd, &f->log.log, &error);
	g_assert_no_error(error);
	g_assert_nonnull(f->table);
}

static int add(Fixture *f, uint64_t serial)
{
	char name[SEGMENT_NAME_SIZE];

	segment_name_ready(name, f->class, serial);
	return live_table_add(f->table, name, CAPACITY_BYTES);
}

static int find(Fixture *f, uint64_t serial, LiveEntry *ret_entry)
{
	char name[SEGMENT_NAME_SIZE];
	int index;

	segment_name_ready(name, f->class, serial);
	index = live_table_find(f->table, name, ret_entry);
	if (index >= 0)
		g_assert_cmpstr(ret_entry->name, ==, name);
	return index;
}

static void expect_length(Fixture *f, uint64_t serial, uint64_t length)
{
	LiveEntry entry;

	g_assert_cmpint(find(f, serial, &entry), >=, 0);
	g_assert_cmpuint(entry.capacity_bytes, ==, CAPACITY_BYTES);
	g_assert_true(entry.same_boot);
	g_assert_true(entry.same_mount);
	g_assert_cmpuint(entry.length, ==, length);
}

static int open_file(const Fixture *f)
{
	int fd = openat(f->dir_fd, LIVE_TABLE_NAME, O_RDWR | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	return fd;
}

static void flip(const Fixture *f, off_t offset)
{
	int fd = open_file(f);
	unsigned char byte;

	g_assert_cmpint(pread(fd, &byte, 1, offset), ==, 1);
	byte ^= 0x40;
	g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
	close(fd);
}

static void test_remembers(void)
{
	Fixture f;
	LiveEntry entry;

	fixture_init(&f);
	g_assert_false(live_table_exists(f.dir_fd));
	open_table(&f);
	g_assert_true(live_table_exists(f.dir_fd));
	int one = add(&f, 1), two = add(&f, 2);
	for (uint64_t length = 1; length <= 100; length++)
		live_table_set_length(f.table, one, length);
	live_table_set_length(f.table, two, 7);
	expect_length(&f, 1, 100);
	expect_length(&f, 2, 7);

	/* What another daemon finds. */
	open_table(&f);
	g_assert_false(live_table_was_damaged(f.table));
	expect_length(&f, 1, 100);
	expect_length(&f, 2, 7);
	live_table_remove(f.table, find(&f, 1, &entry));
	g_assert_cmpint(find(&f, 1, &entry), ==, -ENOENT);
	open_table(&f);
	g_assert_cmpint(find(&f, 1, &entry), ==, -ENOENT);
	expect_length(&f, 2, 7);
	live_table_clear(f.table);
	g_assert_cmpint(find(&f, 2, &entry), ==, -ENOENT);
	fixture_deinit(&f);
}

/* A record that was used before begins anew. */
static void test_reuse(void)
{
	Fixture f;

	fixture_init(&f);
	open_table(&f);
	int index = add(&f, 1);
	live_table_set_length(f.table, index, 1000);
	live_table_remove(f.table, index);
	g_assert_cmpint(add(&f, 2), ==, index);
	expect_length(&f, 2, 0);
	open_table(&f);
	expect_length(&f, 2, 0);
	fixture_deinit(&f);
}

static void test_full(void)
{
	Fixture f;
	LiveEntry entry;

	fixture_init(&f);
	open_table(&f);
	for (uint64_t serial = 0; serial < LIVE_TABLE_RECORDS; serial++)
		g_assert_cmpint(add(&f, serial), >=, 0);
	g_assert_cmpint(add(&f, LIVE_TABLE_RECORDS), ==, -ENOSPC);
	live_table_remove(f.table, find(&f, 17, &entry));
	g_assert_cmpint(add(&f, LIVE_TABLE_RECORDS), >=, 0);
	fixture_deinit(&f);
}

static void test_odd_names(void)
{
	static const char *const names[] = { "",
					     "../../etc/passwd",
					     "ready-mapped-1048576",
					     "warming-1",
					     "/",
					     "ready-mapped-1048577-65536-0000000000000001",
					     "live",
					     "." };
	g_autofree char *endless = g_strnfill(1000, 'a');
	Fixture f;

	fixture_init(&f);
	open_table(&f);
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
		g_assert_cmpint(live_table_add(f.table, names[i], CAPACITY_BYTES), ==, -EINVAL);
	g_assert_cmpint(live_table_add(f.table, endless, CAPACITY_BYTES), ==, -EINVAL);
	fixture_deinit(&f);
}

/* A store that is torn, wherever it is, leaves the value before it. */
static void test_torn_store(void)
{
	Fixture f;
	unsigned n_older = 0;

	fixture_init(&f);
	for (off_t at = 0; at < RECORD_BYTES; at++) {
		LiveEntry entry;

		open_table(&f);
		int index = add(&f, at);
		live_table_set_length(f.table, index, 1000);
		live_table_set_length(f.table, index, 2000);
		f.table = live_table_close(f.table);
		flip(&f, HEADER_BYTES + index * RECORD_BYTES + at);
		open_table(&f);
		if (find(&f, at, &entry) == -ENOENT)
			continue;
		g_assert_true(entry.length == 2000 || entry.length == 1000);
		n_older += entry.length == 1000;
		live_table_remove(f.table, index);
	}
	/* Each byte of sequence number, value and check. */
	g_assert_cmpuint(n_older, ==, 24);
	fixture_deinit(&f);
}

static void expect_set_aside(Fixture *f, const char *name)
{
	struct stat attr;

	open_table(f);
	g_assert_true(live_table_was_damaged(f->table));
	g_assert_cmpint(fstatat(f->dir_fd, name, &attr, AT_SYMLINK_NOFOLLOW), ==, 0);
	g_assert_cmpuint(test_log_count(&f->log, LOG_LEVEL_WARNING, name), ==, 1);
	g_assert_cmpint(add(f, 1), >=, 0);
	f->table = live_table_close(f->table);
}

static void test_no_table(void)
{
	Fixture f;
	int fd;

	fixture_init(&f);
	open_table(&f);
	f.table = live_table_close(f.table);
	flip(&f, 3);
	expect_set_aside(&f, "live.damaged-1");

	fd = open_file(&f);
	g_assert_cmpint(ftruncate(fd, 5), ==, 0);
	close(fd);
	expect_set_aside(&f, "live.damaged-2");

	g_assert_cmpint(unlinkat(f.dir_fd, LIVE_TABLE_NAME, 0), ==, 0);
	g_assert_cmpint(mkdirat(f.dir_fd, LIVE_TABLE_NAME, 0700), ==, 0);
	expect_set_aside(&f, "live.damaged-3");

	g_assert_cmpint(unlinkat(f.dir_fd, LIVE_TABLE_NAME, 0), ==, 0);
	g_assert_cmpint(mkfifoat(f.dir_fd, LIVE_TABLE_NAME, 0600), ==, 0);
	expect_set_aside(&f, "live.damaged-4");
	fixture_deinit(&f);
}

/* Nobody's file is written through a link, of either kind. */
static void test_links(void)
{
	Fixture f;
	struct stat before, after;

	fixture_init(&f);
	open_table(&f);
	f.table = live_table_close(f.table);
	g_assert_cmpint(renameat(f.dir_fd, LIVE_TABLE_NAME, f.dir_fd, "victim"), ==, 0);
	g_assert_cmpint(fstatat(f.dir_fd, "victim", &before, 0), ==, 0);
	g_assert_cmpint(symlinkat("victim", f.dir_fd, LIVE_TABLE_NAME), ==, 0);
	expect_set_aside(&f, "live.damaged-1");
	g_assert_cmpint(unlinkat(f.dir_fd, LIVE_TABLE_NAME, 0), ==, 0);
	g_assert_cmpint(linkat(f.dir_fd, "victim", f.dir_fd, LIVE_TABLE_NAME, 0), ==, 0);
	expect_set_aside(&f, "live.damaged-2");
	g_assert_cmpint(fstatat(f.dir_fd, "victim", &after, 0), ==, 0);
	g_assert_cmpint(before.st_mtim.tv_sec, ==, after.st_mtim.tv_sec);
	g_assert_cmpint(before.st_mtim.tv_nsec, ==, after.st_mtim.tv_nsec);
	fixture_deinit(&f);
}

/* To look changes nothing, whatever there is. */
static void test_look(void)
{
	Fixture f;
	g_autoptr(GError) error = NULL;

	fixture_init(&f);
	g_assert_null(live_table_open_to_look(f.dir_fd, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(test_count_names(f.dir_fd), ==, 0);

	open_table(&f);
	live_table_set_length(f.table, add(&f, 1), 9);
	f.table = live_table_close(f.table);
	f.table = live_table_open_to_look(f.dir_fd, &error);
	g_assert_no_error(error);
	expect_length(&f, 1, 9);
	f.table = live_table_close(f.table);

	flip(&f, 0);
	g_assert_null(live_table_open_to_look(f.dir_fd, &error));
	g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED);
	g_assert_null(strchr(error->message, '\n'));
	g_assert_cmpuint(test_count_names(f.dir_fd), ==, 1);
	fixture_deinit(&f);
}

/* As an inode is that was read from the disk. */
static void unmark(const Fixture *f)
{
	uint64_t hint = RWH_WRITE_LIFE_NOT_SET;
	int fd = open_file(f);

	g_assert_cmpint(fcntl(fd, F_SET_RW_HINT, &hint), ==, 0);
	close(fd);
}

/* In a mount namespace of its own every mount is another one. */
static bool enter_other_mounts(Fixture *f)
{
	if (unshare(CLONE_NEWNS) < 0) {
		g_test_skip("may not make a mount namespace");
		return false;
	}
	close(f->dir_fd);
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return true;
}

/* A daemon that is started anew in another mount namespace: the kernel has what the last one stored. */
static void test_other_mount(void)
{
	g_autoptr(GError) error = NULL;
	Fixture f;

	fixture_init(&f);
	open_table(&f);
	live_table_set_length(f.table, add(&f, 1), 9);
	for (int i = 0; i < 3 && enter_other_mounts(&f); i++) {
		f.table = live_table_close(f.table);
		f.table = live_table_open_to_look(f.dir_fd, &error);
		g_assert_no_error(error);
		expect_length(&f, 1, 9);
		open_table(&f);
		expect_length(&f, 1, 9);
	}
	fixture_deinit(&f);
}

/* The disk was mounted anew: what the table has of it is not believed, also not later. */
static void test_mounted_anew(void)
{
	g_autoptr(GError) error = NULL;
	LiveEntry entry;
	Fixture f;

	fixture_init(&f);
	open_table(&f);
	live_table_set_length(f.table, add(&f, 1), 9);
	f.table = live_table_close(f.table);
	if (enter_other_mounts(&f)) {
		unmark(&f);
		f.table = live_table_open_to_look(f.dir_fd, &error);
		g_assert_no_error(error);
		g_assert_cmpint(find(&f, 1, &entry), >=, 0);
		g_assert_true(entry.same_boot);
		g_assert_false(entry.same_mount);
		open_table(&f);
		g_assert_cmpint(find(&f, 1, &entry), ==, -ENOENT);
		live_table_set_length(f.table, add(&f, 2), 7);
		open_table(&f);
		g_assert_cmpint(find(&f, 1, &entry), ==, -ENOENT);
		expect_length(&f, 2, 7);
	}
	fixture_deinit(&f);
}

/* Random bytes in random places: nothing is found that was never put there. */
static void test_random_damage(void)
{
	g_autoptr(GRand) rand = test_rand_new();
	Fixture f;
	LiveEntry entry;

	fixture_init(&f);
	open_table(&f);
	for (unsigned round = 0; round < 50; round++) {
		live_table_clear(f.table);
		for (uint64_t serial = 0; serial < 16; serial++) {
			int index = add(&f, serial);

			for (uint64_t length = 1; length <= serial; length++)
				live_table_set_length(f.table, index, 1000 * serial + length);
		}
		f.table = live_table_close(f.table);
		int fd = open_file(&f);
		for (int n = g_rand_int_range(rand, 1, 60); n > 0; n--) {
			unsigned char bytes[8] = "";
			size_t length = g_rand_int_range(rand, 1, sizeof(bytes) + 1);

			for (size_t i = 0; i < length; i++)
				bytes[i] = g_rand_int_range(rand, 0, 3) ? g_rand_int(rand) : 0;
			g_assert_cmpint(
				pwrite(fd, bytes, length,
				       HEADER_BYTES + g_rand_int_range(rand, 0, 16 * RECORD_BYTES)),
				==, length);
		}
		close(fd);
		open_table(&f);
		for (uint64_t serial = 0; serial < 16; serial++) {
			if (find(&f, serial, &entry) < 0)
				continue;
			g_assert_cmpuint(entry.capacity_bytes, ==, CAPACITY_BYTES);
			if (entry.length > 0)
				g_assert_cmpuint(entry.length - 1000 * serial, <=, serial);
		}
		g_assert_cmpint(find(&f, 99, &entry), ==, -ENOENT);
	}
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/live-table/remembers", test_remembers);
	test_add("/live-table/reuse", test_reuse);
	test_add("/live-table/full", test_full);
	test_add("/live-table/odd-names", test_odd_names);
	test_add("/live-table/torn-store", test_torn_store);
	test_add("/live-table/no-table", test_no_table);
	test_add("/live-table/links", test_links);
	test_add("/live-table/look", test_look);
	test_add("/live-table/other-mount", test_other_mount);
	test_add("/live-table/mounted-anew", test_mounted_anew);
	test_add("/live-table/random-damage", test_random_damage);
	return g_test_run();
}
