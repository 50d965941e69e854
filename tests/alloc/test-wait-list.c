// SPDX-License-Identifier: Apache-2.0
#include "alloc/wait-list.h"
#include "tests/lib/test-util.h"

#define N 6

typedef struct Fixture {
	SegmentClass *class;
	WaitList list;
	AllocateRequest *requests[N];
} Fixture;

static void fixture_init(Fixture *f)
{
	*f = (Fixture){ .class = test_class_new("a size=1M") };
	for (size_t i = 0; i < N; i++) {
		f->requests[i] = allocate_request_new(f->class, "a/same", i, 0);
		wait_list_push(&f->list, f->requests[i]);
	}
}

static void remove_nth(Fixture *f, size_t nth)
{
	wait_list_remove(&f->list, f->requests[nth]);
	/* The list's reference. */
	allocate_request_unref(f->requests[nth]);
}

static void fixture_deinit(Fixture *f)
{
	AllocateRequest *request;

	while ((request = wait_list_first(&f->list))) {
		wait_list_remove(&f->list, request);
		allocate_request_unref(request);
	}
	for (size_t i = 0; i < N; i++) {
		g_assert_cmpuint(f->requests[i]->refs, ==, 1);
		allocate_request_unref(f->requests[i]);
	}
	segment_class_free(f->class);
}

static void test_order(void)
{
	Fixture f;
	WaitList empty = { 0 };

	g_assert_null(wait_list_first(&empty));
	g_assert_null(wait_list_oldest_leader(&empty));
	g_assert_cmpuint(wait_list_length(&empty), ==, 0);
	fixture_init(&f);
	g_assert_cmpuint(f.requests[0]->refs, ==, 2);
	g_assert_cmpuint(wait_list_length(&f.list), ==, N);
	g_assert_true(wait_list_first(&f.list) == f.requests[0]);
	remove_nth(&f, 0);
	g_assert_cmpuint(f.requests[0]->refs, ==, 1);
	remove_nth(&f, 2);
	g_assert_true(wait_list_first(&f.list) == f.requests[1]);
	remove_nth(&f, 1);
	g_assert_true(wait_list_first(&f.list) == f.requests[3]);
	g_assert_cmpuint(wait_list_length(&f.list), ==, N - 3);
	fixture_deinit(&f);
}

static void test_leaders(void)
{
	Fixture f;

	fixture_init(&f);
	f.requests[1]->leader = f.requests[0];
	f.requests[2]->leader = f.requests[0];
	f.requests[4]->leader = f.requests[3];
	g_assert_true(wait_list_oldest_leader(&f.list) == f.requests[0]);
	g_assert_true(wait_list_follower(&f.list, f.requests[0]) == f.requests[1]);
	g_assert_true(wait_list_follower(&f.list, f.requests[3]) == f.requests[4]);
	g_assert_null(wait_list_follower(&f.list, f.requests[1]));
	remove_nth(&f, 0);
	g_assert_true(wait_list_oldest_leader(&f.list) == f.requests[3]);
	fixture_deinit(&f);
}

static void test_pass_on(void)
{
	Fixture f;

	fixture_init(&f);
	f.requests[1]->leader = f.requests[0];
	f.requests[2]->leader = f.requests[0];
	f.requests[4]->leader = f.requests[3];
	f.requests[5]->leader = f.requests[0];
	remove_nth(&f, 0);
	g_assert_true(wait_list_pass_on(&f.list, f.requests[0]) == f.requests[1]);
	g_assert_null(f.requests[1]->leader);
	g_assert_true(f.requests[2]->leader == f.requests[1]);
	g_assert_true(f.requests[5]->leader == f.requests[1]);
	g_assert_true(f.requests[4]->leader == f.requests[3]);
	g_assert_null(wait_list_pass_on(&f.list, f.requests[0]));
	g_assert_null(wait_list_follower(&f.list, f.requests[0]));
	g_assert_true(wait_list_oldest_leader(&f.list) == f.requests[1]);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/wait-list/order", test_order);
	test_add("/wait-list/leaders", test_leaders);
	test_add("/wait-list/pass-on", test_pass_on);
	return g_test_run();
}
