/* SPDX-License-Identifier: Apache-2.0 */
/* Who knows what a class's taken segments hold that are not sealed yet. */
#pragma once

#include <stdint.h>

#include "alloc/segment-class.h"

typedef struct LiveBytes {
	/* Called from any thread, with the allocate service's lock held: it must not block, nor call the service. */
	uint64_t (*of_class)(void *arg, const SegmentClass *class);
	void *arg;
} LiveBytes;
