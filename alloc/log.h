/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where log lines go. A Log is handed to whoever may speak; it is immutable once threads run, and
 * its write function is called from any of them.
 */
#pragma once

#include <glib.h>

typedef enum LogLevel {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_DEBUG,
} LogLevel;

typedef struct Log {
	/* Takes one whole line without a newline. Called from any thread. */
	void (*write)(void *arg, LogLevel level, const char *line);
	void *arg;
	/* Lines above this level are dropped before they are formatted. */
	LogLevel max_level;
} Log;

/* A line names the object, the operation, the path, and why (with g_strerror) if it failed. */
void log_line(const Log *log, LogLevel level, const char *format, ...) G_GNUC_PRINTF(3, 4);

#define log_error(log, ...)   log_line(log, LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(log, ...) log_line(log, LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(log, ...)  log_line(log, LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_debug(log, ...)   log_line(log, LOG_LEVEL_DEBUG, __VA_ARGS__)
