// SPDX-License-Identifier: Apache-2.0
#include "alloc/end-list.h"

void end_list_init(EndList *list)
{
	*list = (EndList){ .closed = false };
	mutex_init(&list->lock);
	cond_init(&list->filled);
}

void end_list_deinit(EndList *list)
{
	g_assert(g_queue_is_empty(&list->requests));
	cond_deinit(&list->filled);
	mutex_deinit(&list->lock);
}

void end_list_push(EndList *list, AllocateRequest *request)
{
	MUTEX_SCOPE(&list->lock);
	g_queue_push_tail_link(&list->requests, &request->ended_link);
	cond_signal(&list->filled);
}

bool end_list_is_empty(EndList *list)
{
	MUTEX_SCOPE(&list->lock);
	return g_queue_is_empty(&list->requests);
}

static AllocateRequest *pop(EndList *list)
{
	MUTEX_SCOPE(&list->lock);
	GList *link = g_queue_pop_head_link(&list->requests);

	return link ? link->data : NULL;
}

void end_list_open(EndList *list)
{
	AllocateRequest *request;

	while ((request = pop(list))) {
		latch_open(&request->latch);
		allocate_request_unref(request);
	}
}

static bool wait_for_more(EndList *list)
{
	MUTEX_SCOPE(&list->lock);
	while (g_queue_is_empty(&list->requests) && !list->closed)
		cond_wait(&list->filled, &list->lock);
	return !list->closed;
}

void end_list_open_until_closed(EndList *list)
{
	do
		end_list_open(list);
	while (wait_for_more(list));
	end_list_open(list);
}

void end_list_close(EndList *list)
{
	MUTEX_SCOPE(&list->lock);
	list->closed = true;
	cond_signal(&list->filled);
}
