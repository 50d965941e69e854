// SPDX-License-Identifier: Apache-2.0
#include "alloc/class-providers.h"

#include <errno.h>

#include "tests/alloc/module-fixture.h"

static Segment *prepare_of(ClassProviders *providers, Fixture *f, const SegmentClass *class)
{
	SegmentProvider *base = class_providers_base(providers);
	Segment *segment = NULL;

	g_assert_cmpint(base->prepare(base, class, &f->cancel, &segment), ==, 0);
	g_assert_true(segment->class == class);
	return segment;
}

static ClassRules *rules_of(const char *const *texts)
{
	ClassRules *rules = class_rules_new();

	for (; *texts; texts++)
		class_rules_add(rules, test_class_new(*texts));
	return rules;
}

/* Each class has its own; those that name the same one share it. */
static void test_routes(void)
{
	static const char *const CLASSES[] = {
		"a size=64K provider=stamp",  "b size=64K",
		"c size=64K provider=stamp",  "d size=64K provider=file",
		"e size=64K provider=writer", NULL,
	};
	static const unsigned STAMPS[] = { 1, 0, 2, 0, 0 };
	ModuleFixture f;

	module_fixture_init(&f);
	g_autofree char *stamp = install_module(f.dir, "stamp", "stamp");
	g_autofree char *writer = install_module(f.dir, "writer", "writer");
	g_autoptr(ClassRules) rules = rules_of(CLASSES);
	ClassProviders *providers =
		class_providers_new(rules, f.dir, f.base.provider, &f.base.log.log);
	SegmentProvider *base = class_providers_base(providers);

	g_assert_cmpuint(test_log_count(&f.base.log, LOG_LEVEL_NOTICE, "loaded from"), ==, 2);
	g_assert_cmpuint(test_log_count(&f.base.log, LOG_LEVEL_WARNING, ""), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(STAMPS); i++) {
		Segment *segment = prepare_of(providers, &f.base, class_rules_nth(rules, i));

		g_assert_cmpuint(stamp_of(segment), ==, STAMPS[i]);
		base->discard(base, segment);
		g_assert_cmpint(base->prepare_cold(base, class_rules_nth(rules, i), &segment), ==,
				0);
		base->release(base, segment);
	}
	f.base.sys.statvfs = (struct statvfs){ .f_frsize = 1000, .f_blocks = 100, .f_bavail = 50 };
	g_assert_cmpint(base->check_space(base, 45001), ==, -ENOSPC);
	g_assert_null(class_providers_free(providers));
	g_assert_cmpuint(test_log_count(&f.base.log, LOG_LEVEL_NOTICE, "2 segments stamped"), ==,
			 1);
	g_assert_null(class_providers_free(NULL));
	module_fixture_deinit(&f);
}

/* The classes are served all the same, and the reason is said once, however many they are. */
static void test_falls_back(void)
{
	static const char *const CLASSES[] = { "a size=64K provider=missing",
					       "b size=64K provider=next-abi",
					       "c size=64K provider=missing", NULL };
	ModuleFixture f;

	module_fixture_init(&f);
	g_autofree char *path = install_module(f.dir, "next-abi", "next-abi");
	g_autoptr(ClassRules) rules = rules_of(CLASSES);
	g_autoptr(GPtrArray) segments = g_ptr_array_new();
	ClassProviders *providers =
		class_providers_new(rules, f.dir, f.base.provider, &f.base.log.log);
	SegmentProvider *base = class_providers_base(providers);

	for (size_t i = 0; i < class_rules_count(rules); i++)
		g_ptr_array_add(segments,
				prepare_of(providers, &f.base, class_rules_nth(rules, i)));
	while (segments->len > 0)
		base->discard(base, g_ptr_array_steal_index(segments, 0));
	g_assert_cmpuint(test_log_count(&f.base.log, LOG_LEVEL_WARNING, ""), ==, 2);
	g_assert_cmpuint(test_log_count(&f.base.log, LOG_LEVEL_WARNING, "provider missing: "), ==,
			 1);
	g_assert_cmpuint(test_log_count(&f.base.log, LOG_LEVEL_WARNING, "provider next-abi: "), ==,
			 1);
	g_assert_cmpuint(test_log_count(&f.base.log, LOG_LEVEL_WARNING, "built-in provider"), ==,
			 2);
	class_providers_free(providers);
	module_fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/class-providers/routes", test_routes);
	test_add("/class-providers/falls-back", test_falls_back);
	return g_test_run();
}
