// SPDX-License-Identifier: Apache-2.0
#include "alloc/descriptor-budget.h"

#include <errno.h>

#include "tests/lib/test-util.h"

#define LIMIT	  1600
#define LONG_TIME (monotonic_ns() + (int64_t)60 * 1000000000)

typedef struct Waiter {
	DescriptorBudget *budget;
	pthread_t thread;
	int result;
} Waiter;

static void test_levels(void)
{
	static const size_t LIMITS[] = { 2, 100, 1024, 20000, 1048576 };
	DescriptorBudget budget;

	for (size_t i = 0; i < G_N_ELEMENTS(LIMITS); i++) {
		descriptor_budget_init(&budget, LIMITS[i]);
		g_assert_cmpuint(budget.many, <, budget.most);
		g_assert_cmpuint(budget.most, <, LIMITS[i]);
		g_assert_cmpuint(budget.most, >=, LIMITS[i] / 2);
		descriptor_budget_deinit(&budget);
	}
}

static void test_counts(void)
{
	DescriptorBudget budget;

	descriptor_budget_init(&budget, LIMIT);
	descriptor_budget_take(&budget, budget.many);
	g_assert_false(descriptor_budget_is_crowded(&budget));
	descriptor_budget_take(&budget, 1);
	g_assert_true(descriptor_budget_is_crowded(&budget));
	descriptor_budget_take(&budget, budget.most - budget.many - 2);
	g_assert_true(descriptor_budget_has_room(&budget));
	g_assert_cmpint(descriptor_budget_wait(&budget, 0), ==, 0);
	descriptor_budget_take(&budget, 1);
	g_assert_false(descriptor_budget_has_room(&budget));
	g_assert_cmpint(descriptor_budget_wait(&budget, 0), ==, -ENFILE);
	descriptor_budget_give(&budget, 2);
	g_assert_cmpint(descriptor_budget_wait(&budget, 0), ==, 0);
	descriptor_budget_deinit(&budget);
}

static void *wait_run(void *arg)
{
	Waiter *waiter = arg;

	waiter->result = descriptor_budget_wait(waiter->budget, LONG_TIME);
	return NULL;
}

static void start_waiter(Waiter *waiter, DescriptorBudget *budget)
{
	*waiter = (Waiter){ .budget = budget, .result = 1 };
	g_assert_cmpint(thread_start(&waiter->thread, "waiter", wait_run, waiter), ==, 0);
}

static void wait_for_waiters(DescriptorBudget *budget, unsigned n)
{
	while (atomic_load(&budget->n_waiting) < n)
		g_usleep(100);
}

static void test_waits(void)
{
	DescriptorBudget budget;
	Waiter waiter;

	descriptor_budget_init(&budget, LIMIT);
	descriptor_budget_take(&budget, budget.most);
	start_waiter(&waiter, &budget);
	wait_for_waiters(&budget, 1);
	descriptor_budget_give(&budget, 1);
	pthread_join(waiter.thread, NULL);
	g_assert_cmpint(waiter.result, ==, 0);
	descriptor_budget_deinit(&budget);
}

/* Somebody must be left to hear of what the kernel forgets. */
static void test_too_many_wait(void)
{
	DescriptorBudget budget;
	Waiter waiters[DESCRIPTOR_BUDGET_MAX_WAITING];

	descriptor_budget_init(&budget, LIMIT);
	descriptor_budget_take(&budget, budget.most);
	for (size_t i = 0; i < G_N_ELEMENTS(waiters); i++)
		start_waiter(&waiters[i], &budget);
	wait_for_waiters(&budget, G_N_ELEMENTS(waiters));
	g_assert_cmpint(descriptor_budget_wait(&budget, LONG_TIME), ==, -ENFILE);
	descriptor_budget_stop(&budget);
	for (size_t i = 0; i < G_N_ELEMENTS(waiters); i++) {
		pthread_join(waiters[i].thread, NULL);
		g_assert_cmpint(waiters[i].result, ==, -ENFILE);
	}
	descriptor_budget_deinit(&budget);
}

static void *crowded_run(void *arg)
{
	Waiter *waiter = arg;

	waiter->result = (int)descriptor_budget_wait_crowded(waiter->budget);
	return NULL;
}

static int when_crowded(DescriptorBudget *budget, void (*then)(DescriptorBudget *budget))
{
	Waiter waiter = { .budget = budget };

	g_assert_cmpint(thread_start(&waiter.thread, "pruner", crowded_run, &waiter), ==, 0);
	then(budget);
	pthread_join(waiter.thread, NULL);
	return waiter.result;
}

static void take_many(DescriptorBudget *budget)
{
	for (size_t i = 0; i <= budget->many; i++)
		descriptor_budget_take(budget, 1);
}

static void test_crowded(void)
{
	DescriptorBudget budget;

	descriptor_budget_init(&budget, LIMIT);
	/* Fewer than `many` are to be left. */
	g_assert_cmpint(when_crowded(&budget, take_many), >, 1);
	g_assert_true(descriptor_budget_rest(&budget, 0));
	descriptor_budget_give(&budget, 1);
	g_assert_cmpint(when_crowded(&budget, descriptor_budget_stop), ==, 0);
	g_assert_false(descriptor_budget_rest(&budget, LONG_TIME));
	descriptor_budget_deinit(&budget);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/descriptor-budget/levels", test_levels);
	test_add("/descriptor-budget/counts", test_counts);
	test_add("/descriptor-budget/waits", test_waits);
	test_add("/descriptor-budget/too-many-wait", test_too_many_wait);
	test_add("/descriptor-budget/crowded", test_crowded);
	return g_test_run();
}
