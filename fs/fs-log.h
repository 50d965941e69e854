/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where log lines go: to standard error while there is one, else to systemd's journal, with fields, if that runs, else to
 * syslog. Warnings and errors that come in crowds are counted instead of written.
 */
#pragma once

#include <stdbool.h>

#include "alloc/log.h"

/* Of warnings and errors together, within each interval. */
#define FS_LOG_MAX_LINES 200
#define FS_LOG_INTERVAL_NS (INT64_C(10) * 1000 * 1000 * 1000)

/* To standard error. The log's arg is owned by the log; free with fs_log_deinit. */
void fs_log_init(Log *log, LogLevel max_level);
void fs_log_deinit(Log *log);

/* From here on where lines of a daemon go; in the foreground to standard error, unless that is the journal's. Every entry
 * in the journal has the source and the mount point in fields of its own. Before threads run, or their lines may be split
 * between the two for a moment. */
void fs_log_settle(Log *log, bool foreground, const char *source, const char *mount_point);

/* What was asked for: written whatever the level is. */
void fs_log_say(const Log *log, const char *line);
