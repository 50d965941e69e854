// SPDX-License-Identifier: Apache-2.0
#include "alloc/provider-module.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "alloc/segment-trailer.h"
#include "tests/alloc/module-fixture.h"

static ProviderModule *load_from(ModuleFixture *f, const char *dir, const char *name,
				 GError **error)
{
	return provider_module_load(dir, name, f->base.provider, &f->base.log.log, error);
}

/* The fixture's provider is from now on the module's. */
static ProviderModule *load(ModuleFixture *f, const char *module, const char *name)
{
	g_autofree char *path = install_module(f->dir, module, name);
	g_autoptr(GError) error = NULL;
	ProviderModule *loaded = load_from(f, f->dir, name, &error);

	g_assert_no_error(error);
	g_assert_nonnull(loaded);
	f->base.base = provider_module_base(loaded);
	return loaded;
}

static void assert_refused(ModuleFixture *f, const char *dir, const char *name, const char *text)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(load_from(f, dir, name, &error));
	g_assert_nonnull(error);
	g_test_message("%s", error->message);
	g_assert_nonnull(strstr(error->message, text));
	g_assert_null(strchr(error->message, '\n'));
	g_assert_cmpuint(test_log_count(&f->base.log, LOG_LEVEL_NOTICE, "loaded"), ==, 0);
}

static void test_load(void)
{
	ModuleFixture f;
	ProviderModule *module;
	Segment *segment;

	module_fixture_init(&f);
	module = load(&f, "stamp", "stamp");
	g_assert_cmpuint(
		test_log_count(&f.base.log, LOG_LEVEL_NOTICE, "provider stamp: loaded from"), ==,
		1);
	for (unsigned n = 1; n <= 3; n++) {
		segment = prepare(&f.base, MAPPED);
		check_in_pool(&f.base, segment);
		g_assert_cmpuint(stamp_of(segment), ==, n);
		f.base.base->discard(f.base.base, segment);
	}
	g_assert_null(provider_module_free(module));
	g_assert_cmpuint(
		test_log_count(&f.base.log, LOG_LEVEL_NOTICE, "provider stamp: 3 segments stamped"),
		==, 1);
	g_assert_cmpuint(names_in_pool(&f.base), ==, 0);
	g_assert_null(provider_module_free(NULL));
	module_fixture_deinit(&f);
}

/* Of what the module has not, the built-in provider has all. */
static void test_operations_of_base(void)
{
	ModuleFixture f;
	ProviderModule *module;
	SegmentProvider *base;
	Segment *segment;
	SegmentTarget to;

	module_fixture_init(&f);
	module = load(&f, "stamp", "stamp");
	base = f.base.base;
	to = (SegmentTarget){ .dir_fd = f.base.source_fd,
			      .name = "file",
			      .uid = geteuid(),
			      .gid = getegid(),
			      .mode = 0644 };
	segment = prepare(&f.base, MAPPED);
	g_assert_cmpint(base->publish(base, segment, &to), ==, 0);
	g_assert_cmpint(stat_of(segment->fd).st_size, ==, MAPPED_BYTES);
	base->release(base, segment);
	g_assert_cmpint(base->prepare_cold(base, nth_class(&f.base, STREAM), &segment), ==, 0);
	g_assert_cmpuint(stamp_of(segment), ==, 0);
	g_assert_cmpint(base->publish(base, segment, &to), ==, -EEXIST);
	base->discard(base, segment);
	g_assert_cmpuint(file_provider_held_bytes(f.base.provider), ==, 0);
	f.base.sys.statvfs = (struct statvfs){ .f_frsize = 1000, .f_blocks = 100, .f_bavail = 50 };
	g_assert_cmpint(base->check_space(base, 45000), ==, 0);
	g_assert_cmpint(base->check_space(base, 45001), ==, -ENOSPC);
	provider_module_free(module);
	module_fixture_deinit(&f);
}

/* An earlier one's tables end earlier. */
static void test_shorter_tables(void)
{
	ModuleFixture f;
	ProviderModule *module;
	Segment *segment;

	module_fixture_init(&f);
	module = load(&f, "older", "older");
	segment = prepare(&f.base, MAPPED);
	f.base.base->discard(f.base.base, segment);
	provider_module_free(module);
	module_fixture_deinit(&f);
}

