// SPDX-License-Identifier: Apache-2.0
/*
 * The same metrics in two formats. In Prometheus's own, a counter's name is that of its samples, `x_total`; in
 * OpenMetrics the name is `x`, and the samples are called `x_total`.
 */
#include <string.h>

#include "fs/fs-report.h"

/* Of a histogram's buckets, the ones that are told: 16 us to a good minute. */
#define FIRST_BUCKET 4
#define LAST_BUCKET  26

typedef struct MetricsText {
	GString *text;
	bool open_metrics;
} MetricsText;

static void begin(MetricsText *metrics, const char *name, const char *type, const char *help)
{
	bool named_total = strcmp(type, "counter") == 0 && !metrics->open_metrics;
	const char *suffix = named_total ? "_total" : "";

	g_string_append_printf(metrics->text, "# HELP warmfs_%s%s %s\n# TYPE warmfs_%s%s %s\n", name, suffix, help, name,
			       suffix, type);
}

static void append_label(GString *text, const char *separator, const char *label, const char *value)
{
	g_autofree char *valid = g_utf8_make_valid(value, -1);

	g_string_append_printf(text, "%s%s=\"", separator, label);
	for (const char *at = valid; *at; at++) {
		if (*at == '\n')
			g_string_append(text, "\\n");
		else if (*at == '"' || *at == '\\')
			g_string_append_printf(text, "\\%c", *at);
		else
			g_string_append_c(text, *at);
	}
	g_string_append_c(text, '"');
}

static void append_real(GString *text, double value)
{
	char number[G_ASCII_DTOSTR_BUF_SIZE];

	g_string_append(text, g_ascii_formatd(number, sizeof(number), "%.12g", value));
}

/* Up to two labels, each NULL for none. */
static void sample(MetricsText *metrics, const char *name, const char *suffix, const char *label, const char *value,
		   const char *label2, const char *value2, double number)
{
	GString *text = metrics->text;

	g_string_append_printf(text, "warmfs_%s%s", name, suffix);
	if (label)
		append_label(text, "{", label, value);
	if (label2)
		append_label(text, label ? "," : "{", label2, value2);
	g_string_append(text, label || label2 ? "} " : " ");
	append_real(text, number);
	g_string_append_c(text, '\n');
}

/*
 * Of the classes.
 */

typedef struct ClassGauge {
	const char *name;
	const char *help;
	double (*value)(const ClassReport *report);
} ClassGauge;

#define GAUGE(function, expression)                                                                       \
	static double gauge_##function(const ClassReport *report)                                         \
	{                                                                                                 \
		return expression;                                                                        \
	}

GAUGE(ready, report->alloc.ready)
GAUGE(ahead, report->alloc.ahead)
GAUGE(lacking, report->alloc.lacking)
GAUGE(warming, report->alloc.preparing)
GAUGE(live, report->n_live)
GAUGE(pool_bytes, report->pool_bytes)
GAUGE(live_bytes, report->live_bytes)
GAUGE(locked_bytes, report->alloc.locked_bytes)
GAUGE(segment_bytes, report->class->size_bytes)
GAUGE(waiting, report->alloc.waiting)
GAUGE(queued, report->alloc.queued)
GAUGE(degraded, report->alloc.error != 0)
GAUGE(drained, report->alloc.drained)

static const ClassGauge GAUGES[] = {
	{ "segments_ready", "Segments that are ready in the pool.", gauge_ready },
	{ "segments_wanted", "Segments that are to be ready.", gauge_ahead },
	{ "segments_lacking", "Segments that nobody is at yet, though they may be begun.", gauge_lacking },
	{ "segments_warming", "Segments that are being prepared.", gauge_warming },
	{ "segments_live", "Taken segments that are no plain files yet.", gauge_live },
	{ "pool_bytes", "Size of the segments that are ready.", gauge_pool_bytes },
	{ "live_bytes", "Size of the taken segments that are no plain files yet.", gauge_live_bytes },
	{ "locked_bytes", "Memory locked for segments, ready and taken.", gauge_locked_bytes },
	{ "segment_bytes", "Size of one segment.", gauge_segment_bytes },
	{ "creates_waiting", "Creates that wait for a segment now.", gauge_waiting },
	{ "creates_queued", "Creates that wait, and that no thread is at yet.", gauge_queued },
	{ "class_degraded", "1 if the last preparation failed.", gauge_degraded },
	{ "class_drained", "1 if nothing is prepared until somebody asks for it.", gauge_drained },
};

