/* SPDX-License-Identifier: Apache-2.0 */
/* `mount -o remount,...`: changes what the kernel can change about a mount that is served already. */
#pragma once

#include <stdbool.h>

#include "fs/fs-options.h"

/* ro, rw, nosuid, noatime and the like. What else is in the options stays as it was mounted: a warning on standard error
 * says so, because mount(8) also passes on what fstab has. False with an error if there is no warmfs mount, or the kernel
 * refuses. */
bool remount_run(const FsOptions *options, GError **error);
