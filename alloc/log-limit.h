/* SPDX-License-Identifier: Apache-2.0 */
/* At most one line a second of a kind that may come in crowds. No lock of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LOG_LIMIT_INTERVAL_NS INT64_C(1000000000)

typedef struct LogLimit {
	int64_t next_ns;
	unsigned n_suppressed;
} LogLimit;

/* Whether a line may be written now; then also how many since the last one were not. */
static inline bool log_limit_pass(LogLimit *limit, int64_t now_ns, unsigned *ret_suppressed)
{
	if (now_ns < limit->next_ns) {
		limit->n_suppressed++;
		return false;
	}
	*ret_suppressed = limit->n_suppressed;
	*limit = (LogLimit){ .next_ns = now_ns + LOG_LIMIT_INTERVAL_NS };
	return true;
}
