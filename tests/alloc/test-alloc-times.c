// SPDX-License-Identifier: Apache-2.0
#include "alloc/alloc-times.h"
#include "tests/lib/test-util.h"

static void test_empty(void)
{
	AllocTimes times = { 0 };

	g_assert_cmpuint(alloc_times_count(&times), ==, 0);
	g_assert_cmpuint(alloc_times_percentile_us(&times, 50), ==, 0);
}

static void test_buckets(void)
{
	static const struct {
		uint64_t us;
		unsigned bucket;
	} CASES[] = {
		{ 0, 0 },	 { 1, 0 },
		{ 2, 1 },	 { 3, 2 },
		{ 4, 2 },	 { 5, 3 },
		{ 1024, 10 },	 { 1025, 11 },
		{ 1u << 30, 30 }, { (1u << 30) + 1, 31 },
		{ UINT64_MAX, 31 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		AllocTimes times = { 0 };

		alloc_times_add(&times, CASES[i].us);
		g_assert_cmpuint(times.counts[CASES[i].bucket], ==, 1);
		g_assert_cmpuint(times.sum_us, ==, CASES[i].us);
		if (CASES[i].bucket < ALLOC_TIMES_BUCKETS - 1)
			g_assert_cmpuint(alloc_times_bound_us(CASES[i].bucket), >=, CASES[i].us);
	}
}

static void test_percentiles(void)
{
	AllocTimes times = { 0 };

	alloc_times_add(&times, 3);
	g_assert_cmpuint(alloc_times_percentile_us(&times, 1), ==, 4);
	g_assert_cmpuint(alloc_times_percentile_us(&times, 100), ==, 4);
	for (unsigned i = 1; i < 99; i++)
		alloc_times_add(&times, 3);
	alloc_times_add(&times, 1000);
	g_assert_cmpuint(alloc_times_count(&times), ==, 100);
	g_assert_cmpuint(alloc_times_percentile_us(&times, 50), ==, 4);
	g_assert_cmpuint(alloc_times_percentile_us(&times, 99), ==, 4);
	g_assert_cmpuint(alloc_times_percentile_us(&times, 100), ==, 1024);
}

static void test_shared(void)
{
	static AllocTimesShared shared;
	AllocTimes plain = { 0 }, copy;

	for (uint64_t us = 1; us < 100000; us *= 3) {
		alloc_times_add(&plain, us);
		alloc_times_shared_add(&shared, us);
	}
	copy = alloc_times_shared_read(&shared);
	g_assert_cmpmem(&copy, sizeof(copy), &plain, sizeof(plain));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/alloc-times/empty", test_empty);
	test_add("/alloc-times/buckets", test_buckets);
	test_add("/alloc-times/percentiles", test_percentiles);
	test_add("/alloc-times/shared", test_shared);
	return g_test_run();
}