static void test_not_loadable(void)
{
	static const struct {
		const char *module, *name, *text;
	} CASES[] = {
		{ "next-abi", "next-abi", "version 2" },
		{ "no-symbol", "no-symbol", "warmfs_segment_provider" },
		{ "unresolved", "unresolved", "warmfs_has_no_such_function" },
		{ "stamp", "other", "No such file" },
		{ "wayward", "absent", "refuses" },
	};
	ModuleFixture f;

	module_fixture_init(&f);
	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_autofree char *path = install_module(f.dir, CASES[i].module, CASES[i].name);

		assert_refused(&f, f.dir, CASES[i].name, CASES[i].text);
		assert_refused(&f, f.dir, CASES[i].name, path);
	}
	assert_refused(&f, f.dir, "missing", "warmfs-provider-missing.so: No such file");
	assert_refused(&f, "/nonexistent", "missing", "/nonexistent: No such file");
	module_fixture_deinit(&f);
}

static void test_not_a_library(void)
{
	ModuleFixture f;
	g_autoptr(GError) error = NULL;

	module_fixture_init(&f);
	g_autofree char *path = g_strdup_printf("%s/warmfs-provider-text.so", f.dir);
	g_file_set_contents_full(path, "not ELF", -1, G_FILE_SET_CONTENTS_NONE, 0755, &error);
	g_assert_no_error(error);
	assert_refused(&f, f.dir, "text", path);
	g_autofree char *dir = g_strdup_printf("%s/warmfs-provider-dir.so", f.dir);
	g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
	assert_refused(&f, f.dir, "dir", "is not a file");
	module_fixture_deinit(&f);
}

/* Neither the module nor any directory on the way may be in the hands of others. */
static void test_writable_by_others(void)
{
	ModuleFixture f;

	module_fixture_init(&f);
	g_autofree char *inner = g_strdup_printf("%s/upper/inner", f.dir);
	g_autofree char *upper = g_path_get_dirname(inner);
	g_assert_cmpint(g_mkdir_with_parents(inner, 0755), ==, 0);
	g_autofree char *path = install_module(inner, "stamp", "stamp");
	const char *const parts[] = { path, inner, upper };

	for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
		for (unsigned bit = 020; bit >= 02; bit >>= 3) {
			g_autofree char *text = g_strdup_printf("%s: others can write", parts[i]);

			g_assert_cmpint(chmod(parts[i], 0755 | bit), ==, 0);
			assert_refused(&f, inner, "stamp", text);
		}
		g_assert_cmpint(chmod(parts[i], 0755), ==, 0);
	}
	/* As /tmp is: what is in there is its owner's. But a sticky file is like any other. */
	g_assert_cmpint(chmod(path, 01777), ==, 0);
	assert_refused(&f, inner, "stamp", "others can write");
	g_assert_cmpint(chmod(path, 0755), ==, 0);
	g_assert_cmpint(chmod(upper, 01777), ==, 0);
	g_autoptr(GError) error = NULL;
	g_autoptr(ProviderModule) module = load_from(&f, inner, "stamp", &error);
	g_assert_no_error(error);
	g_clear_pointer(&module, provider_module_free);
	module_fixture_deinit(&f);
}

static void test_belongs_to_others(void)
{
	ModuleFixture f;

	if (geteuid() != 0) {
		g_test_skip("only root can give files away");
		return;
	}
	module_fixture_init(&f);
	g_autofree char *path = install_module(f.dir, "stamp", "stamp");
	g_assert_cmpint(chown(path, 12345, 0), ==, 0);
	assert_refused(&f, f.dir, "stamp", "belongs to user 12345");
	g_assert_cmpint(chown(path, 0, 12345), ==, 0);
	g_assert_cmpint(chown(f.dir, 12345, 0), ==, 0);
	assert_refused(&f, f.dir, "stamp", "belongs to user 12345");
	g_assert_cmpint(chown(f.dir, 0, 0), ==, 0);
	module_fixture_deinit(&f);
}

static void test_symbolic_links(void)
{
	ModuleFixture f;

	module_fixture_init(&f);
	g_autofree char *path = install_module(f.dir, "stamp", "stamp");
	g_autofree char *link = g_strdup_printf("%s/warmfs-provider-link.so", f.dir);
	g_autofree char *dir_link = g_strdup_printf("%s/link", f.dir);
	g_assert_cmpint(symlink(path, link), ==, 0);
	g_assert_cmpint(symlink(f.dir, dir_link), ==, 0);
	assert_refused(&f, f.dir, "link", "symbolic link");
	assert_refused(&f, dir_link, "stamp", "symbolic link");
	module_fixture_deinit(&f);
}

