// SPDX-License-Identifier: Apache-2.0
#include "alloc/descriptor-budget.h"

#include <errno.h>

/* Kept for everything else: so many, or such a part of the limit if that is more. */
#define LEAST_KEPT 64
#define PART_KEPT  16

/* Once there are many, so many less are wanted: a part of `many`, so that not every new one starts it again. */
#define PART_EASED 8

void descriptor_budget_init(DescriptorBudget *budget, size_t limit)
{
	size_t kept = MAX(limit / PART_KEPT, LEAST_KEPT);

	*budget = (DescriptorBudget){ .limit = limit, .most = limit > 2 * kept ? limit - kept : limit / 2 };
	budget->many = budget->most / 2;
	mutex_init(&budget->lock);
	cond_init(&budget->crowded);
	cond_init(&budget->eased);
}

void descriptor_budget_deinit(DescriptorBudget *budget)
{
	cond_deinit(&budget->eased);
	cond_deinit(&budget->crowded);
	mutex_deinit(&budget->lock);
}

void descriptor_budget_take(DescriptorBudget *budget, size_t n)
{
	size_t before = atomic_fetch_add(&budget->n_used, n);

	if (before <= budget->many && before + n > budget->many) {
		MUTEX_SCOPE(&budget->lock);
		cond_signal(&budget->crowded);
	}
}

void descriptor_budget_give(DescriptorBudget *budget, size_t n)
{
	atomic_fetch_sub(&budget->n_used, n);
	atomic_fetch_add_explicit(&budget->n_given, n, memory_order_relaxed);
	if (atomic_load(&budget->n_waiting) > 0) {
		MUTEX_SCOPE(&budget->lock);
		cond_broadcast(&budget->eased);
	}
}

int descriptor_budget_wait(DescriptorBudget *budget, int64_t until_ns)
{
	bool in_time = true;

	if (atomic_fetch_add(&budget->n_waiting, 1) < DESCRIPTOR_BUDGET_MAX_WAITING) {
		MUTEX_SCOPE(&budget->lock);
		while (!descriptor_budget_has_room(budget) && !budget->stopping && in_time)
			in_time = cond_wait_until(&budget->eased, &budget->lock, until_ns);
	}
	atomic_fetch_sub(&budget->n_waiting, 1);
	return descriptor_budget_has_room(budget) ? 0 : -ENFILE;
}

size_t descriptor_budget_wait_crowded(DescriptorBudget *budget)
{
	size_t n_used;

	MUTEX_SCOPE(&budget->lock);
	while ((n_used = atomic_load(&budget->n_used)) <= budget->many && !budget->stopping)
		cond_wait(&budget->crowded, &budget->lock);
	return budget->stopping ? 0 : n_used - (budget->many - budget->many / PART_EASED);
}

bool descriptor_budget_rest(DescriptorBudget *budget, int64_t until_ns)
{
	bool in_time = true;

	MUTEX_SCOPE(&budget->lock);
	while (!budget->stopping && in_time)
		in_time = cond_wait_until(&budget->crowded, &budget->lock, until_ns);
	return !budget->stopping;
}

void descriptor_budget_stop(DescriptorBudget *budget)
{
	MUTEX_SCOPE(&budget->lock);
	budget->stopping = true;
	cond_broadcast(&budget->crowded);
	cond_broadcast(&budget->eased);
}
