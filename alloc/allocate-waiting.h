/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How creates wait for segments, and how that ends: the half of the scheduler that has to do with requests that
 * somebody waits for. Its header (alloc/allocate-scheduler.h) says what holds for all of it.
 *
 * A waiting request is at any time in exactly one place of work: in the queue, with a worker, delayed until its
 * next attempt, or joined to an earlier request for the same path. So one of them will end it, or its
 * deadline will.
 */
#pragma once

#include "alloc/allocate-scheduler.h"

/* From now on the request waits: for the end of an earlier one for its path, or in the queue. */
void allocate_waiting_begin(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request);

/* The only way in which a waiting request ends. It goes to an end list. */
void allocate_waiting_end(AllocateScheduler *scheduler, AllocateRequest *request, AllocateState how, int error);
/* -ESHUTDOWN for all who wait; what is being prepared is cancelled. */
void allocate_waiting_end_all(AllocateScheduler *scheduler);

/* Into the queue (again). */
void allocate_waiting_enqueue(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request);
/* The queue's reference is the caller's then. */
void allocate_waiting_dequeue(AllocateScheduler *scheduler, ClassState *state, AllocateRequest *request);