/* What the service could not bear is an error, and nothing is left of it. */
static void test_breaks_rules(void)
{
	static const struct {
		const char *name;
		int error;
		const char *warning;
	} CASES[] = {
		{ "positive", -EIO, NULL },    { "nothing", -EIO, NULL },
		{ "cancelled", -EIO, NULL },   { "unfinished", -EIO, "not ready" },
		{ "cold", -EIO, "not ready" }, { "unfilled", -EINVAL, "no mapped segment" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		ModuleFixture f;
		ProviderModule *module;
		Segment *segment = NULL;

		g_test_message("%s", CASES[i].name);
		module_fixture_init(&f);
		module = load(&f, "wayward", CASES[i].name);
		g_assert_cmpint(f.base.base->prepare(f.base.base, nth_class(&f.base, MAPPED),
						     &f.base.cancel, &segment),
				==, CASES[i].error);
		g_assert_null(segment);
		g_assert_cmpuint(names_in_pool(&f.base), ==, 0);
		g_assert_cmpuint(file_provider_held_bytes(f.base.provider), ==, 0);
		g_assert_cmpuint(test_log_count(&f.base.log, LOG_LEVEL_WARNING,
						CASES[i].warning ? CASES[i].warning : ""),
				 ==, CASES[i].warning != NULL);
		provider_module_free(module);
		module_fixture_deinit(&f);
	}
}

/* A file that is not what it should be is not handed out. */
static void test_fills_wrongly(void)
{
	static const struct {
		const char *name, *class;
		int outcome;
	} CASES[] = {
		{ "unfilled", "a kind=mapped size=64K", -EINVAL },
		{ "unfilled", "a kind=append size=64K", -EINVAL },
		{ "unfilled", "a kind=stream size=64K", 0 },
		{ "longer", "a kind=mapped size=64K", -EINVAL },
		{ "longer", "a kind=append size=64K", -EINVAL },
		{ "longer", "a kind=stream size=64K", -EINVAL },
		{ "overwritten", "a kind=append size=64K", -EINVAL },
	};
	ModuleFixture f;

	module_fixture_init(&f);
	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_autoptr(SegmentClass) class = test_class_new(CASES[i].class);
		ProviderModule *module = load(&f, "wayward", CASES[i].name);
		SegmentProvider *base = provider_module_base(module);
		Segment *segment = NULL;

		g_test_message("%s, %s", CASES[i].name, CASES[i].class);
		g_assert_cmpint(base->prepare(base, class, &f.base.cancel, &segment), ==,
				CASES[i].outcome);
		if (segment)
			base->discard(base, segment);
		g_assert_cmpuint(names_in_pool(&f.base), ==, 0);
		provider_module_free(module);
	}
	g_assert_cmpuint(
		test_log_count(&f.base.log, LOG_LEVEL_WARNING, "its provider has left warming-"),
		==, 6);
	module_fixture_deinit(&f);
}

static int prepare_cold_by(ModuleFixture *f, const char *name, Segment **ret_segment)
{
	const SegmentClass *class = nth_class(&f->base, MAPPED);
	ProviderModule *module = load(f, "wayward", name);
	SegmentProvider *base = provider_module_base(module);
	int r = base->prepare_cold(base, class, ret_segment);

	if (r == 0)
		base->discard(base, *ret_segment);
	g_assert_cmpuint(names_in_pool(&f->base), ==, 0);
	provider_module_free(module);
	return r;
}

static void test_breaks_rules_cold(void)
{
	static const char *const NAMES[] = { "positive-cold", "nothing-cold", "cancelled-cold",
					     "unfinished-cold" };
	ModuleFixture f;

	module_fixture_init(&f);
	for (size_t i = 0; i < G_N_ELEMENTS(NAMES); i++) {
		Segment *segment = NULL;

		g_test_message("%s", NAMES[i]);
		g_assert_cmpint(prepare_cold_by(&f, NAMES[i], &segment), ==, -EIO);
		g_assert_null(segment);
	}
	module_fixture_deinit(&f);
}

/* One that is ready will do, too. */
static void test_cold(void)
{
	ModuleFixture f;
	Segment *segment = NULL;

	module_fixture_init(&f);
	g_assert_cmpint(prepare_cold_by(&f, "base-cold", &segment), ==, 0);
	g_assert_cmpint(prepare_cold_by(&f, "ready-cold", &segment), ==, 0);
	module_fixture_deinit(&f);
}

