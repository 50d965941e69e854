// SPDX-License-Identifier: Apache-2.0
#include "alloc/request-queue.h"
#include "tests/lib/test-util.h"

static void test_empty(void)
{
	RequestQueue queue;

	request_queue_init(&queue);
	g_assert_null(request_queue_first(&queue));
	g_assert_cmpuint(request_queue_length(&queue), ==, 0);
	request_queue_deinit(&queue);
}

static void test_holds_references(void)
{
	g_autoptr(SegmentClass) class = test_class_new("a size=1M");
	AllocateRequest *request = allocate_request_new(class, "a/1", 1, 0);
	RequestQueue queue;

	request_queue_init(&queue);
	request_queue_push(&queue, request);
	g_assert_cmpuint(request->refs, ==, 2);
	g_assert_true(request_queue_first(&queue) == request);
	g_assert_null(request_queue_next(request));
	g_assert_cmpuint(request->refs, ==, 2);
	request_queue_remove(&queue, request);
	g_assert_cmpuint(request->refs, ==, 2);
	g_assert_cmpuint(request_queue_length(&queue), ==, 0);
	allocate_request_unref(request);
	/* It may come back. */
	request_queue_push(&queue, request);
	g_assert_true(request_queue_first(&queue) == request);
	request_queue_remove(&queue, request);
	allocate_request_unref(request);
	allocate_request_unref(request);
	request_queue_deinit(&queue);
}

static AllocateRequest *pop(RequestQueue *queue)
{
	AllocateRequest *request = request_queue_first(queue);

	if (request)
		request_queue_remove(queue, request);
	return request;
}

/* Random pushes and removes: the first is never behind another, nor is any behind the next. */
static void test_order(void)
{
	enum { N = 500 };
	g_autoptr(SegmentClass) small = test_class_new("small size=1M");
	g_autoptr(SegmentClass) large = test_class_new("large size=1G");
	g_autoptr(GRand) rand = test_rand_new();
	g_autoptr(GPtrArray) inside = g_ptr_array_new();
	RequestQueue queue;

	request_queue_init(&queue);
	for (unsigned i = 0; i < N; i++) {
		g_autofree char *path = g_strdup_printf("d/%d", g_rand_int_range(rand, 0, 20));
		AllocateRequest *request =
			allocate_request_new(g_rand_boolean(rand) ? small : large, path, i, 0);

		request_queue_push(&queue, request);
		g_ptr_array_add(inside, request);
		allocate_request_unref(request);
		if (g_rand_int_range(rand, 0, 3) == 0) {
			request = g_ptr_array_index(inside, g_rand_int_range(rand, 0, inside->len));
			g_ptr_array_remove_fast(inside, request);
			request_queue_remove(&queue, request);
			allocate_request_unref(request);
		}
		if (g_rand_int_range(rand, 0, 4) == 0 && (request = pop(&queue))) {
			g_assert_true(g_ptr_array_remove_fast(inside, request));
			for (guint j = 0; j < inside->len; j++)
				g_assert_cmpint(allocate_request_compare(
							request, g_ptr_array_index(inside, j)),
						<, 0);
			allocate_request_unref(request);
		}
		g_assert_cmpuint(request_queue_length(&queue), ==, inside->len);
	}
	AllocateRequest *last = NULL, *next;
	for (next = request_queue_first(&queue); next; next = request_queue_next(next)) {
		g_assert_true(!last || allocate_request_compare(last, next) < 0);
		last = next;
	}
	while ((next = pop(&queue)))
		allocate_request_unref(next);
	request_queue_deinit(&queue);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/request-queue/empty", test_empty);
	test_add("/request-queue/holds-references", test_holds_references);
	test_add("/request-queue/order", test_order);
	return g_test_run();
}
