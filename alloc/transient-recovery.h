/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon that was killed had acknowledged and not committed: written into its segments, before those are sealed
 * (alloc/recovery.h). What cannot be that is refused with a line: files and slots that do not check, segments that are
 * not live any more, or not that large. Nothing is mapped, and no file becomes shorter.
 */
#pragma once

#include "alloc/pool-dir.h"
#include "alloc/transient-image.h"

typedef struct TransientResult {
	/* Segments that got what they lacked. */
	unsigned n_written;
	/* What could not be, with a line: the memory is kept for the next try. */
	unsigned n_failed;
	unsigned n_refused;
} TransientResult;

/* With dry_run nothing is changed, and the lines say what would be. 0 or -errno: then nothing may be sealed, for what
 * was acknowledged is still to be written. */
int transient_recovery_run(const TransientPlace *place, PoolDir *dir, bool dry_run, TransientResult *ret_result);
