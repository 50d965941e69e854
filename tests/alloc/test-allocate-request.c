// SPDX-License-Identifier: Apache-2.0
#include "alloc/allocate-request.h"
#include "tests/lib/test-util.h"

static void test_new(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M timeout=250");
	AllocateRequest *request = allocate_request_new(class, "d/wal-0012.log", 7, 12345);
	AllocateRequest *ahead = allocate_request_new(class, NULL, 8, 0);

	g_assert_true(request->class == class);
	g_assert_cmpstr(request->path, ==, "d/wal-0012.log");
	g_assert_cmpuint(request->name_number, ==, 12);
	g_assert_cmpuint(request->serial, ==, 7);
	g_assert_cmpint(request->submitted_ns, ==, 12345);
	g_assert_cmpint(request->deadline_ns, ==, 12345 + 250 * (int64_t)1000000);
	g_assert_cmpint(request->state, ==, ALLOCATE_QUEUED);
	g_assert_cmpint(request->error, ==, 0);
	g_assert_false(latch_is_open(&request->latch));
	g_assert_true(allocate_request_has_waiter(request));
	g_assert_null(ahead->path);
	g_assert_cmpuint(ahead->name_number, ==, UINT64_MAX);
	g_assert_false(allocate_request_has_waiter(ahead));
	g_assert_null(allocate_request_unref(ahead));
	g_assert_null(allocate_request_unref(request));
}

static void test_longest_timeout(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M timeout=3600000");
	AllocateRequest *request = allocate_request_new(class, "a", 1, 0);

	g_assert_cmpint(request->deadline_ns - request->submitted_ns, ==,
			3600 * (int64_t)1000000000);
	allocate_request_unref(request);
}

static void test_refs(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");
	AllocateRequest *request = allocate_request_new(class, "a", 1, 0);

	g_assert_true(allocate_request_ref(request) == request);
	g_assert_null(allocate_request_unref(request));
	g_assert_cmpstr(request->path, ==, "a");
	g_assert_null(allocate_request_unref(request));
	g_assert_null(allocate_request_unref(NULL));
}

static void test_states(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");
	AllocateRequest *request = allocate_request_new(class, "a", 1, 0);
	static const struct {
		AllocateState state;
		bool is_end;
	} CASES[] = {
		{ ALLOCATE_QUEUED, false },   { ALLOCATE_PREPARING, false },
		{ ALLOCATE_DELAYED, false },  { ALLOCATE_JOINED, false },
		{ ALLOCATE_READY, true },     { ALLOCATE_FAILED, true },
		{ ALLOCATE_TIMED_OUT, true }, { ALLOCATE_CANCELLED, true },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		request->state = CASES[i].state;
		g_assert_cmpint(allocate_state_is_end(CASES[i].state), ==, CASES[i].is_end);
		g_assert_cmpint(allocate_request_has_waiter(request), ==, !CASES[i].is_end);
	}
	allocate_request_unref(request);
}

static void test_steal(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");
	AllocateRequest *request = allocate_request_new(class, "a", 1, 0);
	Segment segment = { .class = class };

	g_assert_null(allocate_request_steal_segment(request));
	request->segment = &segment;
	g_assert_true(allocate_request_steal_segment(request) == &segment);
	g_assert_null(allocate_request_steal_segment(request));
	allocate_request_unref(request);
}

