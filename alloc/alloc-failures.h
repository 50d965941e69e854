/* SPDX-License-Identifier: Apache-2.0 */
/* Failures counted by their errno. A plain value: whoever keeps one locks, and a copy is a snapshot. */
#pragma once

#include <stdint.h>
#include <string.h>

/* One more than the largest errno that Linux has; what is none of them counts as 0. */
#define ALLOC_FAILURES_ERRNOS 134

typedef struct AllocFailures {
	uint64_t by_errno[ALLOC_FAILURES_ERRNOS];
} AllocFailures;

/* "ENOSPC"; for what is no errno, "other". */
static inline const char *alloc_failures_name(int code)
{
	const char *name = code > 0 ? strerrorname_np(code) : NULL;

	return name ? name : "other";
}

/* `error` is -errno. */
static inline void alloc_failures_add(AllocFailures *failures, int error)
{
	failures->by_errno[error < 0 && error > -ALLOC_FAILURES_ERRNOS ? -error : 0]++;
}
