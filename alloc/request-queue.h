/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests in the order in which they are to be worked on. Holds a reference to each. No lock of its own: the
 * allocate service's covers queue and table together.
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
/* The first, with the queue's reference, or NULL. */
AllocateRequest *request_queue_pop(RequestQueue *queue);
/* The first, borrowed, or NULL. */
AllocateRequest *request_queue_peek(RequestQueue *queue);
/* Legal for one that is not in the queue. */
void request_queue_remove(RequestQueue *queue, AllocateRequest *request);
unsigned request_queue_length(const RequestQueue *queue);