/* A module that fills files itself leaves them as the built-in provider does. */
static void test_fills_itself(void)
{
	ModuleFixture f;
	ProviderModule *module;
	Segment *segment;
	char last = 'x';

	module_fixture_init(&f);
	module = load(&f, "writer", "writer");
	segment = prepare(&f.base, MAPPED);
	check_in_pool(&f.base, segment);
	/* Pieces of 256 KiB are the module's, not the class's. */
	g_assert_cmpuint(fake_sys_count(&f.base.sys, FAKE_SYS_PWRITE), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.base.sys, FAKE_SYS_FSYNC), ==, 1);
	g_assert_cmpint(pread(segment->fd, &last, 1, MAPPED_BYTES - 1), ==, 1);
	g_assert_cmpint(last, ==, 0);
	f.base.base->release(f.base.base, segment);

	/* It is adopted, by the module's or the built-in provider, and from either. */
	for (unsigned n = 0; n < 3; n++) {
		g_clear_pointer(&module, provider_module_free);
		fixture_close(&f.base);
		fixture_open(&f.base);
		if (n % 2 == 0)
			module = load(&f, "writer", "writer");
		segment = prepare(&f.base, MAPPED);
		g_assert_true(segment->adopted);
		check_in_pool(&f.base, segment);
		f.base.base->release(f.base.base, segment);
	}
	provider_module_free(module);
	module_fixture_deinit(&f);
}

static void test_fills_append(void)
{
	ModuleFixture f;
	ProviderModule *module;
	Segment *segment = NULL;
	g_autoptr(SegmentClass) class = test_class_new("append kind=append size=300100");
	SegmentTarget to;
	uint64_t length = 1;

	module_fixture_init(&f);
	module = load(&f, "writer", "writer");
	g_assert_cmpint(f.base.base->prepare(f.base.base, class, &f.base.cancel, &segment), ==, 0);
	g_assert_cmpint(stat_of(segment->fd).st_size, ==, segment_trailer_end(300100));
	g_assert_cmpint(
		segment_trailer_read(&f.base.sys.base, segment->fd, 300100, segment->name, &length),
		==, 0);
	g_assert_cmpuint(length, ==, 0);
	to = (SegmentTarget){ .dir_fd = f.base.source_fd,
			      .name = "file",
			      .uid = geteuid(),
			      .gid = getegid(),
			      .mode = 0644 };
	g_assert_cmpint(f.base.base->publish(f.base.base, segment, &to), ==, 0);
	g_assert_cmpuint(stat_of(segment->fd).st_nlink, ==, 2);
	f.base.base->release(f.base.base, segment);
	provider_module_free(module);
	module_fixture_deinit(&f);
}

/* Each call of create and finish, failing. */
static void test_fills_itself_fails(void)
{
	static const FakeSysCall CALLS[] = { FAKE_SYS_OPENAT,	FAKE_SYS_FSTAT,
					     FAKE_SYS_FSYNC,	FAKE_SYS_MMAP,
					     FAKE_SYS_MADVISE,	FAKE_SYS_FTRUNCATE,
					     FAKE_SYS_FUTIMENS, FAKE_SYS_RENAMEAT2 };
	ModuleFixture f;
	ProviderModule *module;
	Segment *segment = NULL;

	module_fixture_init(&f);
	module = load(&f, "writer", "writer");
	for (size_t i = 0; i < G_N_ELEMENTS(CALLS); i++) {
		g_test_message("%s", fake_sys_call_name(CALLS[i]));
		fake_sys_fail(&f.base.sys, CALLS[i], 1, 1, -EIO);
		g_assert_cmpint(f.base.base->prepare(f.base.base, nth_class(&f.base, MAPPED),
						     &f.base.cancel, &segment),
				==, -EIO);
		g_assert_null(segment);
		g_assert_cmpuint(names_in_pool(&f.base), ==, 0);
		g_assert_cmpuint(file_provider_held_bytes(f.base.provider), ==, 0);
	}
	atomic_store(&f.base.cancel, true);
	g_assert_cmpint(f.base.base->prepare(f.base.base, nth_class(&f.base, MAPPED),
					     &f.base.cancel, &segment),
			==, -ECANCELED);
	g_assert_cmpuint(names_in_pool(&f.base), ==, 0);
	provider_module_free(module);
	module_fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/provider-module/load", test_load);
	test_add("/provider-module/operations-of-base", test_operations_of_base);
	test_add("/provider-module/shorter-tables", test_shorter_tables);
	test_add("/provider-module/not-loadable", test_not_loadable);
	test_add("/provider-module/not-a-library", test_not_a_library);
	test_add("/provider-module/writable-by-others", test_writable_by_others);
	test_add("/provider-module/belongs-to-others", test_belongs_to_others);
	test_add("/provider-module/symbolic-links", test_symbolic_links);
	test_add("/provider-module/breaks-rules", test_breaks_rules);
	test_add("/provider-module/fills-wrongly", test_fills_wrongly);
	test_add("/provider-module/breaks-rules-cold", test_breaks_rules_cold);
	test_add("/provider-module/cold", test_cold);
	test_add("/provider-module/fills-itself", test_fills_itself);
	test_add("/provider-module/fills-append", test_fills_append);
	test_add("/provider-module/fills-itself-fails", test_fills_itself_fails);
	return g_test_run();
}
