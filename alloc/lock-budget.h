/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory may be locked: no more than the system lets us, nor than the operator does. Locking more than there is
 * would not fail, it would have the kernel kill processes; so where nothing else is said, it is half of the memory there
 * is.
 */
#pragma once

#include <stdint.h>

/* No limit. */
#define LOCK_BUDGET_MAX UINT64_MAX

/* What the limits are made of; bytes. */
typedef struct LockLimits {
	/* RLIMIT_MEMLOCK; none for who has CAP_IPC_LOCK. */
	uint64_t process;
	/* The least memory limit of our control groups; none if there is none. */
	uint64_t cgroup;
	/* Of the machine. */
	uint64_t memory;
} LockLimits;

void lock_limits_read(LockLimits *ret_limits);

/* The least memory limit on the way from our control group to the root, in both versions' hierarchies. `self` is the text
 * of /proc/self/cgroup, `root` where the hierarchies are mounted (/sys/fs/cgroup). */
uint64_t lock_limits_of_cgroups(const char *self, const char *root);

/* `wanted`: what the operator allows; 0: half of the memory there is. */
uint64_t lock_budget(const LockLimits *limits, uint64_t wanted);
/* The same, by the limits as they are now. */
uint64_t lock_budget_read(uint64_t wanted);
/* What of a budget is left beside what others have locked. */
static inline uint64_t lock_budget_left(uint64_t budget_bytes, uint64_t locked_bytes)
{
	return budget_bytes > locked_bytes ? budget_bytes - locked_bytes : 0;
}