static void write_gauges(MetricsText *metrics, const FsReport *report)
{
	for (size_t i = 0; i < G_N_ELEMENTS(GAUGES); i++) {
		begin(metrics, GAUGES[i].name, "gauge", GAUGES[i].help);
		for (size_t nth = 0; nth < report->n_classes; nth++)
			sample(metrics, GAUGES[i].name, "", "class", report->classes[nth].class->name, NULL, NULL,
			       GAUGES[i].value(&report->classes[nth]));
	}
}

static void write_residency(MetricsText *metrics, const FsReport *report)
{
	const char *name = "pool_resident_ratio";

	begin(metrics, name, "gauge", "Share of the ready segments that is in the page cache.");
	for (size_t nth = 0; nth < report->n_classes; nth++) {
		const AllocResidency *residency = &report->classes[nth].residency;

		if (residency->bytes > 0)
			sample(metrics, name, "", "class", report->classes[nth].class->name, NULL, NULL,
			       (double)residency->resident_bytes / residency->bytes);
	}
}

typedef struct BufferMetric {
	const char *name;
	const char *type;
	const char *help;
	double (*value)(const ClassReport *report);
} BufferMetric;

GAUGE(buffers, report->transient.n_buffers)
GAUGE(buffers_free, report->transient.n_free)
GAUGE(buffers_bytes, report->transient.buffer_bytes)
GAUGE(buffers_locked, report->transient.locked)
GAUGE(uncommitted_bytes, report->transient.uncommitted_bytes)
GAUGE(commits, report->transient.n_commits)
GAUGE(unbuffered, report->transient.n_unbuffered)

static const BufferMetric BUFFER_METRICS[] = {
	{ "buffers", "gauge", "Transient buffers, lent and free.", gauge_buffers },
	{ "buffers_free", "gauge", "Transient buffers that are free.", gauge_buffers_free },
	{ "buffers_bytes", "gauge", "Memory of the transient buffers.", gauge_buffers_bytes },
	{ "buffers_locked", "gauge", "1 if that memory is locked.", gauge_buffers_locked },
	{ "uncommitted_bytes", "gauge", "Bytes in transient buffers that are not in their files yet.",
	  gauge_uncommitted_bytes },
	{ "commits", "counter", "Commits of transient buffers to their files.", gauge_commits },
	{ "unbuffered", "counter", "Creates that found no transient buffer free.", gauge_unbuffered },
};

/* Of the classes that have any. */
static void write_buffers(MetricsText *metrics, const FsReport *report)
{
	for (size_t i = 0; i < G_N_ELEMENTS(BUFFER_METRICS); i++) {
		const BufferMetric *metric = &BUFFER_METRICS[i];
		const char *suffix = strcmp(metric->type, "counter") == 0 ? "_total" : "";

		begin(metrics, metric->name, metric->type, metric->help);
		for (size_t nth = 0; nth < report->n_classes; nth++)
			if (report->classes[nth].transient.n_buffers > 0)
				sample(metrics, metric->name, suffix, "class", report->classes[nth].class->name, NULL,
				       NULL, metric->value(&report->classes[nth]));
	}
}

