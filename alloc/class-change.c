// SPDX-License-Identifier: Apache-2.0
#include "alloc/class-change.h"

#include <string.h>

#define MADE   "segments that are there were made with it"
#define CHOSEN "it says which new files are of the class"
#define BUFFER "the memory of the buffers is taken when it begins"

typedef struct ChangeKey {
	const char *key;
	bool (*differs)(const SegmentClass *a, const SegmentClass *b);
	/* NULL: it cannot change, and why. */
	void (*take)(SegmentClass *class, const SegmentClass *from);
	const char *reason;
} ChangeKey;

#define DIFFERS(field)                                                                   \
	static bool field##_differs(const SegmentClass *a, const SegmentClass *b)        \
	{                                                                                \
		return a->field != b->field;                                             \
	}

#define TAKES(field)                                                                     \
	DIFFERS(field)                                                                   \
	static void field##_take(SegmentClass *class, const SegmentClass *from)          \
	{                                                                                \
		class->field = from->field;                                              \
	}

DIFFERS(kind)
DIFFERS(size_bytes)
DIFFERS(folio_bytes)
DIFFERS(warm)
DIFFERS(warm_min_bytes)
TAKES(lock)
TAKES(lock_active)
DIFFERS(transient)
DIFFERS(transient_pool_size)
TAKES(fast_fail)
TAKES(commit_interval_ms)
TAKES(commit_least_pages)
TAKES(flush_interval_ms)
TAKES(transient_flush_least_pages)
TAKES(max_ahead)
TAKES(timeout_ms)
TAKES(fail_on_timeout)
TAKES(flush_async)
TAKES(flush_least_pages)
TAKES(linger_ms)
TAKES(quota_bytes)
TAKES(slow_ms)
TAKES(recycle)

static bool match_differs(const SegmentClass *a, const SegmentClass *b)
{
	return strcmp(glob_pattern(a->match), glob_pattern(b->match)) != 0;
}

static bool provider_differs(const SegmentClass *a, const SegmentClass *b)
{
	return g_strcmp0(a->provider, b->provider) != 0;
}

static bool ahead_differs(const SegmentClass *a, const SegmentClass *b)
{
	return a->ahead != b->ahead || a->ahead_auto != b->ahead_auto;
}

static void ahead_take(SegmentClass *class, const SegmentClass *from)
{
	class->ahead = from->ahead;
	class->ahead_auto = from->ahead_auto;
}

static const ChangeKey KEYS[] = {
	{ "match", match_differs, NULL, CHOSEN },
	{ "size", size_bytes_differs, NULL, MADE },
	{ "kind", kind_differs, NULL, MADE },
	{ "ahead", ahead_differs, ahead_take },
	{ "max_ahead", max_ahead_differs, max_ahead_take },
	{ "timeout", timeout_ms_differs, timeout_ms_take },
	{ "on_timeout", fail_on_timeout_differs, fail_on_timeout_take },
	{ "folio", folio_bytes_differs, NULL, MADE },
	{ "warm", warm_differs, NULL, MADE },
	{ "warm_min_size", warm_min_bytes_differs, NULL, MADE },
	{ "flush", flush_async_differs, flush_async_take },
	{ "flush_least_pages", flush_least_pages_differs, flush_least_pages_take },
	{ "lock", lock_differs, lock_take },
	{ "lock_active", lock_active_differs, lock_active_take },
	{ "linger", linger_ms_differs, linger_ms_take },
	{ "quota", quota_bytes_differs, quota_bytes_take },
	{ "slow_ms", slow_ms_differs, slow_ms_take },
	{ "transient", transient_differs, NULL, BUFFER },
	{ "transient_pool_size", transient_pool_size_differs, NULL, BUFFER },
	{ "fast_fail", fast_fail_differs, fast_fail_take },
	{ "commit_interval", commit_interval_ms_differs, commit_interval_ms_take },
	{ "commit_least_pages", commit_least_pages_differs, commit_least_pages_take },
	{ "flush_interval", flush_interval_ms_differs, flush_interval_ms_take },
	{ "transient_flush_least_pages", transient_flush_least_pages_differs, transient_flush_least_pages_take },
	{ "recycle", recycle_differs, recycle_take },
	{ "provider", provider_differs, NULL, MADE },
};

