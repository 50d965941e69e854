// SPDX-License-Identifier: Apache-2.0
#include "alloc/alloc-status.h"

#include <glib.h>

static void append(GString *line, const char *key, uint64_t value)
{
	g_string_append_printf(line, " %s=%" G_GUINT64_FORMAT, key, (guint64)value);
}

char *alloc_status_to_line(const AllocStatus *status)
{
	GString *line = g_string_new(NULL);

	g_string_printf(line, "class %s:", status->class_name);
	for (AllocCounter counter = 0; counter < _ALLOC_COUNTER_MAX; counter++)
		append(line, alloc_counter_name(counter), status->counters[counter]);
	append(line, "prepare_p50_us", alloc_times_percentile_us(&status->prepare_times, 50));
	append(line, "prepare_p99_us", alloc_times_percentile_us(&status->prepare_times, 99));
	append(line, "wait_p50_us", alloc_times_percentile_us(&status->wait_times, 50));
	append(line, "wait_p99_us", alloc_times_percentile_us(&status->wait_times, 99));
	append(line, "ready", status->ready);
	append(line, "ahead", status->ahead);
	append(line, "lacking", status->lacking);
	append(line, "preparing", status->preparing);
	append(line, "waiting", status->waiting);
	append(line, "queued", status->queued);
	append(line, "live_bytes", status->live_bytes);
	append(line, "locked_bytes", status->locked_bytes);
	append(line, "error", -status->error);
	g_string_append_printf(line, " state=%s", status->error ? "degraded" : "ok");
	return g_string_free(line, FALSE);
}
