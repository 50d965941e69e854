// SPDX-License-Identifier: Apache-2.0
#include "alloc/allocate-request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

AllocateRequest *allocate_request_new(const SegmentClass *class, const char *path, uint64_t serial,
				      int64_t now_ns)
{
	AllocateRequest *request = g_new0(AllocateRequest, 1);

	atomic_init(&request->refs, 1);
	request->class = class;
	request->path = g_strdup(path);
	request->name_number = path ? allocate_request_name_number(path) : UINT64_MAX;
	request->serial = serial;
	request->submitted_ns = now_ns;
	request->deadline_ns = request->submitted_ns + (int64_t)class->timeout_ms * 1000000;
	atomic_init(&request->cancel, false);
	request->work_link.data = request;
	request->waiting_link.data = request;
	request->ended_link.data = request;
	latch_init(&request->latch);
	return request;
}

AllocateRequest *allocate_request_ref(AllocateRequest *request)
{
	/* Relaxed: the caller has a reference already, so nothing is published here. */
	atomic_fetch_add_explicit(&request->refs, 1, memory_order_relaxed);
	return request;
}

AllocateRequest *allocate_request_unref(AllocateRequest *request)
{
	/* Acquire and release: the last one must see what all others did to the request. */
	if (!request || atomic_fetch_sub_explicit(&request->refs, 1, memory_order_acq_rel) > 1)
		return NULL;
	g_assert(!request->segment);
	g_assert(!request->queue_place);
	latch_deinit(&request->latch);
	g_free(request->path);
	g_free(request);
	return NULL;
}

static int compare_descending(uint64_t a, uint64_t b)
{
	return (a < b) - (a > b);
}

int allocate_request_compare(const AllocateRequest *a, const AllocateRequest *b)
{
	int order = compare_descending(a->class->size_bytes, b->class->size_bytes);

	if (order == 0)
		order = compare_descending(b->name_number, a->name_number);
	if (order == 0)
		order = compare_descending(b->serial, a->serial);
	return order;
}

uint64_t allocate_request_name_number(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t end = strcspn(name, ".");
	size_t start = end;
	uint64_t number;

	while (start > 0 && g_ascii_isdigit(name[start - 1]))
		start--;
	if (start == end)
		return UINT64_MAX;
	errno = 0;
	number = strtoull(name + start, NULL, 10);
	return errno ? UINT64_MAX : number;
}

Segment *allocate_request_steal_segment(AllocateRequest *request)
{
	return g_steal_pointer(&request->segment);
}
