/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that have ended and whose latches are still to be opened. They are put here under whatever lock ended
 * them, and opened without it: a latch's function may do anything. Holds a reference to each. Any thread.
 */
#pragma once

#include "alloc/allocate-request.h"

typedef struct EndList {
	Mutex lock;
	Cond filled;
	/* Protected by lock. */
	GQueue requests;
	bool closed;
} EndList;

void end_list_init(EndList *list);
/* The list must be empty. */
void end_list_deinit(EndList *list);

/* Takes over a reference. */
void end_list_push(EndList *list, AllocateRequest *request);
bool end_list_is_empty(EndList *list);

/* Opens the latches of all that are there, and drops the references. */
void end_list_open(EndList *list);
/* The same, and of all that come, until the list is closed. */
void end_list_open_until_closed(EndList *list);
void end_list_close(EndList *list);
