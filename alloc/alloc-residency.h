/* SPDX-License-Identifier: Apache-2.0 */
/* How warm a pool is: how much of its ready segments is in the page cache. */
#pragma once

#include "alloc/allocate-service.h"
#include "alloc/sys.h"

typedef struct AllocResidency {
	/* Of the segments that could be looked at: what they hold, and how much of that is in the page cache. Both 0 if
	 * there were none. */
	uint64_t bytes;
	uint64_t resident_bytes;
} AllocResidency;

/* The service's lock is not held while the kernel counts. Any thread. */
AllocResidency alloc_residency_look(AllocateService *service, const Sys *sys, size_t nth_class,
				    const SegmentClass *class);
