/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is to know of a class, all of one moment: whoever sees a segment ready sees it counted as prepared,
 * too.
 */
#pragma once

#include <stdbool.h>

#include "alloc/alloc-failures.h"
#include "alloc/alloc-metrics.h"
#include "alloc/alloc-times.h"

typedef struct AllocStatus {
	/* Borrowed from the class. */
	const char *class_name;
	uint64_t counters[_ALLOC_COUNTER_MAX];
	/* Of each preparation that succeeded, warming included; of each wait, whatever came of it. */
	AllocTimes prepare_times;
	AllocTimes wait_times;
	/* Attempts to make a segment that failed. */
	AllocFailures failures;
	/* Ready segments, how many there are to be, and how many of those nobody is at yet, though they may be
	 * begun (not in a pause after a failure, nor beyond the quota). */
	unsigned ready;
	unsigned ahead;
	unsigned lacking;
	/* Its space was asked back: nothing is prepared ahead. */
	bool drained;
	/* Segments being prepared, for whomever. */
	unsigned preparing;
	/* Creates that wait, and how many of those are in the queue: no worker is at them. */
	unsigned waiting;
	unsigned queued;
	/* Of taken segments that are not sealed; only looked at if the class has a quota. */
	uint64_t live_bytes;
	/* Of ready and of taken segments, locked in memory. */
	uint64_t locked_bytes;
	/* Why the class is degraded, -errno: its last preparation failed. 0: it is not. */
	int error;
} AllocStatus;

/* One line for people and scripts: `class NAME: taken=1 hits=1 ... error=0 state=ok`. Free with g_free. */
char *alloc_status_to_line(const AllocStatus *status);
