// SPDX-License-Identifier: Apache-2.0
#include "alloc/request-queue.h"

void request_queue_init(RequestQueue *queue)
{
	queue->requests = g_sequence_new(NULL);
}

void request_queue_deinit(RequestQueue *queue)
{
	g_assert(g_sequence_is_empty(queue->requests));
	g_clear_pointer(&queue->requests, g_sequence_free);
}

static int compare(gconstpointer a, gconstpointer b, gpointer unused)
{
	(void)unused;
	return allocate_request_compare(a, b);
}

void request_queue_push(RequestQueue *queue, AllocateRequest *request)
{
	g_assert(!request->queue_place);
	request->queue_place =
		g_sequence_insert_sorted(queue->requests, allocate_request_ref(request), compare, NULL);
}

void request_queue_remove(RequestQueue *queue, AllocateRequest *request)
{
	g_assert(g_sequence_iter_get_sequence(request->queue_place) == queue->requests);
	g_sequence_remove(request->queue_place);
	request->queue_place = NULL;
}

static AllocateRequest *at(GSequenceIter *place)
{
	return g_sequence_iter_is_end(place) ? NULL : g_sequence_get(place);
}

AllocateRequest *request_queue_first(const RequestQueue *queue)
{
	return at(g_sequence_get_begin_iter(queue->requests));
}

AllocateRequest *request_queue_next(const AllocateRequest *request)
{
	return at(g_sequence_iter_next(request->queue_place));
}

unsigned request_queue_length(const RequestQueue *queue)
{
	return g_sequence_get_length(queue->requests);
}
