// SPDX-License-Identifier: Apache-2.0
#include "tests/alloc/service-fixture.h"

#include <stdarg.h>

static uint64_t live_bytes(void *arg, const SegmentClass *class)
{
	Fixture *f = arg;

	(void)class;
	return atomic_load(&f->live_bytes);
}

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
	atomic_init(&f->live_bytes, 0);
	f->live = (LiveBytes){ .of_class = live_bytes, .arg = f };
	f->service = allocate_service_new(f->rules, fake_provider_base(f->provider), &f->live, &f->log.log);
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

static bool is_settled(Fixture *f)
{
	for (size_t i = 0; i < class_rules_count(f->rules); i++) {
		AllocStatus status = allocate_service_status(f->service, i);

		if (status.lacking + status.preparing + status.queued > 0)
			return false;
	}
	return true;
}

void settle(Fixture *f)
{
	TEST_WAIT_UNTIL(is_settled(f));
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
