// SPDX-License-Identifier: Apache-2.0
/* What of a mount's classes changes while it is used, and what is refused; then all is as it was. */
#include <string.h>

#include "alloc/class-change.h"
#include "tests/lib/test-util.h"

static ClassRules *two_rules(void)
{
	ClassRules *rules = class_rules_new();

	class_rules_add(rules, test_class_new("one size=1M ahead=3 quota=8M"));
	class_rules_add(rules, test_class_new("two size=1024K"));
	return rules;
}

static void set(ClassRules *rules, const char *name, const char *key, const char *value)
{
	g_autoptr(GError) error = NULL;

	segment_class_set_from(class_rules_find_named(rules, name), key, value, "set", &error);
	g_assert_no_error(error);
}

static void expect_value(ClassRules *rules, const char *name, const char *key, const char *value, const char *origin)
{
	const char *found;

	g_assert_cmpstr(segment_class_value(class_rules_find_named(rules, name), key, &found), ==, value);
	g_assert_cmpstr(found, ==, origin);
}

static void test_copy(void)
{
	g_autoptr(ClassRules) rules = two_rules();
	g_autoptr(ClassRules) copy = class_rules_copy(rules);
	g_autofree char *change = class_rules_describe_change(rules, copy);

	g_assert_cmpstr(change, ==, "");
	g_assert_cmpuint(class_rules_count(copy), ==, 2);
	expect_value(copy, "one", "ahead", "3", "option");
	expect_value(copy, "two", "ahead", "2", "default");
	set(copy, "one", "ahead", "4");
	expect_value(rules, "one", "ahead", "3", "option");
}

static void test_become(void)
{
	g_autoptr(ClassRules) rules = two_rules();
	g_autoptr(ClassRules) wanted = class_rules_copy(rules);
	const SegmentClass *one = class_rules_nth(rules, 0);
	g_autoptr(GError) error = NULL;
	g_autofree char *change = NULL;

	set(wanted, "one", "ahead", "auto");
	set(wanted, "one", "timeout", "7s");
	set(wanted, "one", "on_timeout", "fail");
	set(wanted, "one", "quota", "16M");
	set(wanted, "two", "linger", "1");
	/* The same in other words. */
	set(wanted, "two", "size", "1M");
	class_rules_can_become(rules, wanted, &error);
	g_assert_no_error(error);
	change = class_rules_describe_change(rules, wanted);
	g_assert_cmpstr(change, ==, "class one: now ahead=auto, was 3\nclass one: now timeout=7s, was 5000\n"
				    "class one: now on_timeout=fail, was cold\nclass one: now quota=16M, was 8M\n"
				    "class two: now linger=1, was 10000\n");
	class_rules_become(rules, wanted);
	g_assert_true(class_rules_nth(rules, 0) == one);
	g_assert_true(one->ahead_auto);
	g_assert_cmpuint(one->timeout_ms, ==, 7000);
	g_assert_true(one->fail_on_timeout);
	g_assert_cmpuint(one->quota_bytes, ==, 16 << 20);
	g_assert_cmpuint(class_rules_nth(rules, 1)->linger_ms, ==, 1);
	expect_value(rules, "one", "timeout", "7s", "set");
	expect_value(rules, "one", "size", "1M", "option");
}

static void expect_refused(ClassRules *rules, ClassRules *wanted, const char *what)
{
	g_autoptr(GError) error = NULL;

	g_assert_false(class_rules_can_become(rules, wanted, &error));
	g_assert_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE);
	g_assert_nonnull(strstr(error->message, what));
	g_assert_nonnull(strstr(error->message, "mount it again"));
	g_assert_null(strchr(error->message, '\n'));
}

/* Of every option another value; each is either refused by name, or seen as a change that is made. */
static void test_each_key(void)
{
	static const char *const others[] = {
		"match=other", "size=2M", "kind=append", "ahead=5", "max_ahead=9", "timeout=1s", "on_timeout=fail",
		"folio=128K", "warm=off", "warm_min_size=1", "flush=async", "flush_least_pages=7", "lock=on",
		"lock_active=3", "linger=1s", "quota=4M", "slow_ms=1", "transient=on", "transient_pool_size=6",
		"fast_fail=on", "commit_interval=1s", "commit_least_pages=1", "flush_interval=1s",
		"transient_flush_least_pages=1", "recycle=off", "provider=other",
	};
	static const char changeable[] = " ahead max_ahead timeout on_timeout flush flush_least_pages lock lock_active linger "
					 "quota slow_ms fast_fail commit_interval commit_least_pages flush_interval "
					 "transient_flush_least_pages recycle ";

	for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
		g_autoptr(ClassRules) rules = two_rules();
		g_autoptr(ClassRules) wanted = class_rules_copy(rules);
		g_auto(GStrv) pair = g_strsplit(others[i], "=", 2);
		g_autofree char *word = g_strdup_printf(" %s ", pair[0]);
		g_autofree char *expected = g_strdup_printf("class one: now %s, was", others[i]);
		g_autofree char *change = NULL;

		g_assert_cmpstr(segment_class_nth_key(i), ==, pair[0]);
		set(wanted, "one", pair[0], pair[1]);
		change = class_rules_describe_change(rules, wanted);
		g_assert_true(g_str_has_prefix(change, expected));
		if (!strstr(changeable, word)) {
			expect_refused(rules, wanted, others[i]);
			continue;
		}
		g_assert_true(class_rules_can_become(rules, wanted, NULL));
		class_rules_become(rules, wanted);
		g_free(change);
		change = class_rules_describe_change(rules, wanted);
		g_assert_cmpstr(change, ==, "");
	}
	g_assert_null(segment_class_nth_key(G_N_ELEMENTS(others)));
}

static void test_other_classes(void)
{
	g_autoptr(ClassRules) rules = two_rules();
	g_autoptr(ClassRules) more = class_rules_copy(rules);
	g_autoptr(ClassRules) less = class_rules_new();
	g_autoptr(ClassRules) turned = class_rules_new();

	class_rules_add(more, test_class_new("three size=1M"));
	expect_refused(rules, more, "class \"three\": cannot be added");
	class_rules_add(less, segment_class_copy(class_rules_nth(rules, 0)));
	expect_refused(rules, less, "class \"two\": cannot be taken away");
	class_rules_add(turned, segment_class_copy(class_rules_nth(rules, 1)));
	class_rules_add(turned, segment_class_copy(class_rules_nth(rules, 0)));
	g_assert_true(class_rules_can_become(rules, turned, NULL));
	class_rules_become(rules, turned);
	g_assert_cmpuint(class_rules_nth(rules, 0)->ahead, ==, 3);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/class-change/copy", test_copy);
	test_add("/class-change/become", test_become);
	test_add("/class-change/each-key", test_each_key);
	test_add("/class-change/other-classes", test_other_classes);
	return g_test_run();
}
