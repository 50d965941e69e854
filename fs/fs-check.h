/* SPDX-License-Identifier: Apache-2.0 */
/* `warmfs --check SOURCE`: what mounting does about segments that were left live, without mounting. */
#pragma once

#include "fs/fs-options.h"

/* As fsck's: 0 nothing to do, 1 all of it done, 4 something left as it is, 8 it could not be looked at, 32 stopped by
 * SIGINT, SIGTERM or SIGHUP, which end it between two steps. Lines and, on a terminal, a progress bar go to standard
 * error. */
int fs_check_run(const FsOptions *options);
