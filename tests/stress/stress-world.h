/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the segments of the stress test come from and go to: nowhere at all (a fake provider, slow and failing at
 * random), or real files over system calls that fail at random, with live segments among them.
 *
 * Threads: use, unlink and write from any.
 */
#pragma once

#include "alloc/allocate-service.h"

/* What segments may be locked together. */
#define STRESS_LOCK_BUDGET_BYTES (512 << 10)

typedef struct StressWorld StressWorld;

struct StressWorld {
	/* Immutable. */
	SegmentProvider *provider;
	/* May be NULL. */
	const LiveBytes *live;
	WarmPace *pace;
	SegmentLocks *locks;
	/* Publishes the segment, if that goes well, and gives it back if not. Whether it was published. */
	bool (*use)(StressWorld *world, AllocateService *service, Segment *segment, GRand *rand);
	/* Removes a published file, which may become a segment again. */
	void (*unlink)(StressWorld *world, AllocateService *service, GRand *rand);
	/* Writes to a live segment, if it meets one. */
	void (*write)(StressWorld *world, GRand *rand);
	/* When the service is gone, and `n_ready` segments were left in its pools: nothing else may be. */
	StressWorld *(*free)(StressWorld *world, unsigned n_ready);
};

StressWorld *stress_world_new_fake(GRand *rand);
StressWorld *stress_world_new_files(const ClassRules *rules, const Log *log, GRand *rand);
