// SPDX-License-Identifier: Apache-2.0
#include "alloc/log.h"

#include <stdarg.h>

void log_line(const Log *log, LogLevel level, const LogSubject *subject, const char *format, ...)
{
	va_list args;

	if (level > log->max_level)
		return;
	va_start(args, format);
	g_autofree char *line = g_strdup_vprintf(format, args);
	va_end(args);
	log->write(log->arg, level, subject, line);
}
