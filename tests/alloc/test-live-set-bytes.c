// SPDX-License-Identifier: Apache-2.0
/* How much of a class is live. */
#include "alloc/live-set.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc/segment-name.h"
#include "alloc/segment-trailer.h"
#include "tests/lib/test-util.h"

typedef struct Fixture {
	TestLog log;
	char *path;
	int dir_fd;
	LiveTable *table;
	SegmentClass *small;
	SegmentClass *large;
	SegmentClass *stream;
	LiveSet *set;
	uint64_t serial;
} Fixture;

static void fixture_init(Fixture *f)
{
	*f = (Fixture){ .path = TEST_DIR_NEW(), .small = test_class_new("small kind=append size=64K"),
			.large = test_class_new("large kind=append size=1M"),
			.stream = test_class_new("stream kind=stream size=2M") };
	test_log_init(&f->log);
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->table = live_table_open(f->dir_fd, &f->log.log, NULL);
	g_assert_nonnull(f->table);
	f->set = live_set_new(&(LivePlace){ &sys_kernel, f->table, f->dir_fd, &f->log.log });
}

static void fixture_deinit(Fixture *f)
{
	f->set = live_set_free(f->set);
	live_table_close(f->table);
	close(f->dir_fd);
	segment_class_free(f->small);
	segment_class_free(f->large);
	segment_class_free(f->stream);
	test_log_deinit(&f->log);
	test_dir_remove(f->path);
}

/* Takes one, which is open then. */
static LiveSegment *take(Fixture *f, const SegmentClass *class)
{
	Segment segment = { .class = class };
	LiveSegment *live = NULL;
	g_autofree char *visible = g_strdup_printf("visible-%u", (unsigned)++f->serial);

	segment_name_ready(segment.name, class, f->serial);
	segment.fd = openat(f->dir_fd, segment.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(segment.fd, >=, 0);
	if (class->kind == SEGMENT_KIND_APPEND)
		g_assert_cmpint(segment_trailer_make(&sys_kernel, segment.fd, class->size_bytes, segment.name),
				==, 0);
	g_assert_cmpint(live_set_add(f->set, &segment, &live), ==, 0);
	g_assert_cmpint(linkat(f->dir_fd, segment.name, f->dir_fd, visible, 0), ==, 0);
	close(segment.fd);
	return live;
}

static void test_bytes(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpuint(live_set_bytes(f.set, f.small), ==, 0);
	LiveSegment *first = take(&f, f.small);
	g_assert_cmpuint(live_set_bytes(f.set, f.small), ==, 64 << 10);
	LiveSegment *second = take(&f, f.small);
	LiveSegment *other = take(&f, f.large);
	g_assert_cmpuint(live_set_bytes(f.set, f.small), ==, 128 << 10);
	g_assert_cmpuint(live_set_bytes(f.set, f.large), ==, 1 << 20);
	/* Closed, it is live until its linger time is over. */
	live_set_published(f.set, other);
	g_assert_cmpuint(live_set_bytes(f.set, f.large), ==, 1 << 20);
	/* Sealed, it is a plain file, also while it is open. */
	g_assert_cmpint(live_segment_seal(first), ==, 0);
	g_assert_cmpuint(live_set_bytes(f.set, f.small), ==, 64 << 10);
	/* It could not be published. */
	live_set_drop(f.set, second);
	g_assert_cmpuint(live_set_bytes(f.set, f.small), ==, 0);
	live_set_close(f.set, first);
	fixture_deinit(&f);
}

static void assert_counts(LiveSet *set, const SegmentClass *class, uint64_t n_live, uint64_t n_sealed)
{
	LiveCounts counts = live_set_count(set, class);

	g_assert_cmpuint(counts.n_live, ==, n_live);
	g_assert_cmpuint(counts.live_bytes, ==, n_live * class->size_bytes);
	g_assert_cmpuint(counts.n_sealed, ==, n_sealed);
}

static void test_counts(void)
{
	Fixture f;

	fixture_init(&f);
	assert_counts(f.set, f.small, 0, 0);
	LiveSegment *first = take(&f, f.small), *second = take(&f, f.small), *third = take(&f, f.small);
	assert_counts(f.set, f.small, 3, 0);
	assert_counts(f.set, f.large, 0, 0);
	g_assert_true(live_set_class_of(f.set, first->dev, first->ino) == f.small);
	g_assert_null(live_set_class_of(f.set, first->dev, first->ino + 1000000));
	/* What could not be published was never live for anybody. */
	live_set_drop(f.set, third);
	assert_counts(f.set, f.small, 2, 0);
	g_assert_cmpint(live_segment_seal(first), ==, 0);
	g_assert_null(live_set_class_of(f.set, first->dev, first->ino));
	live_set_close(f.set, first);
	assert_counts(f.set, f.small, 1, 1);
	assert_counts(f.set, f.large, 0, 0);
	live_set_close(f.set, second);
	assert_counts(f.set, f.small, 1, 1);
	fixture_deinit(&f);
}

static void test_seal_now(void)
{
	Fixture f;

	fixture_init(&f);
	LiveSegment *live = take(&f, f.small);
	dev_t dev = live->dev;
	ino_t ino = live->ino;
	/* Also while it is open; and it is done once. */
	g_assert_cmpint(live_set_seal(f.set, dev, ino), ==, 0);
	assert_counts(f.set, f.small, 0, 0);
	live_set_close(f.set, live);
	assert_counts(f.set, f.small, 0, 1);
	g_assert_cmpint(live_set_seal(f.set, dev, ino), ==, -ENOENT);

	live = take(&f, f.stream);
	dev = live->dev;
	ino = live->ino;
	g_assert_cmpint(live_set_seal(f.set, dev, ino), ==, -EBUSY);
	assert_counts(f.set, f.stream, 1, 0);
	/* It can be opened again: nobody is at it any more. */
	g_assert_true(live_set_open(f.set, dev, ino) == live);
	live_set_close(f.set, live);
	live_set_close(f.set, live);
	g_assert_cmpint(live_set_seal(f.set, dev, ino), ==, 0);
	assert_counts(f.set, f.stream, 0, 1);
	fixture_deinit(&f);
}

/* What is reserved behind the end of a file is as little free for others. */
static void test_reserved(void)
{
	Fixture f;

	fixture_init(&f);
	LiveSegment *live = take(&f, f.stream);
	g_assert_cmpuint(live_set_bytes(f.set, f.stream), ==, 2 << 20);
	g_assert_cmpint(live_segment_seal(live), ==, 0);
	g_assert_cmpuint(live_set_bytes(f.set, f.stream), ==, 0);
	live_set_close(f.set, live);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/live-set-bytes/open", test_bytes);
	test_add("/live-set-bytes/counts", test_counts);
	test_add("/live-set-bytes/seal-now", test_seal_now);
	test_add("/live-set-bytes/reserved", test_reserved);
	return g_test_run();
}
