// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-log.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>

typedef struct FsLogSink {
	atomic_bool to_syslog;
} FsLogSink;

static void write_line(void *arg, LogLevel level, const char *line)
{
	static const int priorities[] = {
		[LOG_LEVEL_ERROR] = LOG_ERR,
		[LOG_LEVEL_WARNING] = LOG_WARNING,
		[LOG_LEVEL_NOTICE] = LOG_NOTICE,
		[LOG_LEVEL_DEBUG] = LOG_DEBUG,
	};
	FsLogSink *sink = arg;

	if (atomic_load(&sink->to_syslog))
		syslog(LOG_DAEMON | priorities[level], "%s", line);
	else
		/* One call, so that lines of several threads do not mix. */
		fprintf(stderr, "warmfs: %s\n", line);
}

void fs_log_init(Log *log, LogLevel max_level)
{
	FsLogSink *sink = g_new(FsLogSink, 1);

	atomic_init(&sink->to_syslog, false);
	*log = (Log){ .write = write_line, .arg = sink, .max_level = max_level };
}

void fs_log_deinit(Log *log)
{
	g_clear_pointer(&log->arg, g_free);
}

void fs_log_to_syslog(Log *log)
{
	FsLogSink *sink = log->arg;

	openlog("warmfs", LOG_PID, LOG_DAEMON);
	atomic_store(&sink->to_syslog, true);
}
