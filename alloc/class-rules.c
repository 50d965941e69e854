// SPDX-License-Identifier: Apache-2.0
#include "alloc/class-rules.h"

#include <string.h>

#include "alloc/byte-size.h"
#include "alloc/option-error.h"

struct ClassRules {
	GPtrArray *classes;
};

static void destroy_class(void *class)
{
	segment_class_free(class);
}

ClassRules *class_rules_new(void)
{
	ClassRules *rules = g_new(ClassRules, 1);

	rules->classes = g_ptr_array_new_with_free_func(destroy_class);
	return rules;
}

ClassRules *class_rules_free(ClassRules *rules)
{
	if (!rules)
		return NULL;
	g_ptr_array_unref(rules->classes);
	g_free(rules);
	return NULL;
}

void class_rules_add(ClassRules *rules, SegmentClass *class)
{
	g_ptr_array_add(rules->classes, class);
}

size_t class_rules_count(const ClassRules *rules)
{
	return rules->classes->len;
}

const SegmentClass *class_rules_nth(const ClassRules *rules, size_t nth)
{
	return g_ptr_array_index(rules->classes, nth);
}

SegmentClass *class_rules_find_named(ClassRules *rules, const char *name)
{
	for (guint i = 0; i < rules->classes->len; i++) {
		SegmentClass *class = g_ptr_array_index(rules->classes, i);

		if (strcmp(class->name, name) == 0)
			return class;
	}
	return NULL;
}

size_t class_rules_index(const ClassRules *rules, const SegmentClass *class)
{
	guint index;

	return g_ptr_array_find(rules->classes, class, &index) ? index : class_rules_count(rules);
}

/* Whether the class's full pool, or the one segment that it must have, fits. */
static bool check_space(const SegmentClass *class, uint64_t filesystem_bytes, GError **error)
{
	unsigned segments = class->ahead_auto ? 1 : MAX(class->ahead, 1);
	g_autofree char *ahead = class->ahead_auto ? g_strdup("auto") : g_strdup_printf("%u", class->ahead);
	uint64_t needed;
	g_autofree char *needed_text = NULL;
	g_autofree char *size = byte_size_format(class->size_bytes);
	g_autofree char *filesystem = byte_size_format(filesystem_bytes);
	g_autofree char *quota = byte_size_format(class->quota_bytes);

	if (__builtin_mul_overflow(class->size_bytes, (uint64_t)segments, &needed)) {
		needed = UINT64_MAX;
		needed_text = g_strdup("over 16777215T");
	} else {
		needed_text = byte_size_format(needed);
	}
	if (needed > filesystem_bytes)
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE,
			      "class \"%s\": size=%s with ahead=%s needs %s, but the filesystem "
			      "holds %s; make size or ahead smaller",
			      class->name, size, ahead, needed_text, filesystem);
	if (class->quota_bytes && needed > class->quota_bytes)
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE,
			      "class \"%s\": size=%s with ahead=%s needs %s, but quota=%s; make "
			      "size or ahead smaller, or quota larger",
			      class->name, size, ahead, needed_text, quota);
	return true;
}

static bool check_class(const SegmentClass *class, uint64_t filesystem_bytes, GError **error)
{
	if (!class->match)
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE,
			      "class \"%s\": match is missing; allowed: %s", class->name,
			      segment_class_allowed("match"));
	if (!class->size_bytes)
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE,
			      "class \"%s\": size is missing; allowed: %s", class->name,
			      segment_class_allowed("size"));
	if (class->transient && class->kind != SEGMENT_KIND_APPEND)
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE,
			      "class \"%s\": transient=on goes with kind=append only, not with kind=%s", class->name,
			      segment_kind_to_string(class->kind));
	if (class->lock && !segment_class_is_warmed(class))
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE,
			      "class \"%s\": lock=on, but its segments have no warm pages; allowed: with kind=mapped or append, "
			      "warm=on, and warm_min_size not above size", class->name);
	return check_space(class, filesystem_bytes, error);
}

static bool check_pair(const SegmentClass *a, const SegmentClass *b, GError **error)
{
	if (strcmp(a->name, b->name) == 0)
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE,
			      "two classes are named \"%s\"; give each its own name", a->name);
	if (glob_overlaps(a->match, b->match))
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE,
			      "class \"%s\" (match=%s) and class \"%s\" (match=%s) both match some "
			      "paths; make the patterns disjoint",
			      a->name, glob_pattern(a->match), b->name, glob_pattern(b->match));
	return true;
}

bool class_rules_check(const ClassRules *rules, uint64_t filesystem_bytes, GError **error)
{
	size_t count = class_rules_count(rules);

	if (count > CLASS_RULES_MAX)
		return option_error_refuse(error, G_OPTION_ERROR_BAD_VALUE, "%zu classes; allowed: at most %d",
			      count, CLASS_RULES_MAX);
	for (size_t i = 0; i < count; i++)
		if (!check_class(class_rules_nth(rules, i), filesystem_bytes, error))
			return false;
	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count; j++)
			if (!check_pair(class_rules_nth(rules, i), class_rules_nth(rules, j),
					error))
				return false;
	return true;
}

const SegmentClass *class_rules_find(const ClassRules *rules, const char *path)
{
	for (size_t i = 0; i < class_rules_count(rules); i++) {
		const SegmentClass *class = class_rules_nth(rules, i);

		if (glob_match(class->match, path))
			return class;
	}
	return NULL;
}
