/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Through this table the allocate service makes segments. The built-in provider (alloc/file-provider.h) makes
 * files; tests have their own. Every function may be called from several threads at once, and
 * may block, except publish, which an application is waiting for.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "alloc/segment.h"

typedef struct SegmentProvider SegmentProvider;

struct SegmentProvider {
	/* Makes a ready segment of the class. The caller owns it. Ends early with -ECANCELED when *cancel is
	 * set. On failure nothing stays behind. */
	int (*prepare)(SegmentProvider *provider, const SegmentClass *class, const atomic_bool *cancel,
		       Segment **ret_segment);
	/* Makes an unprepared one of the same kind and size, at once: what is handed out after a timeout. */
	int (*prepare_cold)(SegmentProvider *provider, const SegmentClass *class, Segment **ret_segment);
	/* Gives a segment its name in the source. Fails with -EEXIST, and the segment is as it was, if the
	 * name is taken; other failures too leave it publishable. */
	int (*publish)(SegmentProvider *provider, Segment *segment, const SegmentTarget *target);
	/* Removes the segment and its blocks. Consumes it. */
	void (*discard)(SegmentProvider *provider, Segment *segment);
	/* Unmaps, closes (if fd is still there) and forgets; the file stays as it is. Consumes it. */
	void (*release)(SegmentProvider *provider, Segment *segment);
	/* Checks that the filesystem can give `bytes` for one more segment and keep its reserve. 0 or -ENOSPC. */
	int (*check_space)(SegmentProvider *provider, uint64_t bytes);
};
