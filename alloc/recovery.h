/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon that did not stop, or a power cut, left live: every name in the pool directory
 * whose file has another one is a taken, unsealed segment. Each is sealed, with one line about it,
 * unless it is still open and has nothing but a reservation to give back. The tree is not searched,
 * and each file read at most once.
 */
#pragma once

#include "alloc/live-table.h"
#include "alloc/pool-dir.h"
#include "alloc/sys.h"

typedef struct RecoveryResult {
	unsigned n_sealed;
	unsigned n_failed;
	/* Still open from an earlier mount, so their unused reservation stays. */
	unsigned n_busy;
	/* Ended by `progress`: what was not looked at yet is as it was. */
	bool stopped;
} RecoveryResult;

/* How far it is. Bytes are those of segments that may have to be read. */
typedef struct RecoverySteps {
	unsigned n_done;
	unsigned n_total;
	uint64_t done_bytes;
	uint64_t total_bytes;
} RecoverySteps;

/* Told between any two steps: segments, and pieces of one that are read. False: go no further. */
typedef bool (*RecoveryProgress)(void *arg, const RecoverySteps *steps);

/* `table` and `progress` may be NULL. With dry_run nothing is changed, and the lines say what would
 * be. 0 or -errno (what kept it from looking at all). */
int recovery_run(const Sys *sys, PoolDir *dir, LiveTable *table, const Log *log, bool dry_run,
		 RecoveryProgress progress, void *arg, RecoveryResult *ret_result);
