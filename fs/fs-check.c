// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "alloc/cleanup.h"
#include "alloc/recovery.h"
#include "alloc/transient-recovery.h"
#include "fs/fs-log.h"
#include "fs/mount-point.h"
#include "fs/progress-bar.h"

enum {
	STATUS_CLEAN = 0,
	STATUS_CORRECTED = 1,
	STATUS_LEFT = 4,
	STATUS_TROUBLE = 8,
	STATUS_STOPPED = 32,
};

typedef struct Check {
	const FsOptions *options;
	ProgressBar bar;
	/* To standard error; and the same with the bar taken away for the line. */
	Log plain_log;
	Log log;
	/* Blocked, and looked for between two steps. */
	sigset_t stop_signals;
	/* The one that came, or 0. */
	int stopped_by;
} Check;

static void write_line(void *arg, LogLevel level, const LogSubject *subject, const char *line)
{
	Check *check = arg;

	progress_bar_hide(&check->bar);
	check->plain_log.write(check->plain_log.arg, level, subject, line);
	progress_bar_show_again(&check->bar);
}

static void check_init(Check *check, const FsOptions *options)
{
	*check = (Check){ .options = options };
	progress_bar_init(&check->bar);
	fs_log_init(&check->plain_log, LOG_LEVEL_NOTICE);
	check->log = (Log){ .write = write_line, .arg = check, .max_level = LOG_LEVEL_NOTICE };
	sigemptyset(&check->stop_signals);
	sigaddset(&check->stop_signals, SIGINT);
	sigaddset(&check->stop_signals, SIGTERM);
	sigaddset(&check->stop_signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &check->stop_signals, NULL);
	/* Somebody waits for a lease (alloc/reservation.h), which is given up at once in any case. */
	signal(SIGIO, SIG_IGN);
}

static void check_deinit(Check *check)
{
	progress_bar_clear(&check->bar);
	fs_log_deinit(&check->plain_log);
}

static bool show_progress(void *arg, const RecoverySteps *steps)
{
	static const struct timespec at_once;
	Check *check = arg;
	int number = sigtimedwait(&check->stop_signals, NULL, &at_once);

	if (number > 0)
		check->stopped_by = number;
	if (steps->n_total > 0)
		progress_bar_show(&check->bar, steps->done_bytes, steps->total_bytes, "%u of %u segments",
				  steps->n_done, steps->n_total);
	return check->stopped_by == 0;
}

/* NULL without an error if there is none. */
static LiveTable *open_table(Check *check, PoolDir *dir, bool *ret_damaged, GError **error)
{
	g_autoptr(GError) unreadable = NULL;
	LiveTable *table = NULL;

	*ret_damaged = false;
	if (check->options->dry_run) {
		table = live_table_open_to_look(dir->fd, &unreadable);
		*ret_damaged = unreadable;
		if (unreadable)
			log_warning(&check->log, "%s; it would be renamed and not believed", unreadable->message);
	} else if (live_table_exists(dir->fd)) {
		table = live_table_open(dir->fd, &check->log, error);
		*ret_damaged = table && live_table_was_damaged(table);
	}
	return table;
}

static int status_of(const Check *check, const RecoveryResult *result, bool damaged)
{
	bool found = damaged || result->n_sealed > 0;

	if (result->stopped)
		return STATUS_STOPPED;
	if (result->n_failed > 0 || result->n_busy > 0 || (check->options->dry_run && found))
		return STATUS_LEFT;
	return found ? STATUS_CORRECTED : STATUS_CLEAN;
}

static int check_pool(Check *check, const TransientPlace *place, PoolDir *dir, GError **error)
{
	g_autoptr(GError) no_table = NULL;
	g_autoptr(LiveTable) table = NULL;
	TransientResult transient;
	RecoveryResult result;
	bool damaged;
	int r;

	table = open_table(check, dir, &damaged, &no_table);
	if (no_table) {
		g_propagate_error(error, g_steal_pointer(&no_table));
		return STATUS_TROUBLE;
	}
	r = transient_recovery_run(place, dir, check->options->dry_run, &transient);
	if (r == 0)
		r = recovery_run(&sys_kernel, dir, table, &check->log, check->options->dry_run, show_progress, check,
				 &result);
	progress_bar_clear(&check->bar);
	if (r < 0) {
		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-r), "%s: %s", check->options->source,
			    g_strerror(-r));
		return STATUS_TROUBLE;
	}
	if (result.stopped)
		log_notice(&check->log, "--check: stopped by SIG%s after %u segments; the rest is as it was: run it again",
			   sigabbrev_np(check->stopped_by), result.n_sealed + result.n_busy + result.n_failed);
	return status_of(check, &result, damaged);
}

/* Whether there is, or was, anything of ours. To look must make nothing. */
static bool has_pool(int source_fd)
{
	struct stat attr;

	return fstatat(source_fd, POOL_DIR_NAME "/pool", &attr, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

static int check_source(Check *check, GError **error)
{
	const char *source = check->options->source;
	auto_fd source_fd = mount_point_open_source(source, error);
	g_autoptr(PoolDir) dir = NULL;
	TransientPlace place;

	if (source_fd < 0)
		return STATUS_TROUBLE;
	if (mount_point_is_inside_ours(source_fd)) {
		g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
			    "SOURCE %s: served by warmfs, which is mounted there; unmount it first", source);
		return STATUS_TROUBLE;
	}
	if (!has_pool(source_fd))
		return STATUS_CLEAN;
	transient_place_init(&place, &sys_kernel, source_fd, &check->log);
	dir = pool_dir_open(source_fd, source, &check->log, error);
	return dir ? check_pool(check, &place, dir, error) : STATUS_TROUBLE;
}

int fs_check_run(const FsOptions *options)
{
	g_autoptr(GError) error = NULL;
	Check check;
	int status;

	check_init(&check, options);
	status = check_source(&check, &error);
	check_deinit(&check);
	if (error)
		fprintf(stderr, "warmfs: --check: %s\n", error->message);
	return status;
}
