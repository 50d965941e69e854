/* SPDX-License-Identifier: Apache-2.0 */
/* A transient pool in a directory of the test's own, on the /dev/shm of the machine. */
#pragma once

#include "alloc/transient-pool.h"
#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

typedef struct TransientFixture {
	TestLog log;
	FakeSys sys;
	char *dir;
	TransientPlace place;
	Clock clock;
	int64_t now_ns;
	/* Without a limit, until a test sets one. */
	uint64_t lock_budget_bytes;
	ClassRules *rules;
	/* The first of the rules. */
	const SegmentClass *class;
	/* NULL until fixture_make_pool. */
	TransientPool *pool;
} TransientFixture;

/* `classes`: as test_class_new has them, divided by ';'. */
void transient_fixture_init(TransientFixture *f, const char *classes);
void transient_fixture_make_pool(TransientFixture *f);
/* Frees the pool, if it is still there. */
void transient_fixture_deinit(TransientFixture *f);
/* The files of the fixture's source. */
unsigned transient_fixture_count_files(const TransientFixture *f);
/* The one that there is (g_free). */
char *transient_fixture_file(const TransientFixture *f);
