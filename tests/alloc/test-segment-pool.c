// SPDX-License-Identifier: Apache-2.0
#include <errno.h>

#include "alloc/segment-pool.h"
#include "tests/lib/test-util.h"

#define MS_NS INT64_C(1000000)

typedef struct Fixture {
	SegmentClass *class;
	SegmentPool pool;
	Segment segments[8];
} Fixture;

static void fixture_init(Fixture *f, const char *class)
{
	*f = (Fixture){ .class = test_class_new(class) };
	segment_pool_init(&f->pool, f->class);
}

static void fixture_deinit(Fixture *f)
{
	while (segment_pool_take(&f->pool))
		;
	segment_pool_deinit(&f->pool);
	segment_class_free(f->class);
}

static void test_first_in_first_out(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=2");
	g_assert_null(segment_pool_take(&f.pool));
	for (size_t i = 0; i < 3; i++) {
		segment_pool_put(&f.pool, &f.segments[i]);
		g_assert_cmpuint(segment_pool_ready(&f.pool), ==, i + 1);
	}
	for (size_t i = 0; i < 3; i++)
		g_assert_true(segment_pool_take(&f.pool) == &f.segments[i]);
	g_assert_cmpuint(segment_pool_ready(&f.pool), ==, 0);
	g_assert_null(segment_pool_take(&f.pool));
	fixture_deinit(&f);
}

static void test_lacks(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=3");
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 3);
	f.pool.n_coming = 1;
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 2);
	segment_pool_put(&f.pool, &f.segments[0]);
	segment_pool_put(&f.pool, &f.segments[1]);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 0);
	/* More than it wants, and without a quota it has room all the same. */
	g_assert_cmpuint(segment_pool_room(&f.pool, 0), >, 0);
	segment_pool_put(&f.pool, &f.segments[2]);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 0);
	fixture_deinit(&f);
}

static void test_lacks_nothing(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=0");
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 0);
	fixture_deinit(&f);
}

static void test_quota(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=5 quota=2500K");
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 2);
	g_assert_cmpuint(segment_pool_room(&f.pool, 0), >, 0);
	segment_pool_put(&f.pool, &f.segments[0]);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 1);
	g_assert_cmpuint(segment_pool_room(&f.pool, 0), >, 0);
	segment_pool_put(&f.pool, &f.segments[1]);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 0);
	g_assert_cmpuint(segment_pool_room(&f.pool, 0), ==, 0);
	fixture_deinit(&f);
}

static void test_quota_below_size(void)
{
	Fixture f;

	fixture_init(&f, "a size=2M ahead=5 quota=1M");
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 0);
	g_assert_cmpuint(segment_pool_room(&f.pool, 0), ==, 0);
	fixture_deinit(&f);
}

static void test_pause(void)
{
	static const int64_t PAUSES_MS[] = { 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000 };
	Fixture f;
	int64_t now_ns = 12345;

	fixture_init(&f, "a size=1M ahead=1");
	g_assert_false(segment_pool_recover(&f.pool));
	for (size_t i = 0; i < G_N_ELEMENTS(PAUSES_MS); i++) {
		segment_pool_pause(&f.pool, now_ns);
		g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, now_ns), ==, 0);
		now_ns += PAUSES_MS[i] * MS_NS;
		g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, now_ns - 1), ==, 0);
		g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, now_ns), ==, 1);
	}
	/* However often: no overflow. */
	for (int i = 0; i < 200; i++)
		segment_pool_pause(&f.pool, now_ns);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, now_ns + 10000 * MS_NS - 1), ==, 0);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, now_ns + 10000 * MS_NS), ==, 1);

	segment_pool_pause(&f.pool, now_ns);
	f.pool.error = -EIO;
	g_assert_true(segment_pool_recover(&f.pool));
	g_assert_cmpint(f.pool.error, ==, 0);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, now_ns), ==, 1);
	g_assert_false(segment_pool_recover(&f.pool));
	/* The first pause again. */
	segment_pool_pause(&f.pool, now_ns);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, now_ns + 100 * MS_NS), ==, 1);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/segment-pool/first-in-first-out", test_first_in_first_out);
	test_add("/segment-pool/lacks", test_lacks);
	test_add("/segment-pool/lacks-nothing", test_lacks_nothing);
	test_add("/segment-pool/quota", test_quota);
	test_add("/segment-pool/quota-below-size", test_quota_below_size);
	test_add("/segment-pool/pause", test_pause);
	return g_test_run();
}
