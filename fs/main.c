// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "alloc/cleanup.h"
#include "fs/fs-check.h"
#include "fs/fs-options.h"
#include "fs/fs-session.h"
#include "fs/remount.h"

/* Where mount(8) was told to mount. */
static bool enter_namespace(const char *path, GError **error)
{
	auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && setns(fd, CLONE_NEWNS) == 0)
		return true;
	g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "-N %s: cannot enter the mount namespace: %s",
		    path, g_strerror(errno));
	return false;
}

static bool run(const FsOptions *options, GError **error)
{
	if (options->mount_namespace && !enter_namespace(options->mount_namespace, error))
		return false;
	return options->remount ? remount_run(options, error) : fs_session_run(options, error);
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(FsOptions) options = NULL;

	setlocale(LC_ALL, "");
	options = fs_options_parse(argc, argv, &error);
	if (options && options->show_version) {
		printf("warmfs %s (libfuse %s)\n", WARMFS_VERSION, fuse_pkgversion());
		return EXIT_SUCCESS;
	}
	if (options && options->check)
		return fs_check_run(options);
	if (!options || !run(options, &error)) {
		fprintf(stderr, "warmfs: %s\n", error->message);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
