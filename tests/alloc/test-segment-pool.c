// SPDX-License-Identifier: Apache-2.0
#include <errno.h>

#include "alloc/segment-pool.h"
#include "alloc/sync.h"
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

static void test_quota_with_others(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=5 quota=6M");
	g_assert_cmpuint(segment_pool_room(&f.pool, 0), ==, 6);
	segment_pool_put(&f.pool, &f.segments[0]);
	f.pool.n_coming = 1;
	f.pool.n_promised = 1;
	f.pool.n_out = 1;
	g_assert_cmpuint(segment_pool_room(&f.pool, 0), ==, 2);
	g_assert_cmpuint(segment_pool_room(&f.pool, 1 << 20), ==, 1);
	g_assert_cmpuint(segment_pool_room(&f.pool, 9 << 20), ==, 0);
	/* What is promised to a waiter and what is live are none of those wanted ready. */
	g_assert_cmpuint(segment_pool_wants(&f.pool, 0), ==, 2);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 1 << 20, 0), ==, 1);
	g_assert_false(segment_pool_is_used_up(&f.pool, 5 << 20));
	g_assert_true(segment_pool_is_used_up(&f.pool, 6 << 20));
	fixture_deinit(&f);
}

static void fill(Fixture *f)
{
	while (segment_pool_ready(&f->pool) < f->pool.depth)
		segment_pool_put(&f->pool, &f->segments[segment_pool_ready(&f->pool)]);
}

/* One more for a miss, but none for those that follow before the pool was full again; and not without end. */
static void test_auto_grows(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=auto max_ahead=4");
	g_assert_cmpuint(f.pool.depth, ==, 2);
	/* It has just begun to fill. */
	segment_pool_missed(&f.pool);
	g_assert_cmpuint(f.pool.depth, ==, 2);
	for (unsigned depth = 3; depth <= 4; depth++) {
		fill(&f);
		while (segment_pool_take(&f.pool))
			;
		for (unsigned i = 0; i < 3; i++) {
			segment_pool_missed(&f.pool);
			g_assert_cmpuint(f.pool.depth, ==, depth);
		}
	}
	fill(&f);
	segment_pool_missed(&f.pool);
	g_assert_cmpuint(f.pool.depth, ==, 4);
	fixture_deinit(&f);
}

static unsigned depth_after_period(Fixture *f, int64_t *now_ns)
{
	Segment *left_over;
	int64_t next_ns = segment_pool_mind_depth(&f->pool, *now_ns, &left_over);

	g_assert_null(left_over);
	g_assert_cmpint(next_ns, ==, *now_ns + 60000 * MS_NS);
	g_assert_cmpint(segment_pool_mind_depth(&f->pool, next_ns - 1, &left_over), ==, next_ns);
	*now_ns = next_ns;
	return f->pool.depth;
}

/* One less when more than half was left at the worst moment of a minute. */
static void test_auto_shrinks(void)
{
	Fixture f;
	Segment *left_over;
	int64_t now_ns = 12345;

	fixture_init(&f, "a size=1M ahead=auto max_ahead=5");
	f.pool.depth = 5;
	depth_after_period(&f, &now_ns);
	fill(&f);
	/* For a part of the first minute there was nothing. */
	g_assert_cmpuint(depth_after_period(&f, &now_ns), ==, 5);
	/* Three of five were used, which were many enough. */
	for (unsigned i = 0; i < 3; i++)
		segment_pool_take(&f.pool);
	fill(&f);
	g_assert_cmpuint(depth_after_period(&f, &now_ns), ==, 5);
	/* Two. */
	segment_pool_take(&f.pool);
	segment_pool_take(&f.pool);
	fill(&f);
	segment_pool_mind_depth(&f.pool, now_ns, &left_over);
	g_assert_nonnull(left_over);
	g_assert_cmpuint(f.pool.depth, ==, 4);
	g_assert_cmpuint(segment_pool_ready(&f.pool), ==, 4);
	/* Never below one. */
	for (unsigned i = 0; i < 10; i++) {
		now_ns += 60000 * MS_NS;
		segment_pool_mind_depth(&f.pool, now_ns, &left_over);
	}
	g_assert_cmpuint(f.pool.depth, ==, 1);
	g_assert_cmpuint(segment_pool_ready(&f.pool), ==, 1);
	fixture_deinit(&f);
}

/* A fixed number stays. */
static void test_fixed_depth(void)
{
	Fixture f;
	Segment *left_over;

	fixture_init(&f, "a size=1M ahead=3 max_ahead=8");
	fill(&f);
	segment_pool_missed(&f.pool);
	g_assert_cmpint(segment_pool_mind_depth(&f.pool, 0, &left_over), ==, DEADLINE_NEVER);
	g_assert_cmpint(segment_pool_mind_depth(&f.pool, 1 << 30, &left_over), ==, DEADLINE_NEVER);
	g_assert_null(left_over);
	g_assert_cmpuint(f.pool.depth, ==, 3);
	fixture_deinit(&f);
}

static void test_compare_need(void)
{
	Fixture deep, small;

	fixture_init(&deep, "deep size=1G ahead=4");
	fixture_init(&small, "small size=1M ahead=2");
	/* Both have nothing, neither has had a turn: the larger. */
	g_assert_cmpint(segment_pool_compare_need(&deep.pool, &small.pool), <, 0);
	g_assert_cmpint(segment_pool_compare_need(&small.pool, &deep.pool), >, 0);
	deep.pool.last_turn = 1;
	g_assert_cmpint(segment_pool_compare_need(&deep.pool, &small.pool), >, 0);
	small.pool.last_turn = 2;
	g_assert_cmpint(segment_pool_compare_need(&deep.pool, &small.pool), <, 0);
	/* A quarter, and nothing; a quarter, and half. */
	segment_pool_put(&deep.pool, &deep.segments[0]);
	g_assert_cmpint(segment_pool_compare_need(&deep.pool, &small.pool), >, 0);
	small.pool.n_coming = 1;
	g_assert_cmpint(segment_pool_compare_need(&deep.pool, &small.pool), <, 0);
	fixture_deinit(&deep);
	fixture_deinit(&small);
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

/* Nothing is wanted until somebody wants something. */
static void test_drained(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=3");
	segment_pool_drain(&f.pool);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 0);
	segment_pool_missed(&f.pool);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 3);
	segment_pool_drain(&f.pool);
	segment_pool_pause(&f.pool, 0);
	segment_pool_fill(&f.pool);
	g_assert_cmpuint(segment_pool_lacks(&f.pool, 0, 0), ==, 3);
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
	test_add("/segment-pool/quota-with-others", test_quota_with_others);
	test_add("/segment-pool/auto-grows", test_auto_grows);
	test_add("/segment-pool/auto-shrinks", test_auto_shrinks);
	test_add("/segment-pool/fixed-depth", test_fixed_depth);
	test_add("/segment-pool/compare-need", test_compare_need);
	test_add("/segment-pool/pause", test_pause);
	test_add("/segment-pool/drained", test_drained);
	return g_test_run();
}
