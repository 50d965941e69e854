/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A one-shot latch. Whoever waits does so in one of two ways: by blocking in latch_wait_until, or by leaving
 * a function behind that runs when the latch opens. The second costs no thread: it is how a
 * thousand blocked creates wait. Any thread may open it; opening twice is a no-op.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "alloc/sync.h"

/* Runs once, on the thread that opens the latch, with no lock of the latch held. */
typedef void (*LatchFunc)(void *arg);

typedef struct Latch {
	Mutex lock;
	Cond opened;
	/* Protected by lock. */
	bool open;
	LatchFunc func;
	void *func_arg;
} Latch;

void latch_init(Latch *latch);
void latch_deinit(Latch *latch);

void latch_open(Latch *latch);
bool latch_is_open(Latch *latch);

/* True if the latch is open, false if the deadline (monotonic) passed first. */
bool latch_wait_until(Latch *latch, int64_t deadline_ns);

/* Has func called at the opening. False, and nothing left behind, if the latch is open already.
 * One function a latch. */
bool latch_on_open(Latch *latch, LatchFunc func, void *arg);
