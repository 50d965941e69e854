/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One wish for a segment: of a create that waits for it (path set), or of the pool (path NULL).
 *
 * A request that somebody waits for ends exactly once, in one of the states from ALLOCATE_READY on; its latch
 * opens then, on every end. state, error and segment belong to the allocate service before that,
 * and to the waiter after. Its error is its own: no other request sees it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/latch.h"
#include "alloc/segment.h"

typedef enum AllocateState {
	ALLOCATE_QUEUED,
	ALLOCATE_PREPARING,
	/* Failed once, and waits for its next attempt. */
	ALLOCATE_DELAYED,
	/* Waits for the end of an earlier request for the same path. */
	ALLOCATE_JOINED,
	/* From here on: ended. */
	ALLOCATE_READY,
	ALLOCATE_FAILED,
	ALLOCATE_TIMED_OUT,
	ALLOCATE_CANCELLED,
} AllocateState;

typedef struct AllocateRequest {
	atomic_uint refs;
	/* Immutable. */
	const SegmentClass *class;
	char *path;
	uint64_t name_number;
	uint64_t serial;
	int64_t submitted_ns;
	int64_t deadline_ns;
	Latch latch;
	/* Set while it is being prepared: that ends early, with -ECANCELED, unless it is cleared before that is seen. */
	atomic_bool cancel;
	/* The allocate service's until the latch is open. */
	AllocateState state;
	int error;
	Segment *segment;
	unsigned attempts;
	int64_t retry_ns;
	int64_t started_ns;
	/* While it is in the queue; and how many that came later went first. */
	GSequenceIter *queue_place;
	unsigned n_passed_over;
	/* While it is being prepared, or delayed; and whether a preparation is to end because no worker is left for it. */
	GList work_link;
	bool given_up;
	GList waiting_link;
	GList ended_link;
	struct AllocateRequest *leader;
} AllocateRequest;

/* `path` may be NULL. One reference, the caller's. */
AllocateRequest *allocate_request_new(const SegmentClass *class, const char *path, uint64_t serial,
				      int64_t now_ns);
AllocateRequest *allocate_request_ref(AllocateRequest *request);
/* Takes NULL; returns NULL. */
AllocateRequest *allocate_request_unref(AllocateRequest *request);

static inline bool allocate_state_is_end(AllocateState state)
{
	return state >= ALLOCATE_READY;
}

static inline bool allocate_request_has_waiter(const AllocateRequest *request)
{
	return request->path && !allocate_state_is_end(request->state);
}

/* The order of the queue: the larger size first; then the number in the name, ascending; then first come,
 * first served. */
int allocate_request_compare(const AllocateRequest *a, const AllocateRequest *b);

/* The trailing number of a file's name, without what follows a dot ("wal-0012.log" is 12);
 * UINT64_MAX if it has none. */
uint64_t allocate_request_name_number(const char *path);

/* After the latch: hands over the segment, if there is one. */
Segment *allocate_request_steal_segment(AllocateRequest *request);
