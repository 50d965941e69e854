// SPDX-License-Identifier: Apache-2.0
/* Starting when threads cannot be made, and freeing what was never started. Linked with
 * --wrap=pthread_create. */
#include <errno.h>

#include "tests/alloc/service-fixture.h"

/* Calls until one fails; 0: none does. The linker's wrapping leaves no other way in than a global.
 */
static unsigned fail_nth;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg)
{
	if (fail_nth > 0 && --fail_nth == 0)
		return EAGAIN;
	return __real_pthread_create(thread, attr, run, arg);
}

static void *do_nothing(void *arg)
{
	return arg;
}

static void test_no_thread(void)
{
	pthread_t first;

	/* The thread sanitizer adds one of its own to the first. */
	g_assert_cmpint(thread_start(&first, "first", do_nothing, NULL), ==, 0);
	pthread_join(first, NULL);
	for (unsigned nth = 1; nth <= 4; nth++) {
		Fixture f;
		AllocateRequest *request;
		unsigned n_threads = test_count_threads();

		fixture_init(&f, "a size=1M ahead=2", NULL);
		request = submit(&f, 0, "a/1");
		fail_nth = nth;
		g_assert_cmpint(allocate_service_start(f.service, 2), ==, -EAGAIN);
		g_assert_cmpuint(fail_nth, ==, 0);
		/* A thread that was joined may be in the list for a moment. */
		TEST_WAIT_UNTIL(test_count_threads() <= n_threads);
		/* Whoever waits already is told at the latest when the service is given up. */
		allocate_service_stop(f.service);
		expect_end(&f, request, ALLOCATE_FAILED, -ESHUTDOWN);
		fixture_deinit(&f);
	}
}

/* More of them work at once, and fewer; and if there cannot be more, it is as it was. */
static void test_other_number_of_threads(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=9", NULL);
	g_assert_cmpint(allocate_service_set_threads(f.service, 2), ==, -ESHUTDOWN);
	fake_provider_hold(f.provider, NULL);
	fixture_start(&f, 1);
	wait_entered(&f, 0, 1);
	fail_nth = 1;
	g_assert_cmpint(allocate_service_set_threads(f.service, 3), ==, -EAGAIN);
	g_assert_cmpint(allocate_service_set_threads(f.service, 3), ==, 0);
	wait_entered(&f, 0, 3);
	g_assert_cmpint(allocate_service_set_threads(f.service, 1), ==, 0);
	fake_provider_let(f.provider, NULL, 2);
	fake_provider_wait_returned(f.provider, FAKE_PREPARE, NULL, 2);
	fake_provider_let(f.provider, NULL, 1);
	wait_entered(&f, 0, 4);
	g_assert_cmpuint(fake_provider_entered(f.provider, FAKE_PREPARE, NULL), ==, 4);
	fake_provider_let_all(f.provider, NULL);
	wait_ready(&f, 0, 9);
	allocate_service_stop(f.service);
	g_assert_cmpint(allocate_service_set_threads(f.service, 2), ==, -ESHUTDOWN);
	fixture_deinit(&f);
}

static void test_free_never_started(void)
{
	Fixture f;

	fixture_init(&f, "a size=1M ahead=2", NULL);
	g_assert_null(allocate_service_free(NULL));
	f.service = allocate_service_free(f.service);
	f.service = allocate_service_new(f.rules, fake_provider_base(f.provider), NULL, &f.log.log);
	fixture_deinit(&f);
}

static void test_stop_never_started(void)
{
	Fixture f;
	AllocateRequest *request;

	fixture_init(&f, "a size=1M ahead=2", NULL);
	request = submit(&f, 0, "a/1");
	allocate_service_stop(f.service);
	expect_end(&f, request, ALLOCATE_FAILED, -ESHUTDOWN);
	g_assert_cmpuint(entered(&f, 0), ==, 0);
	fixture_deinit(&f);
}

static void test_no_classes(void)
{
	Fixture f;

	fixture_init(&f, NULL);
	fixture_start(&f, 1);
	g_assert_false(allocate_service_give_way(f.service));
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/allocate-service/other-number-of-threads", test_other_number_of_threads);
	test_add("/allocate-service/no-thread", test_no_thread);
	test_add("/allocate-service/free-never-started", test_free_never_started);
	test_add("/allocate-service/stop-never-started", test_stop_never_started);
	test_add("/allocate-service/no-classes", test_no_classes);
	return g_test_run();
}
