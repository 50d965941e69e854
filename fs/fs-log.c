// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "alloc/cleanup.h"
#include "alloc/sync.h"
#include "fs/journal.h"

#define CLASS_PREFIX "class "

typedef enum SinkKind {
	SINK_STDERR,
	SINK_JOURNAL,
	SINK_SYSLOG,
} SinkKind;

typedef struct FsLogSink {
	_Atomic(SinkKind) kind;
	/* Of the journal; immutable once that is the kind. */
	int journal_fd;
	char *source;
	char *mount_point;

	Mutex lock;
	/* Protected by lock. Lines of the interval that began then. */
	int64_t interval_ns;
	unsigned n_lines;
	unsigned n_suppressed;
} FsLogSink;

static const int priorities[] = {
	[LOG_LEVEL_ERROR] = LOG_ERR,
	[LOG_LEVEL_WARNING] = LOG_WARNING,
	[LOG_LEVEL_NOTICE] = LOG_NOTICE,
	[LOG_LEVEL_DEBUG] = LOG_DEBUG,
};

/* A line about a class begins with its name. */
static void append_class(GString *entry, const char *line)
{
	const char *name = line + strlen(CLASS_PREFIX), *end;

	if (!g_str_has_prefix(line, CLASS_PREFIX) || !(end = strchr(name, ':')))
		return;
	g_autofree char *class = g_strndup(name, end - name);
	journal_append(entry, "WARMFS_CLASS", class);
}

static void append_subject(GString *entry, const LogSubject *subject)
{
	char error[16];

	if (subject->operation)
		journal_append(entry, "WARMFS_OPERATION", subject->operation);
	if (subject->path)
		journal_append(entry, "WARMFS_PATH", subject->path);
	if (subject->error == 0)
		return;
	g_snprintf(error, sizeof(error), "%d", ABS(subject->error));
	journal_append(entry, "ERRNO", error);
}

static int send_to_journal(const FsLogSink *sink, LogLevel level, const LogSubject *subject, const char *line)
{
	g_autoptr(GString) entry = g_string_new(NULL);
	char priority[] = { (char)('0' + priorities[level]), '\0' };

	journal_append(entry, "MESSAGE", line);
	journal_append(entry, "PRIORITY", priority);
	journal_append(entry, "SYSLOG_IDENTIFIER", "warmfs");
	journal_append(entry, "WARMFS_SOURCE", sink->source);
	journal_append(entry, "WARMFS_MOUNT", sink->mount_point);
	append_class(entry, line);
	append_subject(entry, subject);
	return journal_send(sink->journal_fd, entry);
}

static void put_line(const FsLogSink *sink, LogLevel level, const LogSubject *subject, const char *line)
{
	switch (atomic_load(&sink->kind)) {
	case SINK_STDERR:
		/* One call, so that lines of several threads do not mix. */
		fprintf(stderr, "warmfs: %s\n", line);
		return;
	case SINK_JOURNAL:
		if (send_to_journal(sink, level, subject, line) == 0)
			return;
		break;
	case SINK_SYSLOG:
		break;
	}
	syslog(LOG_DAEMON | priorities[level], "%s", line);
}

/* How many lines were left out in an interval that is over; they are forgotten. */
static unsigned take_suppressed_locked(FsLogSink *sink, int64_t now_ns)
{
	unsigned n = sink->n_suppressed;

	if (now_ns < sink->interval_ns + FS_LOG_INTERVAL_NS)
		return 0;
	sink->interval_ns = now_ns;
	sink->n_lines = sink->n_suppressed = 0;
	return n;
}

static bool may_pass(FsLogSink *sink, int64_t now_ns, unsigned *ret_suppressed)
{
	MUTEX_SCOPE(&sink->lock);
	*ret_suppressed = take_suppressed_locked(sink, now_ns);
	if (sink->n_lines < FS_LOG_MAX_LINES) {
		sink->n_lines++;
		return true;
	}
	sink->n_suppressed++;
	return false;
}

static void tell_suppressed(const FsLogSink *sink, unsigned n)
{
	g_autofree char *line = g_strdup_printf("log: %u more warnings and errors came too fast to be written", n);

	if (n > 0)
		put_line(sink, LOG_LEVEL_WARNING, &(const LogSubject){ 0 }, line);
}

static void write_line(void *arg, LogLevel level, const LogSubject *subject, const char *line)
{
	FsLogSink *sink = arg;
	unsigned n_suppressed = 0;
	bool pass = level > LOG_LEVEL_WARNING || may_pass(sink, monotonic_ns(), &n_suppressed);

	tell_suppressed(sink, n_suppressed);
	if (pass)
		put_line(sink, level, subject, line);
}

void fs_log_init(Log *log, LogLevel max_level)
{
	FsLogSink *sink = g_new0(FsLogSink, 1);

	atomic_init(&sink->kind, SINK_STDERR);
	sink->journal_fd = -1;
	sink->interval_ns = monotonic_ns();
	mutex_init(&sink->lock);
	*log = (Log){ .write = write_line, .arg = sink, .max_level = max_level };
}

void fs_log_deinit(Log *log)
{
	FsLogSink *sink = log->arg;

	if (!sink)
		return;
	tell_suppressed(sink, sink->n_suppressed);
	cleanup_fd(&sink->journal_fd);
	mutex_deinit(&sink->lock);
	g_free(sink->source);
	g_free(sink->mount_point);
	g_clear_pointer(&log->arg, g_free);
}

void fs_log_settle(Log *log, bool foreground, const char *source, const char *mount_point)
{
	FsLogSink *sink = log->arg;

	if (foreground && !journal_has_stderr())
		return;
	sink->source = g_strdup(source);
	sink->mount_point = g_strdup(mount_point);
	sink->journal_fd = journal_open();
	if (sink->journal_fd >= 0)
		atomic_store(&sink->kind, SINK_JOURNAL);
	else if (!foreground)
		atomic_store(&sink->kind, SINK_SYSLOG);
	/* Also for what the journal does not take. */
	openlog("warmfs", LOG_PID, LOG_DAEMON);
}

void fs_log_say(const Log *log, const char *line)
{
	put_line(log->arg, LOG_LEVEL_NOTICE, &(const LogSubject){ 0 }, line);
}
