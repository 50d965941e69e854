// SPDX-License-Identifier: Apache-2.0
#include "alloc/transient-fixture.h"

#include <stdlib.h>
#include <unistd.h>

#include "alloc/lock-budget.h"

static int64_t fixture_now_ns(const Clock *clock)
{
	return ((const TransientFixture *)((const char *)clock - offsetof(TransientFixture, clock)))->now_ns;
}

void transient_fixture_init(TransientFixture *f, const char *classes)
{
	g_auto(GStrv) texts = g_strsplit(classes, ";", 0);

	*f = (TransientFixture){
		.dir = g_strdup("/dev/shm/warmfs-test-XXXXXX"),
		.clock = { .now_ns = fixture_now_ns },
		.now_ns = 1,
		.lock_budget_bytes = LOCK_BUDGET_MAX,
		.rules = class_rules_new(),
	};
	g_assert_nonnull(mkdtemp(f->dir));
	test_log_init(&f->log);
	fake_sys_init(&f->sys, true);
	f->place = (TransientPlace){ &f->sys.base, f->dir, 0xfe00, 4711, &f->log.log };
	for (char **text = texts; *text; text++)
		class_rules_add(f->rules, test_class_new(*text));
	f->class = class_rules_nth(f->rules, 0);
}

void transient_fixture_make_pool(TransientFixture *f)
{
	g_autoptr(GError) error = NULL;

	f->pool = transient_pool_new(&f->place, f->rules, &f->clock, f->lock_budget_bytes, &error);
	g_assert_no_error(error);
	g_assert_nonnull(f->pool);
}

static char *dir_of(const TransientFixture *f)
{
	return g_strdup_printf("%s/warmfs-%u", f->dir, (unsigned)geteuid());
}

static char *first_file(const TransientFixture *f, unsigned *ret_count)
{
	g_autofree char *path = dir_of(f);
	GDir *dir = g_dir_open(path, 0, NULL);
	const char *name;
	char *first = NULL;

	*ret_count = 0;
	while (dir && (name = g_dir_read_name(dir))) {
		if (!first)
			first = g_build_filename(path, name, NULL);
		++*ret_count;
	}
	g_clear_pointer(&dir, g_dir_close);
	return first;
}

unsigned transient_fixture_count_files(const TransientFixture *f)
{
	unsigned count;

	g_free(first_file(f, &count));
	return count;
}

char *transient_fixture_file(const TransientFixture *f)
{
	unsigned count;
	char *path = first_file(f, &count);

	g_assert_cmpuint(count, ==, 1);
	return path;
}

void transient_fixture_deinit(TransientFixture *f)
{
	g_autofree char *path = dir_of(f);
	char *file;
	unsigned count;

	transient_pool_free(f->pool);
	while ((file = first_file(f, &count))) {
		unlink(file);
		g_free(file);
	}
	rmdir(path);
	g_assert_cmpint(rmdir(f->dir), ==, 0);
	g_free(f->dir);
	class_rules_free(f->rules);
	fake_sys_deinit(&f->sys);
	test_log_deinit(&f->log);
}
