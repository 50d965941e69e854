/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two threads that go through all segments with a transient buffer, again and again: one commits what is due, the
 * other one, which may be as slow as the disk, flushes it.
 */
#pragma once

#include "alloc/live-set.h"

typedef struct TransientCommit TransientCommit;

/* Starts them. Both are borrowed. NULL if no class has transient=on, or with *ret_r -errno. */
TransientCommit *transient_commit_start(LiveSet *set, const ClassRules *rules, int *ret_r);
/* The intervals of classes have become others, which count from now on. Takes NULL. */
void transient_commit_change(TransientCommit *commit);
/* Ends them; what is uncommitted stays so. Takes NULL; returns NULL. */
TransientCommit *transient_commit_stop(TransientCommit *commit);