static void test_name_number(void)
{
	static const struct {
		const char *path;
		uint64_t number;
	} CASES[] = {
		{ "wal-0012.log", 12 },
		{ "12", 12 },
		{ "0", 0 },
		{ "a/00000000001073741824", 1073741824 },
		{ "d7/x", UINT64_MAX },
		{ "d7/x9", 9 },
		{ "seg.12", UINT64_MAX },
		{ "3.4.5", 3 },
		{ ".12", UINT64_MAX },
		{ "", UINT64_MAX },
		{ "d/", UINT64_MAX },
		{ "x-5-", UINT64_MAX },
		{ "x--5", 5 },
		{ "x+5", 5 },
		{ "0x1F", UINT64_MAX },
		{ "18446744073709551614", UINT64_MAX - 1 },
		{ "99999999999999999999999999", UINT64_MAX },
		{ "000000010000000000000001", 10000000000000001 },
		{ "name\xc3\xa9"
		  "7",
		  7 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_test_message("%s", CASES[i].path);
		g_assert_cmpuint(allocate_request_name_number(CASES[i].path), ==, CASES[i].number);
	}
}

/* Each comes before all that follow it. */
static void test_compare(void)
{
	g_autoptr(SegmentClass) small = test_class_new("small size=1M");
	g_autoptr(SegmentClass) large = test_class_new("large size=9T");
	AllocateRequest *order[] = {
		allocate_request_new(large, "a/3", 90, 0),
		allocate_request_new(large, "z/7", 20, 0),
		allocate_request_new(large, "a/7", 21, 0),
		allocate_request_new(large, "a/x", 1, 0),
		allocate_request_new(small, "a/1", 2, 0),
		allocate_request_new(small, "a/2", 0, 0),
	};

	for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
		for (size_t j = 0; j < G_N_ELEMENTS(order); j++) {
			int sign = i < j ? -1 : i > j;

			g_test_message("%zu and %zu", i, j);
			g_assert_cmpint(allocate_request_compare(order[i], order[j]), ==, sign);
		}
	}
	for (size_t i = 0; i < G_N_ELEMENTS(order); i++)
		allocate_request_unref(order[i]);
}

static AllocateRequest *random_request(GRand *rand, const SegmentClass *const classes[2], uint64_t serial)
{
	/* The same names in several directories, numbers that fit no integer, and no numbers at all. */
	static const char *const NAMES[] = { "1", "2", "0002", "wal-7.log", "7", "none", "", ".", "5x",
					     "4294967297",
					     "2147483653",
					     "99999999999999999999999999",
					     "18446744073709551615" };
	g_autofree char *path = g_strdup_printf("%c/%s", 'a' + g_rand_int_range(rand, 0, 3),
						NAMES[g_rand_int_range(rand, 0, G_N_ELEMENTS(NAMES))]);

	return allocate_request_new(classes[g_rand_boolean(rand)], path, serial, 0);
}

/* Any names will do; only a request itself is equal to it; and there is one order of all. */
static void test_order_is_total(void)
{
	enum { N = 60 };
	g_autoptr(GRand) rand = test_rand_new();
	g_autoptr(SegmentClass) small = test_class_new("small size=1M");
	g_autoptr(SegmentClass) large = test_class_new("large size=1G");
	const SegmentClass *const classes[] = { small, large };
	AllocateRequest *requests[N];

	for (size_t i = 0; i < N; i++)
		requests[i] = random_request(rand, classes, i);
	for (size_t i = 0; i < N; i++) {
		for (size_t j = 0; j < N; j++) {
			int order = allocate_request_compare(requests[i], requests[j]);

			g_assert_cmpint(order == 0, ==, i == j);
			g_assert_cmpint(order, ==, -allocate_request_compare(requests[j], requests[i]));
			for (size_t k = 0; k < N && order < 0; k++)
				if (allocate_request_compare(requests[j], requests[k]) < 0)
					g_assert_cmpint(allocate_request_compare(requests[i], requests[k]), <,
							0);
		}
	}
	for (size_t i = 0; i < N; i++)
		allocate_request_unref(requests[i]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/allocate-request/new", test_new);
	test_add("/allocate-request/longest-timeout", test_longest_timeout);
	test_add("/allocate-request/refs", test_refs);
	test_add("/allocate-request/states", test_states);
	test_add("/allocate-request/steal", test_steal);
	test_add("/allocate-request/name-number", test_name_number);
	test_add("/allocate-request/compare", test_compare);
	test_add("/allocate-request/B17-the-order-is-total", test_order_is_total);
	return g_test_run();
}
