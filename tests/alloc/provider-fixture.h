/* SPDX-License-Identifier: Apache-2.0 */
/* A file provider in a directory of its own, over system calls that can fail. */
#pragma once

#include "alloc/file-provider.h"
#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

typedef struct Fixture {
	TestLog log;
	char *path;
	/* The source, and the pool's segments in it. */
	int source_fd;
	int segments_fd;
	ClassRules *rules;
	PoolDir *dir;
	FakeSys sys;
	FileProvider *provider;
	SegmentProvider *base;
	atomic_bool cancel;
} Fixture;

/* One class of each kind; the sizes are odd on purpose. */
#define MAPPED	     0
#define STREAM	     1
#define MAPPED_BYTES (256 * 1024 + 100)
#define STREAM_BYTES (128 * 1024 + 4096)
#define FOLIO_BYTES  (64 * 1024)

void fixture_init(Fixture *f);
void fixture_deinit(Fixture *f);
/* As a mount that ends, and one that begins. */
void fixture_close(Fixture *f);
void fixture_open(Fixture *f);

const SegmentClass *nth_class(Fixture *f, size_t nth);
Segment *prepare(Fixture *f, size_t nth);
unsigned names_in_pool(Fixture *f);
/* What a segment in the pool must be, to be taken or to be adopted by the next mount. */
void check_in_pool(Fixture *f, const Segment *segment);
struct stat stat_of(int fd);
