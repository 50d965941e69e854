/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sequence of operations that begins with empty directories: all that a seed and a number need to
 * make it again, and what is made smaller when it finds something.
 */
#pragma once

#include "fuzz/actor.h"
#include "fuzz/step.h"

enum {
	EPISODE_OPS = 1000,
};

typedef struct EpisodeLine {
	char text[240];
	char results[N_WORLDS][48];
} EpisodeLine;

typedef struct Mismatch {
	/* Operation it was found at, and what it was. */
	unsigned index;
	const char *op_name;
	char why[1000];
} Mismatch;

typedef struct Episode {
	Crew *crew;
	Shared *shared;
	uint64_t seed;
	unsigned number;
	unsigned n_ops;
	/* Whole files are compared that often. */
	unsigned check_every;
	/* Operations to leave out. */
	bool left_out[EPISODE_OPS];
	/* What was done, by operation; empty texts for what was not. */
	EpisodeLine lines[EPISODE_OPS];
	Mismatch mismatch;
} Episode;

/* False on a mismatch. */
bool episode_run(Episode *episode);
/* Leaves out what is not needed for the mismatch; the last run is the smallest. */
void episode_reduce(Episode *episode);
/* The last operations before the mismatch, at most that many. */
void episode_print(const Episode *episode, unsigned n_lines);
