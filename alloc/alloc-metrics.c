// SPDX-License-Identifier: Apache-2.0
#include "alloc/alloc-metrics.h"

#include <stddef.h>

const char *alloc_counter_name(AllocCounter counter)
{
	switch (counter) {
	case ALLOC_TAKEN:
		return "taken";
	case ALLOC_HITS:
		return "hits";
	case ALLOC_MISSES:
		return "misses";
	case ALLOC_WAITS:
		return "waits";
	case ALLOC_WAIT_US:
		return "wait_us";
	case ALLOC_TIMEOUTS:
		return "timeouts";
	case ALLOC_OVER_QUOTA:
		return "over_quota";
	case ALLOC_CANCELLED:
		return "cancelled";
	case ALLOC_FAILED:
		return "failed";
	case ALLOC_JOINED:
		return "joined";
	case ALLOC_EXPIRED:
		return "expired";
	case ALLOC_SUPERSEDED:
		return "superseded";
	case ALLOC_PREPARED:
		return "prepared";
	case ALLOC_ADOPTED:
		return "adopted";
	case ALLOC_RECYCLED:
		return "recycled";
	case ALLOC_NOT_RECYCLED:
		return "not_recycled";
	case ALLOC_SLOW:
		return "slow";
	case ALLOC_ERRORS:
		return "errors";
	case ALLOC_GAVE_WAY:
		return "gave_way";
	case ALLOC_LOCK_FAILURES:
		return "lock_failures";
	case _ALLOC_COUNTER_MAX:
		break;
	}
	return NULL;
}