static const char *counter_help(AllocCounter counter)
{
	static const char *const helps[_ALLOC_COUNTER_MAX] = {
		[ALLOC_TAKEN] = "Creates that got a prepared segment.",
		[ALLOC_HITS] = "Creates that were served from the pool at once.",
		[ALLOC_MISSES] = "Creates that found nothing ready.",
		[ALLOC_WAITS] = "Creates that had to wait.",
		[ALLOC_TIMEOUTS] = "Creates that waited in vain.",
		[ALLOC_OVER_QUOTA] = "Creates that waited in vain because open segments use up the quota.",
		[ALLOC_CANCELLED] = "Creates that were interrupted while they waited.",
		[ALLOC_FAILED] = "Creates that waited for a segment that could not be made.",
		[ALLOC_JOINED] = "Creates that waited for the same path as another one.",
		[ALLOC_EXPIRED] = "Segments that came when whoever they were for was gone.",
		[ALLOC_SUPERSEDED] = "Segments that came when whoever they were for had been served.",
		[ALLOC_PREPARED] = "Segments that were made.",
		[ALLOC_ADOPTED] = "Segments that an earlier mount had left.",
		[ALLOC_SLOW] = "Preparations that took longer than slow_ms.",
		[ALLOC_ERRORS] = "Attempts to make a segment that failed.",
		[ALLOC_GAVE_WAY] = "Ready segments that were given up for space.",
		[ALLOC_LOCK_FAILURES] = "Segments that could not be locked in memory.",
	};

	return helps[counter] ? helps[counter] : "A counter of the class.";
}

static void write_counters(MetricsText *metrics, const FsReport *report)
{
	for (AllocCounter counter = 0; counter < _ALLOC_COUNTER_MAX; counter++) {
		const char *name = alloc_counter_name(counter);

		/* The histogram's sum has it. */
		if (counter == ALLOC_WAIT_US)
			continue;
		begin(metrics, name, "counter", counter_help(counter));
		for (size_t nth = 0; nth < report->n_classes; nth++)
			sample(metrics, name, "_total", "class", report->classes[nth].class->name, NULL, NULL,
			       report->classes[nth].alloc.counters[counter]);
	}
	begin(metrics, "sealed", "counter", "Taken segments that have become plain files.");
	for (size_t nth = 0; nth < report->n_classes; nth++)
		sample(metrics, "sealed", "_total", "class", report->classes[nth].class->name, NULL, NULL,
		       report->classes[nth].n_sealed);
}

static void write_failures(MetricsText *metrics, const FsReport *report)
{
	begin(metrics, "failures", "counter", "Attempts to make a segment that failed, by errno.");
	for (size_t nth = 0; nth < report->n_classes; nth++) {
		const AllocFailures *failures = &report->classes[nth].alloc.failures;

		for (int code = 0; code < ALLOC_FAILURES_ERRNOS; code++)
			if (failures->by_errno[code] > 0)
				sample(metrics, "failures", "_total", "class", report->classes[nth].class->name, "errno",
				       alloc_failures_name(code), failures->by_errno[code]);
	}
}

static void write_histogram(MetricsText *metrics, const char *name, const char *class, const AllocTimes *times)
{
	const char *label = class ? "class" : NULL;
	uint64_t seen = 0;

	for (unsigned bucket = 0; bucket <= LAST_BUCKET; bucket++) {
		char bound[G_ASCII_DTOSTR_BUF_SIZE];

		seen += times->counts[bucket];
		g_ascii_formatd(bound, sizeof(bound), "%.6f", alloc_times_bound_us(bucket) / 1e6);
		if (bucket >= FIRST_BUCKET)
			sample(metrics, name, "_bucket", label, class, "le", bound, seen);
	}
	sample(metrics, name, "_bucket", label, class, "le", "+Inf", alloc_times_count(times));
	sample(metrics, name, "_sum", label, class, NULL, NULL, times->sum_us / 1e6);
	sample(metrics, name, "_count", label, class, NULL, NULL, alloc_times_count(times));
}

