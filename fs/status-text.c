// SPDX-License-Identifier: Apache-2.0
#include "alloc/byte-size.h"
#include "fs/fs-report.h"

#define COUNT "%" G_GUINT64_FORMAT

static char *format_us(uint64_t us)
{
	if (us < 1000)
		return g_strdup_printf(COUNT " us", (guint64)us);
	if (us < 1000000)
		return g_strdup_printf(COUNT ".%u ms", (guint64)us / 1000, (unsigned)(us % 1000 / 100));
	return g_strdup_printf(COUNT ".%u s", (guint64)us / 1000000, (unsigned)(us % 1000000 / 100000));
}

/* ", p50 65 us, p99 4.0 ms"; nothing if there are none. */
static void append_times(GString *text, const AllocTimes *times)
{
	g_autofree char *p50 = format_us(alloc_times_percentile_us(times, 50));
	g_autofree char *p99 = format_us(alloc_times_percentile_us(times, 99));

	if (alloc_times_count(times) > 0)
		g_string_append_printf(text, ", p50 %s, p99 %s", p50, p99);
}

static void append_head(GString *text, const FsReport *report)
{
	g_autoptr(GDateTime) started = g_date_time_new_from_unix_local(report->started_s);
	g_autofree char *since = g_date_time_format(started, "%Y-%m-%d %H:%M:%S");
	g_autofree char *held = byte_size_format(report->held_bytes);
	g_autofree char *buried = byte_size_format(report->buried_bytes);

	g_string_append_printf(text, "warmfs " WARMFS_VERSION ": %s at %s since %s\n", report->options->source,
			       report->mount_point, since);
	g_string_append_printf(text, "passthrough %s; the pool holds %s", report->passthrough ? "on" : "off", held);
	if (report->buried_bytes > 0)
		g_string_append_printf(text, "; %s of removed files are still to be given back", buried);
	g_string_append_printf(text, "; " COUNT " of " COUNT " descriptors\n", (guint64)report->n_descriptors,
			       (guint64)report->max_descriptors);
}

static void append_pool(GString *text, const ClassReport *report)
{
	const AllocStatus *alloc = &report->alloc;
	g_autofree char *bytes = byte_size_format(report->pool_bytes);

	g_string_append_printf(text, "  pool     %u of %u ready (%s", alloc->ready, alloc->ahead, bytes);
	if (report->residency.bytes > 0)
		g_string_append_printf(text, ", %u%% in memory",
				       (unsigned)(report->residency.resident_bytes * 100.0 / report->residency.bytes));
	g_string_append_printf(text, "), %u warming\n", alloc->preparing);
}

static void append_taken(GString *text, const ClassReport *report)
{
	g_autofree char *bytes = byte_size_format(report->live_bytes);

	g_string_append_printf(text, "  taken    " COUNT " live (%s), " COUNT " sealed\n", (guint64)report->n_live, bytes,
			       (guint64)report->n_sealed);
}

static void append_buffers(GString *text, const TransientCounts *transient)
{
	g_autofree char *bytes = byte_size_format(transient->buffer_bytes);
	g_autofree char *uncommitted = byte_size_format(transient->uncommitted_bytes);

	if (transient->n_buffers > 0)
		g_string_append_printf(text, "  buffers  %u of %u free (%s, %s), %s uncommitted, " COUNT " creates got none\n",
				       transient->n_free, transient->n_buffers, bytes,
				       transient->locked ? "locked" : "not locked", uncommitted,
				       (guint64)transient->n_unbuffered);
}

static void append_creates(GString *text, const ClassReport *report)
{
	const uint64_t *counters = report->alloc.counters;

	g_string_append_printf(text, "  creates  " COUNT " hits, " COUNT " misses, " COUNT " timeouts",
			       (guint64)counters[ALLOC_HITS], (guint64)counters[ALLOC_MISSES],
			       (guint64)counters[ALLOC_TIMEOUTS]);
	append_times(text, &report->create_times);
	g_string_append_printf(text, "\n  waits    " COUNT ", %u now", (guint64)counters[ALLOC_WAITS],
			       report->alloc.waiting);
	append_times(text, &report->alloc.wait_times);
	g_string_append_printf(text, "\n  prepare  " COUNT " made, " COUNT " adopted, " COUNT " slow",
			       (guint64)counters[ALLOC_PREPARED], (guint64)counters[ALLOC_ADOPTED],
			       (guint64)counters[ALLOC_SLOW]);
	append_times(text, &report->alloc.prepare_times);
	g_string_append_c(text, '\n');
}

static void append_failures(GString *text, const AllocFailures *failures)
{
	const char *separator = "  failed   ";

	for (int code = 0; code < ALLOC_FAILURES_ERRNOS; code++) {
		if (failures->by_errno[code] == 0)
			continue;
		g_string_append_printf(text, "%s" COUNT " %s", separator, (guint64)failures->by_errno[code],
				       alloc_failures_name(code));
		separator = ", ";
	}
	if (*separator == ',')
		g_string_append_c(text, '\n');
}

static void append_class(GString *text, const ClassReport *report)
{
	const SegmentClass *class = report->class;
	g_autofree char *size = byte_size_format(class->size_bytes);
	int error = report->alloc.error;

	g_string_append_printf(text, "\nclass %s: %s, %s, match=%s\n", class->name, segment_kind_to_string(class->kind),
			       size, glob_pattern(class->match));
	append_pool(text, report);
	append_taken(text, report);
	append_buffers(text, &report->transient);
	append_creates(text, report);
	append_failures(text, &report->alloc.failures);
	if (error)
		g_string_append_printf(text, "  state    degraded: cannot prepare segments: %s; tried again\n",
				       g_strerror(-error));
	else if (report->alloc.drained)
		g_string_append(text, "  state    drained: nothing is prepared until a create, or warmfsctl warm\n");
	else
		g_string_append(text, "  state    ok\n");
}

char *fs_report_to_text(const FsReport *report)
{
	GString *text = g_string_new(NULL);

	append_head(text, report);
	for (size_t i = 0; i < report->n_classes; i++)
		append_class(text, &report->classes[i]);
	if (report->n_classes == 0)
		g_string_append(text, "no class: no file gets a segment; give match= or config=\n");
	return g_string_free(text, FALSE);
}
