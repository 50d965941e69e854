// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-report.h"
#include "fs/json-writer.h"

static void write_times(JsonWriter *json, const char *key, const AllocTimes *times)
{
	json_begin(json, key, '{');
	json_number(json, "count", alloc_times_count(times));
	json_real(json, "sum_seconds", times->sum_us / 1e6);
	json_real(json, "p50_seconds", alloc_times_percentile_us(times, 50) / 1e6);
	json_real(json, "p99_seconds", alloc_times_percentile_us(times, 99) / 1e6);
	json_end(json, '}');
}

static void write_failures(JsonWriter *json, const AllocFailures *failures)
{
	json_begin(json, "failures", '{');
	for (int code = 0; code < ALLOC_FAILURES_ERRNOS; code++)
		if (failures->by_errno[code] > 0)
			json_number(json, alloc_failures_name(code), failures->by_errno[code]);
	json_end(json, '}');
}

static void write_transient(JsonWriter *json, const TransientCounts *transient)
{
	json_begin(json, "transient", '{');
	json_number(json, "buffers", transient->n_buffers);
	json_number(json, "buffers_free", transient->n_free);
	json_number(json, "buffers_bytes", transient->buffer_bytes);
	json_bool(json, "buffers_locked", transient->locked);
	json_number(json, "uncommitted_bytes", transient->uncommitted_bytes);
	json_number(json, "commits", transient->n_commits);
	json_number(json, "unbuffered", transient->n_unbuffered);
	json_end(json, '}');
}

static void write_class(JsonWriter *json, const ClassReport *report)
{
	const SegmentClass *class = report->class;
	const AllocStatus *alloc = &report->alloc;

	json_begin(json, NULL, '{');
	json_string(json, "name", class->name);
	json_string(json, "kind", segment_kind_to_string(class->kind));
	json_string(json, "match", glob_pattern(class->match));
	json_number(json, "size_bytes", class->size_bytes);
	json_number(json, "ready", alloc->ready);
	json_number(json, "ahead", alloc->ahead);
	json_number(json, "lacking", alloc->lacking);
	json_number(json, "warming", alloc->preparing);
	json_number(json, "waiting", alloc->waiting);
	json_number(json, "queued", alloc->queued);
	json_number(json, "live", report->n_live);
	json_number(json, "live_bytes", report->live_bytes);
	json_number(json, "locked_bytes", alloc->locked_bytes);
	json_number(json, "sealed", report->n_sealed);
	json_number(json, "pool_bytes", report->pool_bytes);
	if (report->residency.bytes > 0)
		json_real(json, "resident_ratio", (double)report->residency.resident_bytes / report->residency.bytes);
	if (report->transient.n_buffers > 0)
		write_transient(json, &report->transient);
	for (AllocCounter counter = 0; counter < _ALLOC_COUNTER_MAX; counter++)
		json_number(json, alloc_counter_name(counter), alloc->counters[counter]);
	write_failures(json, &alloc->failures);
	write_times(json, "create", &report->create_times);
	write_times(json, "wait", &alloc->wait_times);
	write_times(json, "prepare", &alloc->prepare_times);
	json_string(json, "state", alloc->error ? "degraded" : alloc->drained ? "drained" : "ok");
	if (alloc->error)
		json_string(json, "error", alloc_failures_name(-alloc->error));
	json_end(json, '}');
}

static void write_counts(JsonWriter *json, const FsReport *report)
{
	json_begin(json, "requests", '{');
	for (FsRequest request = 0; request < _FS_REQUEST_MAX; request++)
		json_number(json, fs_request_name(request), report->requests[request]);
	json_end(json, '}');
	json_begin(json, "opens", '{');
	for (FsDataPath path = 0; path < _FS_DATA_PATH_MAX; path++)
		json_number(json, fs_data_path_name(path), report->opens[path]);
	json_end(json, '}');
}

char *fs_report_to_json(const FsReport *report)
{
	JsonWriter json = { .text = g_string_new(NULL) };

	json_begin(&json, NULL, '{');
	json_string(&json, "version", WARMFS_VERSION);
	json_string(&json, "source", report->options->source);
	json_string(&json, "mount_point", report->mount_point);
	json_number(&json, "started_seconds", report->started_s);
	json_bool(&json, "passthrough", report->passthrough);
	json_number(&json, "held_bytes", report->held_bytes);
	json_number(&json, "buried_bytes", report->buried_bytes);
	json_number(&json, "descriptors", report->n_descriptors);
	json_number(&json, "max_descriptors", report->max_descriptors);
	json_begin(&json, "classes", '[');
	for (size_t i = 0; i < report->n_classes; i++)
		write_class(&json, &report->classes[i]);
	json_end(&json, ']');
	write_times(&json, "create_without_class", &report->create_times);
	write_counts(&json, report);
	json_end(&json, '}');
	g_string_append_c(json.text, '\n');
	return g_string_free(json.text, FALSE);
}
