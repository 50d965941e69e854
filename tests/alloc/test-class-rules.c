// SPDX-License-Identifier: Apache-2.0
#include "alloc/class-rules.h"

#include <string.h>

#define GIB (UINT64_C(1) << 30)
#define MATCH_ALLOWED \
	"a pattern for the path below the mount point, such as *.log, wal/* or **/*.log"
#define SIZE_ALLOWED "a number of bytes, or one with K, M, G or T, from 1 to 8388607T"

/* `options` as in a mount option: match=*.log,size=1G */
static void add(ClassRules *rules, const char *name, const char *options)
{
	SegmentClass *class = segment_class_new(name);
	g_auto(GStrv) parts = g_strsplit(options, ",", -1);

	for (char **part = parts; *part; part++) {
		char *value = strchr(*part, '=');
		bool ok;

		*value = '\0';
		ok = segment_class_set(class, *part, value + 1, NULL);
		g_assert_true(ok);
	}
	class_rules_add(rules, class);
}

static void assert_check_fails(const ClassRules *rules, uint64_t filesystem_bytes, const char *text)
{
	g_autoptr(GError) error = NULL;

	g_assert_false(class_rules_check(rules, filesystem_bytes, &error));
	g_assert_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE);
	g_assert_cmpstr(error->message, ==, text);
	g_assert_false(class_rules_check(rules, filesystem_bytes, NULL));
}

static void assert_check_passes(const ClassRules *rules, uint64_t filesystem_bytes)
{
	g_autoptr(GError) error = NULL;
	bool ok = class_rules_check(rules, filesystem_bytes, &error);

	g_assert_no_error(error);
	g_assert_true(ok);
}

static void test_find(void)
{
	g_autoptr(ClassRules) rules = class_rules_new();

	assert_check_passes(rules, 0);
	g_assert_cmpuint(class_rules_count(rules), ==, 0);
	g_assert_null(class_rules_find(rules, "a.log"));
	add(rules, "log", "match=*.log,size=1M");
	add(rules, "wal", "match=wal/**,size=2M,kind=stream");
	assert_check_passes(rules, GIB);
	g_assert_cmpuint(class_rules_count(rules), ==, 2);
	g_assert_cmpstr(class_rules_nth(rules, 0)->name, ==, "log");
	g_assert_cmpstr(class_rules_nth(rules, 1)->name, ==, "wal");
	g_assert_true(class_rules_find(rules, "a.log") == class_rules_nth(rules, 0));
	g_assert_true(class_rules_find(rules, "wal/d/a.log") == class_rules_nth(rules, 1));
	g_assert_null(class_rules_find(rules, "d/a.log"));
	g_assert_null(class_rules_find(rules, "wal"));
	g_assert_null(class_rules_free(NULL));
}

static void test_incomplete(void)
{
	g_autoptr(ClassRules) no_match = class_rules_new();
	g_autoptr(ClassRules) no_size = class_rules_new();

	add(no_match, "a", "size=1G");
	assert_check_fails(no_match, GIB * 2,
			   "class \"a\": match is missing; allowed: " MATCH_ALLOWED);
	add(no_size, "ok", "match=*.ok,size=1");
	add(no_size, "b", "match=*.log");
	assert_check_fails(no_size, GIB, "class \"b\": size is missing; allowed: " SIZE_ALLOWED);
}

/* What has no warm pages has none to lock. */
static void test_lock(void)
{
	static const char *const COLD[] = { "kind=stream", "warm=off", "warm_min_size=2M" };
	g_autoptr(ClassRules) warm = class_rules_new();

	add(warm, "a", "match=*.a,size=1M,lock=on");
	add(warm, "b", "match=*.b,size=1M,lock=on,kind=append,warm_min_size=1M");
	assert_check_passes(warm, GIB);
	for (size_t i = 0; i < G_N_ELEMENTS(COLD); i++) {
		g_autoptr(ClassRules) cold = class_rules_new();
		g_autofree char *options = g_strconcat("match=*.a,size=1M,lock=on,", COLD[i], NULL);

		add(cold, "a", options);
		assert_check_fails(cold, GIB,
				   "class \"a\": lock=on, but its segments have no warm pages; allowed: with "
				   "kind=mapped or append, warm=on, and warm_min_size not above size");
	}
}

