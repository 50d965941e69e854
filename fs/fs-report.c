// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-report.h"

static void report_class(Fs *fs, size_t nth, ClassReport *report)
{
	const SegmentClass *class = class_rules_nth(fs->rules, nth);
	LiveCounts live = { 0 };

	*report = (ClassReport){ .class = class, .alloc = allocate_service_status(fs->service, nth) };
	if (fs->live)
		live = live_set_count(fs->live, class);
	report->n_live = live.n_live;
	report->live_bytes = live.live_bytes;
	report->n_sealed = class->kind == SEGMENT_KIND_MAPPED ? report->alloc.counters[ALLOC_TAKEN] : live.n_sealed;
	report->pool_bytes = report->alloc.ready * class->size_bytes;
	if (segment_class_is_warmed(class))
		report->residency = alloc_residency_look(fs->service, &sys_kernel, nth, class);
	report->transient = transient_pool_count(fs->transient, class);
	report->create_times = alloc_times_shared_read(&fs->metrics.create_times[nth]);
}

static void read_metrics(const FsMetrics *metrics, FsReport *report)
{
	for (int i = 0; i < _FS_REQUEST_MAX; i++)
		report->requests[i] = atomic_load_explicit(&metrics->requests[i], memory_order_relaxed);
	for (int i = 0; i < _FS_DATA_PATH_MAX; i++)
		report->opens[i] = atomic_load_explicit(&metrics->opens[i], memory_order_relaxed);
	report->create_times = alloc_times_shared_read(&metrics->create_times[metrics->n_create_times - 1]);
}

FsReport *fs_report_new(Fs *fs)
{
	FsReport *report = g_new0(FsReport, 1);

	report->options = fs->options;
	report->config_lock = &fs->config_lock;
	report->mount_point = fs->mount_point;
	report->started_s = fs->started_s;
	report->passthrough = atomic_load(&fs->passthrough);
	report->held_bytes = fs->provider ? file_provider_held_bytes(fs->provider) : 0;
	report->n_descriptors = atomic_load_explicit(&fs->descriptors.n_used, memory_order_relaxed);
	report->max_descriptors = fs->descriptors.most;
	report->buried_bytes = fs->service ? allocate_service_burying_bytes(fs->service) : 0;
	read_metrics(&fs->metrics, report);
	report->n_classes = fs->service ? class_rules_count(fs->rules) : 0;
	report->classes = g_new0(ClassReport, report->n_classes);
	for (size_t i = 0; i < report->n_classes; i++)
		report_class(fs, i, &report->classes[i]);
	return report;
}

FsReport *fs_report_free(FsReport *report)
{
	if (!report)
		return NULL;
	g_free(report->classes);
	g_free(report);
	return NULL;
}
