/* SPDX-License-Identifier: Apache-2.0 */
/* An allocate service over a fake provider, for the tests of the service. */
#pragma once

#include "alloc/allocate-service.h"
#include "tests/lib/fake-provider.h"
#include "tests/lib/test-util.h"

typedef struct Fixture {
	TestLog log;
	FakeProvider *provider;
	ClassRules *rules;
	/* What of every class is said to be live. */
	LiveBytes live;
	atomic_uint_fast64_t live_bytes;
	AllocateService *service;
} Fixture;

/* Classes as for test_class_new, up to a NULL. Nothing runs yet. */
void fixture_init(Fixture *f, ...) G_GNUC_NULL_TERMINATED;
void fixture_start(Fixture *f, unsigned n_threads);
/* Stops the service, too. No segment may be left. */
void fixture_deinit(Fixture *f);

const SegmentClass *nth_class(Fixture *f, size_t nth);
AllocateRequest *submit(Fixture *f, size_t nth, const char *path);

/* Waits for the latch, checks how it ended, publishes and retires the segment it may have, unrefs.
 */
void expect_end(Fixture *f, AllocateRequest *request, AllocateState state, int error);
#define expect_ready(f, request) expect_end(f, request, ALLOCATE_READY, 0)

uint64_t counter(Fixture *f, size_t nth, AllocCounter which);
void wait_ready(Fixture *f, size_t nth, unsigned n);

/* With nothing held: returns when nothing more can be prepared. */
void settle(Fixture *f);
unsigned prepared(Fixture *f, size_t nth);
unsigned entered(Fixture *f, size_t nth);
void wait_entered(Fixture *f, size_t nth, unsigned n);
