// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc/cleanup.h"
#include "alloc/recovery.h"
#include "fs/fs-log.h"
#include "fs/progress-bar.h"

enum {
	STATUS_CLEAN = 0,
	STATUS_CORRECTED = 1,
	STATUS_LEFT = 4,
	STATUS_TROUBLE = 8,
};

static void show_progress(void *arg, unsigned done, unsigned total)
{
	(void)arg;
	progress_bar_show(done, total);
	if (done == total)
		progress_bar_clear();
}

static int trouble(const GError *error)
{
	fprintf(stderr, "warmfs: --check: %s\n", error->message);
	return STATUS_TROUBLE;
}

static int check_pool(const FsOptions *options, PoolDir *dir, const Log *log, GError **error)
{
	g_autoptr(LiveTable) table = NULL;
	RecoveryResult result;
	bool damaged = false;
	int r;

	if (options->dry_run) {
		g_autoptr(GError) unreadable = NULL;

		table = live_table_open_to_look(dir->fd, &unreadable);
		damaged = unreadable;
		if (unreadable)
			log_warning(log, "%s; it would be renamed and not believed",
				    unreadable->message);
	} else if (live_table_exists(dir->fd)) {
		table = live_table_open(dir->fd, log, error);
		if (!table)
			return STATUS_TROUBLE;
		damaged = live_table_was_damaged(table);
	}
	r = recovery_run(&sys_kernel, dir, table, log, options->dry_run, show_progress, NULL,
			 &result);
	if (r < 0) {
		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-r), "%s: %s",
			    options->source, g_strerror(-r));
		return STATUS_TROUBLE;
	}
	if (result.n_failed > 0 || result.n_busy > 0 || (options->dry_run && (damaged || result.n_sealed > 0)))
		return STATUS_LEFT;
	return damaged || result.n_sealed > 0 ? STATUS_CORRECTED : STATUS_CLEAN;
}

int fs_check_run(const FsOptions *options)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(PoolDir) dir = NULL;
	auto_fd source_fd = open(options->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat attr;
	Log log;
	int status;

	/* Somebody waits for a lease (alloc/reservation.h), which is given up at once in any case. */
	signal(SIGIO, SIG_IGN);
	if (source_fd < 0) {
		g_set_error(&error, G_FILE_ERROR, g_file_error_from_errno(errno), "SOURCE %s: %s",
			    options->source, g_strerror(errno));
		return trouble(error);
	}
	/* Never served by warmfs: nothing to check, and nothing is made here. */
	if (fstatat(source_fd, POOL_DIR_NAME, &attr, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return STATUS_CLEAN;
	fs_log_init(&log, LOG_LEVEL_NOTICE);
	dir = pool_dir_open(source_fd, options->source, &log, &error);
	status = dir ? check_pool(options, dir, &log, &error) : STATUS_TROUBLE;
	if (error)
		trouble(error);
	fs_log_deinit(&log);
	return status;
}
