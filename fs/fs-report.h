/* SPDX-License-Identifier: Apache-2.0 */
/* What a mount has to say of itself at one moment, and the forms in which it says it. */
#pragma once

#include "alloc/alloc-residency.h"
#include "alloc/alloc-status.h"
#include "alloc/live-set.h"
#include "alloc/transient-pool.h"
#include "fs/fs-options.h"
#include "fs/fs.h"

typedef struct ClassReport {
	const SegmentClass *class;
	AllocStatus alloc;
	uint64_t n_live;
	uint64_t live_bytes;
	/* Segments that have become plain files: those of kind `mapped` are from the moment they are taken. */
	uint64_t n_sealed;
	uint64_t pool_bytes;
	/* Of classes that are warmed. */
	AllocResidency residency;
	/* Of classes with transient=on. */
	TransientCounts transient;
	AllocTimes create_times;
} ClassReport;

typedef struct FsReport {
	const FsOptions *options;
	/* Protects where the values are from. */
	Mutex *config_lock;
	const char *mount_point;
	/* Seconds since 1970. */
	int64_t started_s;
	bool passthrough;
	/* What the pool holds on the disk, half-made segments included. */
	uint64_t held_bytes;
	/* Of removed files, what has not been given back yet. */
	uint64_t buried_bytes;
	/* What applications cause, of a limit (alloc/descriptor-budget.h). */
	uint64_t n_descriptors;
	uint64_t max_descriptors;
	uint64_t requests[_FS_REQUEST_MAX];
	uint64_t opens[_FS_DATA_PATH_MAX];
	/* Of files without a class. */
	AllocTimes create_times;
	ClassReport *classes;
	size_t n_classes;
} FsReport;

/* Any thread. What is borrowed lives as long as the mount. */
FsReport *fs_report_new(Fs *fs);
FsReport *fs_report_free(FsReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FsReport, fs_report_free)

/* Each gives a text to free with g_free. */

/* For people: fs/status-text.c. */
char *fs_report_to_text(const FsReport *report);
/* One JSON object: fs/status-json.c. */
char *fs_report_to_json(const FsReport *report);
/* What Prometheus reads, or OpenMetrics, which name counters differently: fs/metrics-text.c. */
char *fs_report_to_metrics(const FsReport *report, bool open_metrics);
/* The options in force, and where each is from: fs/config-text.c. */
char *fs_report_to_config(const FsReport *report);
