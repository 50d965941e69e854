/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where log lines go. A Log is handed to whoever may speak; but for its level it is immutable once threads run, and
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

/* What a line is about, for those who look for lines by that: each part may be missing (NULL, 0). */
typedef struct LogSubject {
	const char *operation;
	const char *path;
	/* An errno, positive or negative. */
	int error;
} LogSubject;

typedef struct Log {
	/* Takes one whole line without a newline. Called from any thread. */
	void (*write)(void *arg, LogLevel level, const LogSubject *subject, const char *line);
	void *arg;
	/* Lines above this level are dropped before they are formatted. */
	_Atomic(LogLevel) max_level;
} Log;

/* A line names the object, the operation, the path, and why (with g_strerror) if it failed. */
void log_line(const Log *log, LogLevel level, const LogSubject *subject, const char *format, ...) G_GNUC_PRINTF(4, 5);

#define log_error(log, ...)   log_line(log, LOG_LEVEL_ERROR, &(const LogSubject){ 0 }, __VA_ARGS__)
#define log_warning(log, ...) log_line(log, LOG_LEVEL_WARNING, &(const LogSubject){ 0 }, __VA_ARGS__)
#define log_notice(log, ...)  log_line(log, LOG_LEVEL_NOTICE, &(const LogSubject){ 0 }, __VA_ARGS__)
#define log_debug(log, ...)   log_line(log, LOG_LEVEL_DEBUG, &(const LogSubject){ 0 }, __VA_ARGS__)

/* What failed: the same line as without, and its parts. `level` is ERROR, WARNING, NOTICE or DEBUG. */
#define log_failure(log, level, operation, path, error, ...) \
	log_line(log, LOG_LEVEL_##level, &(const LogSubject){ operation, path, error }, __VA_ARGS__)
