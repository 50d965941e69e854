// SPDX-License-Identifier: Apache-2.0
/* Which mappings are locked, and for how long. Segments are anonymous files of memory; the kernel really maps and locks. */
#include "alloc/segment-locks.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

#define BYTES ((uint64_t)64 * 1024)

typedef struct Fixture {
	TestLog log;
	ClassRules *rules;
	FakeSys sys;
	SegmentLocks *locks;
} Fixture;

static void fixture_init(Fixture *f, const char *class, uint64_t budget_bytes)
{
	test_log_init(&f->log);
	fake_sys_init(&f->sys, true);
	f->rules = class_rules_new();
	class_rules_add(f->rules, test_class_new(class));
	class_rules_add(f->rules, test_class_new("other size=64K lock=on lock_active=1"));
	f->locks = segment_locks_new(f->rules, &f->sys.base, budget_bytes, &f->log.log);
}

static void fixture_deinit(Fixture *f)
{
	segment_locks_free(f->locks);
	class_rules_free(f->rules);
	fake_sys_deinit(&f->sys);
	test_log_deinit(&f->log);
}

/* Mapped and populated, as if it had become ready. */
static Segment *ready_segment(Fixture *f, size_t nth)
{
	Segment *segment = g_new(Segment, 1);

	*segment = (Segment){ .class = class_rules_nth(f->rules, nth), .fd = memfd_create("segment", MFD_CLOEXEC),
			      .map_bytes = BYTES };
	g_assert_cmpint(ftruncate(segment->fd, BYTES), ==, 0);
	g_assert_cmpint(sys_kernel.mmap_shared(&sys_kernel, segment->fd, BYTES, &segment->map), ==, 0);
	segment_locks_lock(f->locks, segment);
	return segment;
}

/* As who has published it, and is done with it. */
static void retire(Fixture *f, Segment *segment)
{
	segment_locks_keep(f->locks, segment);
	segment_locks_unmap(f->locks, &f->sys.base, segment);
	close(segment->fd);
	g_free(segment);
}

static void discard(Fixture *f, Segment *segment)
{
	segment_locks_unmap(f->locks, &f->sys.base, segment);
	close(segment->fd);
	g_free(segment);
}

static uint64_t locked(Fixture *f, size_t nth)
{
	return segment_locks_bytes(f->locks, class_rules_nth(f->rules, nth));
}

/* B9: at any time the ready ones and the newest two are locked, and at the end nothing is. */
static void test_unlocked_again(void)
{
	uint64_t before = test_locked_bytes();
	Segment *ready[2];
	Fixture f;

	fixture_init(&f, "a size=64K lock=on", 100 * BYTES);
	ready[0] = ready_segment(&f, 0);
	ready[1] = ready_segment(&f, 0);
	g_assert_true(ready[0]->locked);
	g_assert_cmpuint(locked(&f, 0), ==, 2 * BYTES);
	g_assert_cmpuint(test_locked_bytes(), ==, before + 2 * BYTES);
	for (unsigned i = 0; i < 10; i++) {
		retire(&f, ready[i % 2]);
		ready[i % 2] = ready_segment(&f, 0);
		g_assert_cmpuint(locked(&f, 0), ==, (2 + MIN(i + 1, 2)) * BYTES);
		g_assert_cmpuint(test_locked_bytes(), ==, before + locked(&f, 0));
	}
	discard(&f, ready[0]);
	discard(&f, ready[1]);
	g_assert_cmpuint(locked(&f, 0), ==, 2 * BYTES);
	fixture_deinit(&f);
	g_assert_cmpuint(test_locked_bytes(), ==, before);
}

static void test_active(void)
{
	for (unsigned active = 0; active <= 3; active++) {
		g_autofree char *class = g_strdup_printf("a size=64K lock=on lock_active=%u", active);
		Fixture f;

		fixture_init(&f, class, 100 * BYTES);
		for (unsigned i = 0; i < 5; i++)
			retire(&f, ready_segment(&f, 0));
		g_assert_cmpuint(locked(&f, 0), ==, active * BYTES);
		/* Each class for itself. */
		retire(&f, ready_segment(&f, 1));
		retire(&f, ready_segment(&f, 1));
		g_assert_cmpuint(locked(&f, 0), ==, active * BYTES);
		g_assert_cmpuint(locked(&f, 1), ==, BYTES);
		fixture_deinit(&f);
	}
}