SegmentClass *segment_class_copy(const SegmentClass *class)
{
	SegmentClass *copy = segment_class_new(class->name);
	const char *key, *origin;

	for (size_t i = 0; (key = segment_class_nth_key(i)); i++) {
		const char *value = segment_class_value(class, key, &origin);

		/* It was good before. */
		if (given_options_find(class->given, key))
			segment_class_set_from(copy, key, value, origin, NULL);
	}
	return copy;
}

ClassRules *class_rules_copy(const ClassRules *rules)
{
	ClassRules *copy = class_rules_new();

	for (size_t i = 0; i < class_rules_count(rules); i++)
		class_rules_add(copy, segment_class_copy(class_rules_nth(rules, i)));
	return copy;
}

static bool G_GNUC_PRINTF(2, 3) refuse(GError **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, text);
	return false;
}

static const char *value_of(const SegmentClass *class, const char *key)
{
	const char *origin;
	const char *value = segment_class_value(class, key, &origin);

	return *value ? value : "none";
}

static bool class_can_become(const SegmentClass *class, const SegmentClass *wanted, GError **error)
{
	for (size_t i = 0; i < G_N_ELEMENTS(KEYS); i++)
		if (!KEYS[i].take && KEYS[i].differs(class, wanted))
			return refuse(error, "class \"%s\": %s=%s: cannot change from %s while it is mounted, because %s; "
				      "unmount, and mount it again", class->name, KEYS[i].key,
				      value_of(wanted, KEYS[i].key), value_of(class, KEYS[i].key), KEYS[i].reason);
	return true;
}

bool class_rules_can_become(ClassRules *rules, ClassRules *wanted, GError **error)
{
	for (size_t i = 0; i < class_rules_count(wanted); i++) {
		const SegmentClass *class = class_rules_nth(wanted, i);

		if (!class_rules_find_named(rules, class->name))
			return refuse(error, "class \"%s\": cannot be added while it is mounted; unmount, and mount it again",
				      class->name);
	}
	for (size_t i = 0; i < class_rules_count(rules); i++) {
		const SegmentClass *class = class_rules_nth(rules, i);
		const SegmentClass *other = class_rules_find_named(wanted, class->name);

		if (!other)
			return refuse(error, "class \"%s\": cannot be taken away while it is mounted; unmount, and mount it "
				      "again", class->name);
		if (!class_can_become(class, other, error))
			return false;
	}
	return true;
}

char *class_rules_describe_change(ClassRules *rules, ClassRules *wanted)
{
	GString *text = g_string_new(NULL);

	for (size_t i = 0; i < class_rules_count(rules); i++) {
		const SegmentClass *class = class_rules_nth(rules, i);
		const SegmentClass *other = class_rules_find_named(wanted, class->name);

		for (size_t j = 0; j < G_N_ELEMENTS(KEYS); j++)
			if (KEYS[j].differs(class, other))
				g_string_append_printf(text, "class %s: now %s=%s, was %s\n", class->name, KEYS[j].key,
						       value_of(other, KEYS[j].key), value_of(class, KEYS[j].key));
	}
	return g_string_free(text, FALSE);
}

void class_rules_become(ClassRules *rules, ClassRules *wanted)
{
	for (size_t i = 0; i < class_rules_count(wanted); i++) {
		const SegmentClass *from = class_rules_nth(wanted, i);
		SegmentClass *class = class_rules_find_named(rules, from->name);

		for (size_t j = 0; j < G_N_ELEMENTS(KEYS); j++)
			if (KEYS[j].take)
				KEYS[j].take(class, from);
		g_hash_table_unref(class->given);
		class->given = g_hash_table_ref(from->given);
	}
}
