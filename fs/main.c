// SPDX-License-Identifier: Apache-2.0
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/fs-check.h"
#include "fs/fs-options.h"
#include "fs/fs-session.h"

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
	if (!options || !fs_session_run(options, &error)) {
		fprintf(stderr, "warmfs: %s\n", error->message);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
