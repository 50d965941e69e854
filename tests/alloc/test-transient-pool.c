// SPDX-License-Identifier: Apache-2.0
/* The buffers of a mount: their memory, how many there are, and what a buffer holds. */
#include "alloc/transient-pool.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc/log-limit.h"
#include "alloc/transient-fixture.h"

#define CLASS "a kind=append size=64K transient=on"

static void test_none_is_wanted(void)
{
	TransientFixture f;
	g_autoptr(GError) error = NULL;

	transient_fixture_init(&f, "a kind=append size=64K");
	g_assert_null(transient_pool_new(&f.place, f.rules, &f.clock, f.lock_budget_bytes, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(transient_fixture_count_files(&f), ==, 0);
	g_autofree char *text = transient_pool_describe(NULL, f.class);
	g_assert_cmpstr(text, ==, "");
	transient_fixture_deinit(&f);
}

static void test_memory(void)
{
	TransientFixture f;
	struct stat attr;

	transient_fixture_init(&f, CLASS ";b kind=stream size=1M;c kind=append size=10000 transient=on transient_pool_size=2");
	transient_fixture_make_pool(&f);
	g_autofree char *path = transient_fixture_file(&f);
	g_autofree char *dir = g_path_get_dirname(path);
	g_assert_cmpint(stat(path, &attr), ==, 0);
	g_assert_cmpuint(attr.st_mode & 07777, ==, 0600);
	/* All of it is there: no store can fail. */
	g_assert_cmpint(attr.st_blocks * 512, >=, attr.st_size);
	g_assert_cmpint(attr.st_size, >=, 5 * 65536 + 2 * 10000);
	g_assert_cmpint(stat(dir, &attr), ==, 0);
	g_assert_cmpuint(attr.st_mode & 07777, ==, 0700);
	g_assert_true(transient_pool_count(f.pool, f.class).locked);
	f.pool = transient_pool_free(f.pool);
	g_assert_cmpuint(transient_fixture_count_files(&f), ==, 0);
	transient_fixture_deinit(&f);
}

static void expect_refused(TransientFixture *f, const char *text)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(transient_pool_new(&f->place, f->rules, &f->clock, f->lock_budget_bytes, &error));
	g_assert_nonnull(error);
	g_test_message("%s", error->message);
	g_assert_nonnull(strstr(error->message, text));
	g_assert_null(strchr(error->message, '\n'));
}

static void test_memory_not_to_be_had(void)
{
	TransientFixture f;
	g_autofree char *dir = NULL;

	transient_fixture_init(&f, CLASS);
	fake_sys_fail(&f.sys, FAKE_SYS_FALLOCATE, 1, 1, -ENOSPC);
	expect_refused(&f, "transient=on: cannot get 3");
	fake_sys_fail(&f.sys, FAKE_SYS_MMAP, 1, 1, -ENOMEM);
	expect_refused(&f, "transient_pool_size=");
	g_assert_cmpuint(transient_fixture_count_files(&f), ==, 0);
	dir = g_strdup_printf("%s/warmfs-%u", f.dir, (unsigned)geteuid());
	g_assert_cmpint(chmod(dir, 0755), ==, 0);
	expect_refused(&f, "not a directory of ours alone");
	g_assert_cmpint(rmdir(dir), ==, 0);
	g_assert_cmpint(symlink(f.dir, dir), ==, 0);
	expect_refused(&f, "not a directory of ours alone");
	g_assert_cmpint(unlink(dir), ==, 0);
	f.place.dir = "/nowhere";
	expect_refused(&f, "cannot make /nowhere/");
	f.place.dir = f.dir;
	transient_fixture_deinit(&f);
}

/* It may be swapped out then, which is not silent. */
static void test_a_lock_that_fails_is_told(void)
{
	TransientFixture f;

	transient_fixture_init(&f, CLASS);
	fake_sys_fail(&f.sys, FAKE_SYS_MLOCK, 1, 1, -ENOMEM);
	transient_fixture_make_pool(&f);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "cannot lock their memory"), ==, 1);
	g_assert_false(transient_pool_count(f.pool, f.class).locked);
	transient_fixture_deinit(&f);
}

/* All of it or none; and what is locked is missing to others. */
static void test_the_lock_budget(void)
{
	TransientFixture f;
	uint64_t bytes;

	transient_fixture_init(&f, CLASS);
	g_assert_cmpuint(transient_pool_locked_bytes(NULL), ==, 0);
	transient_fixture_make_pool(&f);
	bytes = transient_pool_locked_bytes(f.pool);
	g_assert_cmpuint(bytes, >, 5 * 65536);
	g_assert_cmpuint(transient_pool_count(f.pool, f.class).buffer_bytes, ==, 5 * 65536);
	f.pool = transient_pool_free(f.pool);
	f.lock_budget_bytes = bytes - 1;
	transient_fixture_make_pool(&f);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "may be locked: see lock_budget="), ==, 1);
	g_assert_cmpuint(transient_pool_locked_bytes(f.pool), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_MLOCK), ==, 1);
	f.pool = transient_pool_free(f.pool);
	f.lock_budget_bytes = bytes;
	transient_fixture_make_pool(&f);
	g_assert_cmpuint(transient_pool_locked_bytes(f.pool), ==, bytes);
	transient_fixture_deinit(&f);
}

