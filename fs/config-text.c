// SPDX-License-Identifier: Apache-2.0
/* As a configuration file has it, but for what is said behind each value. */
#include "fs/fs-report.h"

#define ORIGIN_COLUMN 40

static void append_value(GString *text, const char *key, const char *value, const char *origin)
{
	g_autofree char *pair = g_strdup_printf("%s=%s", key, *value ? value : "none");

	g_string_append_printf(text, "%-*s # %s\n", ORIGIN_COLUMN, pair, origin);
}

static void append_mount(GString *text, const FsOptions *options)
{
	const char *key, *origin;

	g_string_append(text, "[warmfs]\n");
	for (size_t i = 0; (key = fs_options_nth_key(i)); i++) {
		g_autofree char *value = fs_options_value(options, key, &origin);

		append_value(text, key, value, origin);
	}
}

static void append_class(GString *text, const SegmentClass *class)
{
	const char *key, *value, *origin;

	g_string_append_printf(text, "\n[class %s]\n", class->name);
	for (size_t i = 0; (key = segment_class_nth_key(i)); i++) {
		value = segment_class_value(class, key, &origin);
		append_value(text, key, value, origin);
	}
}

char *fs_report_to_config(const FsReport *report)
{
	const FsOptions *options = report->options;
	GString *text = g_string_new(NULL);

	g_string_append_printf(text, "# SOURCE %s\n# MOUNTPOINT %s\n", options->source, report->mount_point);
	if (options->config_path)
		g_string_append_printf(text, "# config=%s\n", options->config_path);
	for (guint i = 0; i < options->mount_options->len; i++)
		g_string_append_printf(text, "# -o %s\n", (char *)g_ptr_array_index(options->mount_options, i));
	MUTEX_SCOPE(report->config_lock);
	append_mount(text, options);
	for (size_t i = 0; i < class_rules_count(options->rules); i++)
		append_class(text, class_rules_nth(options->rules, i));
	return g_string_free(text, FALSE);
}
