// SPDX-License-Identifier: Apache-2.0
#include "alloc/wait-list.h"

void wait_list_push(WaitList *list, AllocateRequest *request)
{
	allocate_request_ref(request);
	g_queue_push_tail_link(&list->requests, &request->waiting_link);
}

void wait_list_remove(WaitList *list, AllocateRequest *request)
{
	g_queue_unlink(&list->requests, &request->waiting_link);
}

unsigned wait_list_length(const WaitList *list)
{
	return list->requests.length;
}

AllocateRequest *wait_list_first(const WaitList *list)
{
	return list->requests.head ? list->requests.head->data : NULL;
}

AllocateRequest *wait_list_oldest_leader(const WaitList *list)
{
	return wait_list_follower(list, NULL);
}

AllocateRequest *wait_list_follower(const WaitList *list, const AllocateRequest *leader)
{
	for (GList *link = list->requests.head; link; link = link->next)
		if (((AllocateRequest *)link->data)->leader == leader)
			return link->data;
	return NULL;
}

AllocateRequest *wait_list_pass_on(WaitList *list, const AllocateRequest *leader)
{
	AllocateRequest *heir = wait_list_follower(list, leader), *other;

	if (!heir)
		return NULL;
	heir->leader = NULL;
	while ((other = wait_list_follower(list, leader)))
		other->leader = heir;
	return heir;
}
