/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast preparing ahead may go. It works in stints, one for each segment, and asks before each chunk of work. What
 * it does for nobody in particular gives way to the applications: its I/O is of the idle class, it keeps to a rate,
 * and while others wait for the disk it works little and pauses long. All of that is lifted at once, in
 * the middle of a stint, too, while a create waits.
 *
 * Whether others wait is told by the kernel's count of I/O stalls (/proc/pressure/io), in which our own stalls are,
 * too. So it is looked at in pauses only, in which none of us works: there is one turn, and who has it works a chunk.
 * Where the kernel does not count, there are no pauses.
 *
 * Threads: of a pace, any; it never calls out with its lock held. A stint is one thread's.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "alloc/sync.h"
#include "alloc/sys.h"

typedef struct WarmPace WarmPace;

typedef struct WarmPaceConfig {
	/* Bytes per second; 0: as fast as it goes. */
	uint64_t rate_bytes;
	/* Idle I/O class, and pauses while others wait for the disk. */
	bool yields;
} WarmPaceConfig;

/* `sys` and `clock` are borrowed and must outlive it. */
WarmPace *warm_pace_new(const WarmPaceConfig *config, const Sys *sys, const Clock *clock);
/* From now on, also for stints under way. Takes NULL. */
void warm_pace_change(WarmPace *pace, const WarmPaceConfig *config);
/* No stint may be left. Takes NULL; returns NULL. */
WarmPace *warm_pace_free(WarmPace *pace);

/* A create begins to wait, and ends. Each takes NULL, as the next one does. */
void warm_pace_hurry(WarmPace *pace);
void warm_pace_relax(WarmPace *pace);
/* Some cancel flag was raised: whose it is looks at it. */
void warm_pace_wake(WarmPace *pace);

typedef struct WarmStint {
	/* NULL: nothing is paced, only the flag counts. */
	WarmPace *pace;
	const atomic_bool *cancel;
	bool has_turn;
	/* The thread's I/O class. */
	bool is_idle;
	/* When the current chunk of work was begun. */
	int64_t began_ns;
	/* How long it was kept waiting in all. */
	int64_t paused_ns;
} WarmStint;

void warm_stint_begin(WarmStint *stint, WarmPace *pace, const atomic_bool *cancel);
/* Before a chunk of work that moves so many bytes. Returns when it may be done, 0, or -ECANCELED. */
int warm_stint_step(WarmStint *stint, uint64_t bytes);
/* Also in the middle of a chunk. */
static inline bool warm_stint_is_cancelled(const WarmStint *stint)
{
	return atomic_load_explicit(stint->cancel, memory_order_relaxed);
}

/* Whether others wait for the disk: then nothing is to be left that the disk goes on with in the pause. */
bool warm_stint_is_yielding(const WarmStint *stint);
/* The thread is as it was. */
void warm_stint_end(WarmStint *stint);
