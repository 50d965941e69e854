/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment provider without files, whose preparations block, fail and run out of space as a test
 * says. It counts every call and knows every segment that is alive: freeing it fails if one is
 * left, and so does consuming one twice.
 *
 * Any function may be called from any thread. Where a class is asked for, NULL means all of them
 * together.
 */
#pragma once

#include <glib.h>

#include "alloc/segment-provider.h"
#include "alloc/segment.h"
#include "alloc/sync.h"

typedef enum FakeCall {
	FAKE_PREPARE,
	FAKE_PREPARE_COLD,
	FAKE_PUBLISH,
	FAKE_DISCARD,
	FAKE_RELEASE,
	FAKE_CHECK_SPACE,
	FAKE_RENEW,
	_FAKE_CALL_MAX,
} FakeCall;

#define FAKE_FOREVER UINT_MAX

typedef struct FakeProvider FakeProvider;

/* Runs inside each prepare, with no lock held: what it returns, if not 0, is the outcome. */
typedef int (*FakePrepareFunc)(void *arg, const SegmentClass *class, const atomic_bool *cancel);

FakeProvider *fake_provider_new(void);
FakeProvider *fake_provider_free(FakeProvider *provider);
SegmentProvider *fake_provider_base(FakeProvider *provider);

/* From now on preparations of the class block on entry (or end with -ECANCELED when told to) ... */
void fake_provider_hold(FakeProvider *provider, const SegmentClass *class);
/* ... until so many more of them may go on, or all. */
void fake_provider_let(FakeProvider *provider, const SegmentClass *class, unsigned n);
void fake_provider_let_all(FakeProvider *provider, const SegmentClass *class);

/* The next calls fail so; decided when a preparation goes on, not when it enters. */
void fake_provider_fail(FakeProvider *provider, FakeCall call, const SegmentClass *class, int error,
			unsigned times);
/* Segments beyond that many bytes fail with -ENOSPC. Published ones keep theirs. */
void fake_provider_limit_space(FakeProvider *provider, uint64_t bytes);
void fake_provider_on_prepare(FakeProvider *provider, FakePrepareFunc func, void *arg);
/* Gives each segment a descriptor and a shared mapping, for the leak check. */
void fake_provider_with_pages(FakeProvider *provider);

/* A segment that is to be renewed, as of a file that an application has removed. */
Segment *fake_provider_removed(FakeProvider *provider, const SegmentClass *class);

/* Calls that were entered, and that have returned, and how many of those well. */
unsigned fake_provider_entered(FakeProvider *provider, FakeCall call, const SegmentClass *class);
unsigned fake_provider_returned(FakeProvider *provider, FakeCall call, const SegmentClass *class);
unsigned fake_provider_succeeded(FakeProvider *provider, FakeCall call, const SegmentClass *class);
void fake_provider_wait_entered(FakeProvider *provider, FakeCall call, const SegmentClass *class,
				unsigned n);
void fake_provider_wait_returned(FakeProvider *provider, FakeCall call, const SegmentClass *class,
				 unsigned n);
/* The class of the nth preparation, from 0, in the order in which they were entered. */
const SegmentClass *fake_provider_nth_entered(FakeProvider *provider, unsigned nth);
unsigned fake_provider_alive(FakeProvider *provider);