static void test_overlap(void)
{
	g_autoptr(ClassRules) rules = class_rules_new();
	g_autoptr(ClassRules) names = class_rules_new();

	add(rules, "a", "match=*.log,size=1M");
	add(rules, "between", "match=*.wal,size=1M");
	assert_check_passes(rules, GIB);
	add(rules, "b", "match=x*.log,size=1M");
	assert_check_fails(
		rules, GIB,
		"class \"a\" (match=*.log) and class \"b\" (match=x*.log) both match some "
		"paths; make the patterns disjoint");
	add(names, "a", "match=*.log,size=1M");
	add(names, "a", "match=*.wal,size=1M");
	assert_check_fails(names, GIB, "two classes are named \"a\"; give each its own name");
}

static void test_transient(void)
{
	g_autoptr(ClassRules) append = class_rules_new();
	g_autoptr(ClassRules) stream = class_rules_new();

	add(append, "a", "match=*.log,size=1M,kind=append,transient=on");
	assert_check_passes(append, GIB);
	add(stream, "a", "match=*.log,size=1M,transient=on,kind=stream");
	assert_check_fails(stream, GIB,
			   "class \"a\": transient=on goes with kind=append only, not with kind=stream");
}

static void test_filesystem(void)
{
	g_autoptr(ClassRules) two = class_rules_new();
	g_autoptr(ClassRules) none_ahead = class_rules_new();
	g_autoptr(ClassRules) huge = class_rules_new();

	add(two, "a", "match=*.log,size=1G,ahead=2");
	assert_check_passes(two, 2 * GIB);
	assert_check_fails(two, 2 * GIB - 1,
			   "class \"a\": size=1G with ahead=2 needs 2G, but the filesystem holds "
			   "2147483647; make size or ahead smaller");
	add(none_ahead, "a", "match=*.log,size=1G,ahead=0");
	assert_check_passes(none_ahead, GIB);
	assert_check_fails(none_ahead, GIB / 2,
			   "class \"a\": size=1G with ahead=0 needs 1G, but the filesystem holds "
			   "512M; make size or ahead smaller");
	/* The product fits no 64 bits. */
	add(huge, "a", "match=*.log,size=4194304T,ahead=4");
	assert_check_fails(huge, 4 * GIB,
			   "class \"a\": size=4194304T with ahead=4 needs over 16777215T, but "
			   "the filesystem holds 4G; make size or ahead smaller");
}

static void test_quota(void)
{
	g_autoptr(ClassRules) enough = class_rules_new();
	g_autoptr(ClassRules) little = class_rules_new();
	g_autoptr(ClassRules) some = class_rules_new();

	add(enough, "a", "match=*.log,size=1G,ahead=3,quota=3G");
	assert_check_passes(enough, 8 * GIB);
	/* How many there will be is not known; one there must be room for. */
	add(some, "a", "match=*.log,size=1G,ahead=auto,quota=1G");
	assert_check_passes(some, GIB);
	assert_check_fails(some, GIB - 1,
			   "class \"a\": size=1G with ahead=auto needs 1G, but the filesystem holds 1073741823; "
			   "make size or ahead smaller");
	add(little, "a", "match=*.log,size=1G,ahead=3,quota=2G");
	assert_check_fails(little, 8 * GIB,
			   "class \"a\": size=1G with ahead=3 needs 3G, but quota=2G; make size or "
			   "ahead smaller, or quota larger");
}

static void test_count(void)
{
	g_autoptr(ClassRules) rules = class_rules_new();

	for (int i = 0; i < CLASS_RULES_MAX; i++) {
		g_autofree char *name = g_strdup_printf("c%d", i);
		g_autofree char *options = g_strdup_printf("match=*.%d,size=1", i);

		add(rules, name, options);
	}
	assert_check_passes(rules, GIB);
	add(rules, "more", "match=*.more,size=1");
	assert_check_fails(rules, GIB, "129 classes; allowed: at most 128");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/class-rules/find", test_find);
	g_test_add_func("/class-rules/incomplete", test_incomplete);
	g_test_add_func("/class-rules/lock", test_lock);
	g_test_add_func("/class-rules/overlap", test_overlap);
	g_test_add_func("/class-rules/transient", test_transient);
	g_test_add_func("/class-rules/filesystem", test_filesystem);
	g_test_add_func("/class-rules/quota", test_quota);
	g_test_add_func("/class-rules/count", test_count);
	return g_test_run();
}
