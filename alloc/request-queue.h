/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that somebody waits for, in the order in which they are to be worked on. Holds a reference to each. No
 * lock of its own: the allocate service's covers queue and table together.
 */
#pragma once

#include "alloc/allocate-request.h"

typedef struct RequestQueue {
	GSequence *requests;
} RequestQueue;

void request_queue_init(RequestQueue *queue);
/* The queue must be empty. */
void request_queue_deinit(RequestQueue *queue);

void request_queue_push(RequestQueue *queue, AllocateRequest *request);
/* The queue's reference is the caller's then. */
void request_queue_remove(RequestQueue *queue, AllocateRequest *request);

/* Borrowed, or NULL. */
AllocateRequest *request_queue_first(const RequestQueue *queue);
AllocateRequest *request_queue_next(const AllocateRequest *request);
unsigned request_queue_length(const RequestQueue *queue);