static void write_histograms(MetricsText *metrics, const FsReport *report)
{
	begin(metrics, "wait_seconds", "histogram", "How long creates waited, whatever came of it.");
	for (size_t nth = 0; nth < report->n_classes; nth++)
		write_histogram(metrics, "wait_seconds", report->classes[nth].class->name,
				&report->classes[nth].alloc.wait_times);
	begin(metrics, "prepare_seconds", "histogram", "How long preparing a segment took.");
	for (size_t nth = 0; nth < report->n_classes; nth++)
		write_histogram(metrics, "prepare_seconds", report->classes[nth].class->name,
				&report->classes[nth].alloc.prepare_times);
	begin(metrics, "create_seconds", "histogram", "How long creates of new files took, hits and waits alike.");
	for (size_t nth = 0; nth < report->n_classes; nth++)
		write_histogram(metrics, "create_seconds", report->classes[nth].class->name,
				&report->classes[nth].create_times);
	begin(metrics, "create_plain_seconds", "histogram", "How long creates of files without a class took.");
	write_histogram(metrics, "create_plain_seconds", NULL, &report->create_times);
}

/*
 * Of the mount.
 */

static void write_mount(MetricsText *metrics, const FsReport *report)
{
	begin(metrics, "build_info", "gauge", "The version, as a label.");
	sample(metrics, "build_info", "", "version", WARMFS_VERSION, "source", report->options->source, 1);
	begin(metrics, "start_time_seconds", "gauge", "When the mount began, since 1970.");
	sample(metrics, "start_time_seconds", "", NULL, NULL, NULL, NULL, report->started_s);
	begin(metrics, "passthrough", "gauge", "1 if the kernel moves the data by itself.");
	sample(metrics, "passthrough", "", NULL, NULL, NULL, NULL, report->passthrough);
	begin(metrics, "held_bytes", "gauge", "What the pool holds on the disk, half-made segments included.");
	sample(metrics, "held_bytes", "", NULL, NULL, NULL, NULL, report->held_bytes);
	begin(metrics, "buried_bytes", "gauge", "Of removed files, what is still to be given back; it counts as free.");
	sample(metrics, "buried_bytes", "", NULL, NULL, NULL, NULL, report->buried_bytes);
	begin(metrics, "descriptors", "gauge", "Of files that are open, or remembered by the kernel.");
	sample(metrics, "descriptors", "", NULL, NULL, NULL, NULL, report->n_descriptors);
	begin(metrics, "max_descriptors", "gauge", "So many there can be; opens beyond fail with ENFILE.");
	sample(metrics, "max_descriptors", "", NULL, NULL, NULL, NULL, report->max_descriptors);
}

static void write_requests(MetricsText *metrics, const FsReport *report)
{
	begin(metrics, "requests", "counter", "Requests of the kernel.");
	for (FsRequest request = 0; request < _FS_REQUEST_MAX; request++)
		sample(metrics, "requests", "_total", "operation", fs_request_name(request), NULL, NULL,
		       report->requests[request]);
	begin(metrics, "opens", "counter", "Files opened or created, by the way that their data moves.");
	for (FsDataPath path = 0; path < _FS_DATA_PATH_MAX; path++)
		sample(metrics, "opens", "_total", "data_path", fs_data_path_name(path), NULL, NULL,
		       report->opens[path]);
}

char *fs_report_to_metrics(const FsReport *report, bool open_metrics)
{
	MetricsText metrics = { .text = g_string_new(NULL), .open_metrics = open_metrics };

	write_mount(&metrics, report);
	if (report->n_classes > 0) {
		write_gauges(&metrics, report);
		write_residency(&metrics, report);
		write_buffers(&metrics, report);
		write_counters(&metrics, report);
		write_failures(&metrics, report);
	}
	write_histograms(&metrics, report);
	write_requests(&metrics, report);
	if (open_metrics)
		g_string_append(metrics.text, "# EOF\n");
	return g_string_free(metrics.text, FALSE);
}