/* The oldest goes, whichever that is by then. */
static void test_let_go(void)
{
	Segment *segments[3];
	dev_t dev;
	ino_t inodes[3];
	Fixture f;

	fixture_init(&f, "a size=64K lock=on", 100 * BYTES);
	for (int i = 0; i < 3; i++) {
		segments[i] = ready_segment(&f, 0);
		inodes[i] = segments[i]->ino;
	}
	dev = segments[0]->dev;
	retire(&f, segments[0]);
	retire(&f, segments[1]);
	segment_locks_let_go(f.locks, dev, inodes[2]);
	segment_locks_let_go(f.locks, dev + 1, inodes[1]);
	g_assert_cmpuint(locked(&f, 0), ==, 3 * BYTES);
	segment_locks_let_go(f.locks, dev, inodes[1]);
	segment_locks_let_go(f.locks, dev, inodes[1]);
	g_assert_cmpuint(locked(&f, 0), ==, 2 * BYTES);
	retire(&f, segments[2]);
	g_assert_cmpuint(locked(&f, 0), ==, 2 * BYTES);
	segment_locks_let_go(f.locks, dev, inodes[0]);
	segment_locks_let_go(f.locks, dev, inodes[2]);
	g_assert_cmpuint(locked(&f, 0), ==, 0);
	fixture_deinit(&f);
}

/* What is wanted changes while it is used. */
static void test_changes(void)
{
	SegmentClass *class;
	Segment *ready;
	Fixture f;

	fixture_init(&f, "a size=64K lock=on lock_active=3", 100 * BYTES);
	class = class_rules_find_named(f.rules, "a");
	for (unsigned i = 0; i < 3; i++)
		retire(&f, ready_segment(&f, 0));
	ready = ready_segment(&f, 0);
	g_assert_cmpuint(locked(&f, 0), ==, 4 * BYTES);
	class->lock_active = 2;
	segment_locks_trim(f.locks);
	g_assert_cmpuint(locked(&f, 0), ==, 3 * BYTES);
	class->lock = false;
	segment_locks_trim(f.locks);
	/* That one stays as it is until it is taken. */
	g_assert_cmpuint(locked(&f, 0), ==, BYTES);
	retire(&f, ready);
	g_assert_cmpuint(locked(&f, 0), ==, 0);
	discard(&f, ready_segment(&f, 0));
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_MLOCK), ==, 4);
	class->lock = true;
	retire(&f, ready_segment(&f, 0));
	g_assert_cmpuint(locked(&f, 0), ==, BYTES);
	segment_locks_trim(NULL);
	fixture_deinit(&f);
}

static void expect_unlocked(Fixture *f, Segment *segment, int error)
{
	g_assert_false(segment->locked);
	g_assert_cmpint(segment->lock_error, ==, error);
	g_assert_nonnull(segment->map);
	discard(f, segment);
}

/* B10: it is told of once, counted each time, and leaves no part locked. */
static void test_failure_is_told(void)
{
	static const int ERRORS[] = { -ENOMEM, -EPERM, -EAGAIN };

	for (size_t i = 0; i < G_N_ELEMENTS(ERRORS); i++) {
		Fixture f;

		fixture_init(&f, "a size=64K lock=on", 100 * BYTES);
		fake_sys_fail(&f.sys, FAKE_SYS_MLOCK, 1, 2, ERRORS[i]);
		expect_unlocked(&f, ready_segment(&f, 0), ERRORS[i]);
		expect_unlocked(&f, ready_segment(&f, 0), ERRORS[i]);
		g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "class a: cannot lock a segment in memory: "),
				 ==, 1);
		g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, g_strerror(-ERRORS[i])), ==, 1);
		g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_MUNLOCK), ==, 2);
		g_assert_cmpuint(locked(&f, 0), ==, 0);
		/* The next one may do. */
		Segment *segment = ready_segment(&f, 0);
		g_assert_true(segment->locked);
		g_assert_cmpint(segment->lock_error, ==, 0);
		discard(&f, segment);
		fixture_deinit(&f);
	}
}

