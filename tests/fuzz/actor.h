/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes that do the operations: this one, another as root, and one of a common user. Each
 * has descriptors and mappings of its own.
 */
#pragma once

#include "fuzz/step.h"

typedef struct Crew Crew;

/* Forks the others, which end with this process. `shared` is memory that they share. */
Crew *crew_new(Shared *shared);
Crew *crew_free(Crew *crew);

/* Has it done; what has come of it is in `shared`. False if a process is gone. */
bool crew_perform(Crew *crew, const Op *op);
/* All descriptors closed; the mappings, too, if wanted. */
bool crew_close_files(Crew *crew, bool mappings);
