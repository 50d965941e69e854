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

AllocateRequest *request_queue_peek(RequestQueue *queue)
{
	GSequenceIter *first = g_sequence_get_begin_iter(queue->requests);

	return g_sequence_iter_is_end(first) ? NULL : g_sequence_get(first);
}

AllocateRequest *request_queue_pop(RequestQueue *queue)
{
	AllocateRequest *request = request_queue_peek(queue);

	if (request) {
		g_sequence_remove(request->queue_place);
		request->queue_place = NULL;
	}
	return request;
}

void request_queue_remove(RequestQueue *queue, AllocateRequest *request)
{
	(void)queue;
	if (!request->queue_place)
		return;
	g_sequence_remove(request->queue_place);
	request->queue_place = NULL;
	allocate_request_unref(request);
}

unsigned request_queue_length(const RequestQueue *queue)
{
	return g_sequence_get_length(queue->requests);
}
