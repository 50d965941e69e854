/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mount from beginning to end: look, lock the source, mount, serve, and put everything back in order.
 */
#pragma once

#include <stdbool.h>

#include "fs/fs-options.h"

/* Blocks until the filesystem is unmounted or a signal says stop. False with an error if it could not be mounted;
 * then nothing was. In the background unless options->foreground: the caller's process ends then. */
bool fs_session_run(const FsOptions *options, GError **error);
