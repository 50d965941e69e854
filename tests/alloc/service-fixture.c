// SPDX-License-Identifier: Apache-2.0
#include "tests/alloc/service-fixture.h"

#include <stdarg.h>

void fixture_init(Fixture *f, ...)
{
	const char *text;
	va_list args;

	test_log_init(&f->log);
	f->provider = fake_provider_new();
	f->rules = class_rules_new();
	va_start(args, f);
	while ((text = va_arg(args, const char *)))
		class_rules_add(f->rules, test_class_new(text));
	va_end(args);
	f->service = allocate_service_new(f->rules, fake_provider_base(f->provider), &f->log.log);
}

void fixture_start(Fixture *f, unsigned n_threads)
{
	g_assert_cmpint(allocate_service_start(f->service, n_threads), ==, 0);
}

void fixture_deinit(Fixture *f)
{
	allocate_service_stop(f->service);
	f->service = allocate_service_free(f->service);
	f->provider = fake_provider_free(f->provider);
	f->rules = class_rules_free(f->rules);
	test_log_deinit(&f->log);
}

const SegmentClass *nth_class(Fixture *f, size_t nth)
{
	return class_rules_nth(f->rules, nth);
}

AllocateRequest *submit(Fixture *f, size_t nth, const char *path)
{
	return allocate_service_submit(f->service, nth_class(f, nth), path);
}

void expect_end(Fixture *f, AllocateRequest *request, AllocateState state, int error)
{
	static const SegmentTarget target = { .dir_fd = -1, .name = "name" };
	Segment *segment;

	g_assert_true(latch_wait_until(&request->latch, monotonic_ns() + TEST_PATIENCE_NS));
	g_assert_cmpint(request->state, ==, state);
	g_assert_cmpint(request->error, ==, error);
	segment = allocate_request_steal_segment(request);
	g_assert_cmpint(segment != NULL, ==, state == ALLOCATE_READY);
	if (segment) {
		g_assert_true(segment->class == request->class);
		g_assert_false(segment->cold);
		g_assert_cmpint(allocate_service_publish(f->service, segment, &target), ==, 0);
		allocate_service_retire(f->service, segment);
	}
	allocate_request_unref(request);
}

uint64_t counter(Fixture *f, size_t nth, AllocCounter which)
{
	return allocate_service_counter(f->service, nth, which);
}

void wait_ready(Fixture *f, size_t nth, unsigned n)
{
	TEST_WAIT_UNTIL(allocate_service_ready(f->service, nth) == n);
}

/* The smallest segment ahead is the last piece of work in the order of the queue. */
void settle(Fixture *f)
{
	size_t probe = class_rules_count(f->rules) - 1;
	Segment *segment;

	g_assert_cmpstr(nth_class(f, probe)->name, ==, "probe");
	wait_ready(f, probe, 1);
	segment = allocate_service_take(f->service, nth_class(f, probe));
	g_assert_nonnull(segment);
	allocate_service_retire(f->service, segment);
	wait_ready(f, probe, 1);
}

unsigned prepared(Fixture *f, size_t nth)
{
	return fake_provider_succeeded(f->provider, FAKE_PREPARE, nth_class(f, nth));
}

unsigned entered(Fixture *f, size_t nth)
{
	return fake_provider_entered(f->provider, FAKE_PREPARE, nth_class(f, nth));
}

void wait_entered(Fixture *f, size_t nth, unsigned n)
{
	fake_provider_wait_entered(f->provider, FAKE_PREPARE, nth_class(f, nth), n);
}
