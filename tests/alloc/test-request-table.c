// SPDX-License-Identifier: Apache-2.0
#include "alloc/request-table.h"
#include "tests/lib/test-util.h"

static void test_first_stays(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");
	AllocateRequest *first = allocate_request_new(class, "a/1", 1, 0);
	AllocateRequest *second = allocate_request_new(class, "a/1", 2, 0);
	AllocateRequest *other = allocate_request_new(class, "a/2", 3, 0);
	RequestTable table;

	request_table_init(&table);
	g_assert_null(request_table_put_if_absent(&table, first));
	g_assert_true(request_table_put_if_absent(&table, second) == first);
	g_assert_null(request_table_put_if_absent(&table, other));
	/* Borrowed. */
	g_assert_cmpuint(first->refs, ==, 1);

	request_table_remove_if_same(&table, second);
	g_assert_true(request_table_put_if_absent(&table, second) == first);
	request_table_remove_if_same(&table, first);
	g_assert_null(request_table_put_if_absent(&table, second));
	g_assert_true(request_table_put_if_absent(&table, first) == second);
	request_table_remove_if_same(&table, first);
	g_assert_true(request_table_put_if_absent(&table, first) == second);
	request_table_remove_if_same(&table, second);
	request_table_remove_if_same(&table, other);
	/* Again: nothing happens. */
	request_table_remove_if_same(&table, other);
	request_table_deinit(&table);
	allocate_request_unref(other);
	allocate_request_unref(second);
	allocate_request_unref(first);
}

/* The one that put itself in may be gone before the one that takes its place. */
static void test_key_is_the_holders(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");
	AllocateRequest *first = allocate_request_new(class, "a/1", 1, 0);
	AllocateRequest *second = allocate_request_new(class, "a/1", 2, 0);
	RequestTable table;

	request_table_init(&table);
	request_table_put_if_absent(&table, first);
	request_table_remove_if_same(&table, first);
	request_table_put_if_absent(&table, second);
	allocate_request_unref(first);
	first = allocate_request_new(class, "a/1", 3, 0);
	g_assert_true(request_table_put_if_absent(&table, first) == second);
	request_table_remove_if_same(&table, second);
	request_table_deinit(&table);
	allocate_request_unref(first);
	allocate_request_unref(second);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/request-table/first-stays", test_first_stays);
	test_add("/request-table/key-is-the-holders", test_key_is_the_holders);
	return g_test_run();
}
