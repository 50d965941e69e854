/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process's descriptors, as far as applications cause them: each inode that the kernel remembers has one, each
 * open file and directory, and each live segment. A part of the limit is kept for everything else: the pool, the log,
 * what is opened for a moment.
 *
 * The kernel forgets inodes only when memory is short. From `many` descriptors on it is asked to; at `most`, requests
 * that need one wait a moment for that, and are then refused: before there is none left for what applications know
 * nothing of.
 *
 * Any thread may call anything here.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "alloc/sync.h"

/* Requests wait in threads of which some have to be left to hear what is forgotten. */
#define DESCRIPTOR_BUDGET_MAX_WAITING 48

typedef struct DescriptorBudget {
	/* Immutable: of all, from where on the kernel is asked to forget, and where requests are refused. */
	size_t limit;
	size_t many;
	size_t most;
	atomic_size_t n_used;
	/* Since the beginning. */
	atomic_size_t n_given;
	/* Requests that wait for one to be given back. */
	atomic_uint n_waiting;
	Mutex lock;
	/* There are many. */
	Cond crowded;
	/* One was given back, and somebody waits. */
	Cond eased;
	/* Protected by lock. */
	bool stopping;
} DescriptorBudget;

/* `limit` is what the process may have open. */
void descriptor_budget_init(DescriptorBudget *budget, size_t limit);
void descriptor_budget_deinit(DescriptorBudget *budget);

/* Counts what was opened, and what was closed. */
void descriptor_budget_take(DescriptorBudget *budget, size_t n);
void descriptor_budget_give(DescriptorBudget *budget, size_t n);

/* Before something is opened. 0; -ENFILE if there is no room, and none comes until `until_ns` (monotonic), or too many wait. */
int descriptor_budget_wait(DescriptorBudget *budget, int64_t until_ns);

/* For who makes the kernel forget. How many too many there are, once there are some; 0 when it is to end. */
size_t descriptor_budget_wait_crowded(DescriptorBudget *budget);
/* Waits until `until_ns`. False when that is to end. */
bool descriptor_budget_rest(DescriptorBudget *budget, int64_t until_ns);
void descriptor_budget_stop(DescriptorBudget *budget);

static inline bool descriptor_budget_has_room(DescriptorBudget *budget)
{
	return atomic_load_explicit(&budget->n_used, memory_order_relaxed) < budget->most;
}

static inline bool descriptor_budget_is_crowded(DescriptorBudget *budget)
{
	return atomic_load_explicit(&budget->n_used, memory_order_relaxed) > budget->many;
}