static void test_B6_a_buffer_is_lent_once(void)
{
	TransientFixture f;
	TransientBuffer *buffers[5];

	transient_fixture_init(&f, CLASS);
	transient_fixture_make_pool(&f);
	for (int i = 0; i < 5; i++) {
		g_assert_cmpuint(transient_pool_count(f.pool, f.class).n_free, ==, 5 - i);
		/* From here on fewer than 40 % are free. */
		g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "transient buffers free"), ==, i > 3);
		buffers[i] = transient_pool_borrow(f.pool, f.class);
		g_assert_nonnull(buffers[i]);
		for (int j = 0; j < i; j++)
			g_assert_true(buffers[i] != buffers[j] && buffers[i]->bytes != buffers[j]->bytes);
	}
	g_assert_null(transient_pool_borrow(f.pool, f.class));
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "transient buffers free"), ==, 1);
	f.now_ns += LOG_LIMIT_INTERVAL_NS;
	g_assert_null(transient_pool_borrow(f.pool, f.class));
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "0 of 5 transient buffers free"), ==, 1);
	g_assert_cmpuint(transient_pool_count(f.pool, f.class).n_unbuffered, ==, 2);
	for (int i = 0; i < 5; i++)
		transient_pool_give_back(f.pool, buffers[i]);
	g_assert_cmpuint(transient_pool_count(f.pool, f.class).n_free, ==, 5);
	g_autofree char *text = transient_pool_describe(f.pool, f.class);
	g_assert_cmpstr(text, ==,
			" buffers=5 buffers_free=5 uncommitted_bytes=0 commits=0 unbuffered=2 buffers_locked=1");
	transient_fixture_deinit(&f);
}

/* What the next daemon would find. */
static void expect_slot(const TransientBuffer *buffer, uint64_t start, uint64_t end)
{
	g_assert_cmpuint(buffer->start, ==, start);
	g_assert_cmpuint(buffer->end, ==, end);
	g_assert_cmpuint(atomic_load(&buffer->slot->start), ==, start);
	g_assert_cmpuint(atomic_load(&buffer->slot->end), ==, end);
	g_assert_cmpuint(atomic_load(buffer->n_uncommitted), ==, end - start);
}

static void test_a_range(void)
{
	TransientFixture f;
	TransientBuffer *buffer;
	char data[8] = "........";

	transient_fixture_init(&f, CLASS);
	transient_fixture_make_pool(&f);
	buffer = transient_pool_borrow(f.pool, f.class);
	transient_buffer_assign(buffer, "name", 77);
	g_assert_true(transient_owner_checks(&buffer->slot->owner));
	g_assert_true(transient_buffer_accepts(buffer, 1000));
	transient_buffer_write(buffer, "abcd", 4, 1000);
	expect_slot(buffer, 1000, 1004);
	g_assert_false(transient_buffer_accepts(buffer, 999));
	g_assert_false(transient_buffer_accepts(buffer, 1005));
	g_assert_true(transient_buffer_accepts(buffer, 1004));
	transient_buffer_write(buffer, "XYZ", 3, 1002);
	expect_slot(buffer, 1000, 1005);
	transient_buffer_write(buffer, "B", 1, 1001);
	expect_slot(buffer, 1000, 1005);
	transient_buffer_overlay(buffer, data, 8, 998);
	g_assert_cmpmem(data, 8, "..aBXYZ.", 8);
	transient_buffer_overlay(buffer, data, 2, 1003);
	g_assert_cmpmem(data, 8, "YZaBXYZ.", 8);
	transient_buffer_overlay(buffer, data, 8, 1005);
	transient_buffer_overlay(buffer, data, 8, 992);
	g_assert_cmpmem(data, 8, "YZaBXYZ.", 8);
	transient_buffer_committed(buffer, 1003);
	expect_slot(buffer, 1003, 1005);
	transient_buffer_committed(buffer, 1005);
	expect_slot(buffer, 1005, 1005);
	/* Empty: it may begin anywhere. */
	transient_buffer_write(buffer, "q", 1, 10);
	expect_slot(buffer, 10, 11);
	transient_buffer_committed(buffer, 11);
	transient_buffer_write(buffer, "q", 1, 65535);
	expect_slot(buffer, 65535, 65536);
	transient_buffer_hide(buffer);
	g_assert_false(transient_owner_checks(&buffer->slot->owner));
	expect_slot(buffer, 65535, 65536);
	transient_pool_give_back(f.pool, buffer);
	expect_slot(buffer, 0, 0);
	transient_fixture_deinit(&f);
}

static void test_left_for_the_next_daemon(void)
{
	TransientFixture f;
	TransientBuffer *buffer;

	transient_fixture_init(&f, CLASS);
	transient_fixture_make_pool(&f);
	buffer = transient_pool_borrow(f.pool, f.class);
	transient_buffer_assign(buffer, "name", 77);
	transient_buffer_write(buffer, "abcd", 4, 0);
	transient_pool_leave(f.pool, buffer);
	f.pool = transient_pool_free(f.pool);
	g_assert_cmpuint(transient_fixture_count_files(&f), ==, 1);
	/* Which may not have got rid of it. */
	transient_fixture_make_pool(&f);
	g_assert_cmpuint(transient_fixture_count_files(&f), ==, 2);
	transient_fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/transient-pool/none-is-wanted", test_none_is_wanted);
	test_add("/transient-pool/memory", test_memory);
	test_add("/transient-pool/memory-not-to-be-had", test_memory_not_to_be_had);
	test_add("/transient-pool/a-lock-that-fails-is-told", test_a_lock_that_fails_is_told);
	test_add("/transient-pool/the-lock-budget", test_the_lock_budget);
	test_add("/transient-pool/B6-a-buffer-is-lent-once", test_B6_a_buffer_is_lent_once);
	test_add("/transient-pool/a-range", test_a_range);
	test_add("/transient-pool/left-for-the-next-daemon", test_left_for_the_next_daemon);
	return g_test_run();
}
