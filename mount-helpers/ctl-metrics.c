// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/ctl-metrics.h"

#include <string.h>

#include "mount-helpers/ctl-mount.h"

#define PREFIX	     "warmfs_"
#define CLASS_SAMPLE "segments_wanted{class=\""

static void add_line(CtlMetrics *metrics, const char *line)
{
	const char *value = strrchr(line, ' ');
	double *number;

	if (!value || !g_str_has_prefix(line, PREFIX))
		return;
	number = g_new(double, 1);
	*number = g_ascii_strtod(value + 1, NULL);
	g_hash_table_insert(metrics, g_strndup(line + strlen(PREFIX), value - line - strlen(PREFIX)), number);
}

CtlMetrics *ctl_metrics_read(const char *mount, GError **error)
{
	g_autofree char *text = ctl_mount_read(mount, "metrics", error);
	g_auto(GStrv) lines = NULL;
	CtlMetrics *metrics;

	if (!text)
		return NULL;
	metrics = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++)
		add_line(metrics, *line);
	return metrics;
}

static int compare_names(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *ctl_metrics_classes(CtlMetrics *metrics)
{
	GPtrArray *classes = g_ptr_array_new_with_free_func(g_free);
	GHashTableIter iter;
	gpointer key;

	g_hash_table_iter_init(&iter, metrics);
	while (g_hash_table_iter_next(&iter, &key, NULL)) {
		const char *name = (const char *)key + strlen(CLASS_SAMPLE);

		if (g_str_has_prefix(key, CLASS_SAMPLE))
			g_ptr_array_add(classes, g_strndup(name, strlen(name) - strlen("\"}")));
	}
	g_ptr_array_sort(classes, compare_names);
	return classes;
}

double ctl_metrics_get(CtlMetrics *metrics, const char *name, const char *class)
{
	g_autofree char *key = class ? g_strdup_printf("%s{class=\"%s\"}", name, class) : g_strdup(name);
	const double *number = g_hash_table_lookup(metrics, key);

	return number ? *number : 0;
}