/* It is one for all classes, and for ready ones and taken ones. */
static void test_budget(void)
{
	Segment *ready, *other;
	Fixture f;

	fixture_init(&f, "a size=64K lock=on", 3 * BYTES + BYTES / 2);
	retire(&f, ready_segment(&f, 0));
	ready = ready_segment(&f, 0);
	other = ready_segment(&f, 1);
	g_assert_true(ready->locked && other->locked);
	expect_unlocked(&f, ready_segment(&f, 0), -ENOMEM);
	expect_unlocked(&f, ready_segment(&f, 1), -ENOMEM);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_MLOCK), ==, 3);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "224K may be locked"), ==, 2);
	discard(&f, other);
	other = ready_segment(&f, 0);
	g_assert_true(other->locked);
	discard(&f, other);
	discard(&f, ready);
	fixture_deinit(&f);
}

/* Of those taken the oldest are unlocked, of each class in turn; ready ones stay. */
static void test_other_budget(void)
{
	Segment *ready, *more;
	Fixture f;

	fixture_init(&f, "a size=64K lock=on lock_active=9", 5 * BYTES);
	for (unsigned i = 0; i < 4; i++)
		retire(&f, ready_segment(&f, i / 3));
	ready = ready_segment(&f, 0);
	expect_unlocked(&f, ready_segment(&f, 0), -ENOMEM);
	segment_locks_set_budget(f.locks, 6 * BYTES);
	more = ready_segment(&f, 0);
	g_assert_true(more->locked);
	discard(&f, more);
	segment_locks_set_budget(f.locks, 3 * BYTES);
	expect_unlocked(&f, ready_segment(&f, 0), -ENOMEM);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "320K may be locked"), ==, 1);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "192K may be locked"), ==, 1);
	g_assert_cmpuint(locked(&f, 0) + locked(&f, 1), ==, 5 * BYTES);
	segment_locks_trim(f.locks);
	g_assert_cmpuint(locked(&f, 0), ==, 3 * BYTES);
	g_assert_cmpuint(locked(&f, 1), ==, 0);
	segment_locks_set_budget(f.locks, 0);
	segment_locks_trim(f.locks);
	g_assert_cmpuint(locked(&f, 0), ==, BYTES);
	discard(&f, ready);
	segment_locks_set_budget(NULL, 1);
	fixture_deinit(&f);
}

static void test_no_budget(void)
{
	Fixture f;

	fixture_init(&f, "a size=64K lock=on", 0);
	expect_unlocked(&f, ready_segment(&f, 0), -ENOMEM);
	fixture_deinit(&f);
}

static void test_no_identity(void)
{
	Fixture f;

	fixture_init(&f, "a size=64K lock=on", 100 * BYTES);
	fake_sys_fail(&f.sys, FAKE_SYS_FSTAT, 1, 1, -EIO);
	expect_unlocked(&f, ready_segment(&f, 0), -EIO);
	g_assert_cmpuint(locked(&f, 0), ==, 0);
	fixture_deinit(&f);
}

/* A class without lock= has its mappings unmapped, and nothing else. */
static void test_not_wanted(void)
{
	Fixture f;

	fixture_init(&f, "a size=64K", 100 * BYTES);
	retire(&f, ready_segment(&f, 0));
	discard(&f, ready_segment(&f, 0));
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_MLOCK), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_MUNMAP), ==, 2);
	fixture_deinit(&f);
}

static void test_without_locks(void)
{
	Fixture f;
	SegmentLocks *locks;
	Segment *segment;

	fixture_init(&f, "a size=64K lock=on", 100 * BYTES);
	locks = g_steal_pointer(&f.locks);
	segment = ready_segment(&f, 0);
	g_assert_false(segment->locked);
	g_assert_cmpuint(segment_locks_bytes(NULL, segment->class), ==, 0);
	segment_locks_let_go(NULL, 0, 0);
	retire(&f, segment);
	g_assert_null(segment_locks_free(NULL));
	f.locks = locks;
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/segment-locks/changes", test_changes);
	test_add("/segment-locks/B9-unlocked-again", test_unlocked_again);
	test_add("/segment-locks/active", test_active);
	test_add("/segment-locks/let-go", test_let_go);
	test_add("/segment-locks/B10-a-failure-is-told", test_failure_is_told);
	test_add("/segment-locks/budget", test_budget);
	test_add("/segment-locks/other-budget", test_other_budget);
	test_add("/segment-locks/no-budget", test_no_budget);
	test_add("/segment-locks/no-identity", test_no_identity);
	test_add("/segment-locks/not-wanted", test_not_wanted);
	test_add("/segment-locks/without-locks", test_without_locks);
	return g_test_run();
}
