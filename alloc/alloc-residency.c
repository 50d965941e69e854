// SPDX-License-Identifier: Apache-2.0
#include "alloc/alloc-residency.h"

#include <unistd.h>

/* As many as a pool may be to hold. */
#define MAX_SEGMENTS 64

AllocResidency alloc_residency_look(AllocateService *service, const Sys *sys, size_t nth_class,
				    const SegmentClass *class)
{
	AllocResidency residency = { 0 };
	int fds[MAX_SEGMENTS];
	unsigned n = allocate_service_open_ready(service, nth_class, fds, MAX_SEGMENTS);

	for (unsigned i = 0; i < n; i++) {
		uint64_t resident_bytes;

		if (sys->resident_bytes(sys, fds[i], class->size_bytes, &resident_bytes) == 0) {
			residency.bytes += class->size_bytes;
			residency.resident_bytes += resident_bytes;
		}
		close(fds[i]);
	}
	return residency;
}
