/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests of one class that somebody waits for, in order of arrival, which is that of their deadlines. Some have
 * joined an earlier one for the same path, their leader, and wait for its end. Holds a reference to each.
 * No lock of its own: the allocate service's covers it.
 */
#pragma once

#include "alloc/allocate-request.h"

typedef struct WaitList {
	GQueue requests;
} WaitList;

void wait_list_push(WaitList *list, AllocateRequest *request);
/* The list's reference is the caller's then. */
void wait_list_remove(WaitList *list, AllocateRequest *request);
unsigned wait_list_length(const WaitList *list);

/* The one whose deadline comes first, or NULL. */
AllocateRequest *wait_list_first(const WaitList *list);
/* The oldest that a segment may be given to, or NULL. */
AllocateRequest *wait_list_oldest_leader(const WaitList *list);

/* One that has joined `leader`, or NULL. */
AllocateRequest *wait_list_follower(const WaitList *list, const AllocateRequest *leader);
/* The oldest of those leads the others from now on. It is returned; NULL if there is none. */
AllocateRequest *wait_list_pass_on(WaitList *list, const AllocateRequest *leader);
