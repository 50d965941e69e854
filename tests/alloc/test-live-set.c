// SPDX-License-Identifier: Apache-2.0
/* When the reservation of a live segment is given back, and who waits for that. */
#include "alloc/live-set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "alloc/segment-name.h"
#include "tests/lib/fake-sys.h"
#include "tests/lib/test-util.h"

#define RESERVED_BYTES (64 * 1024)

typedef struct Fixture {
	TestLog log;
	char *path;
	int dir_fd;
	FakeSys sys;
	LivePlace place;
	SegmentClass *class;
	LiveSet *set;
	struct stat identity;
	/* What happens once, before that call. */
	FakeSysCall when;
	void (*then)(struct Fixture *f);
	atomic_uint n_happened;
	LiveSegment *opened;
	pthread_t opener;
	atomic_bool opens;
} Fixture;

static void happen(void *arg, FakeSysCall call)
{
	Fixture *f = arg;

	if (f->then && call == f->when && atomic_fetch_add(&f->n_happened, 1) == 0)
		f->then(f);
}

static void fixture_init(Fixture *f, FakeSysCall when, void (*then)(Fixture *f))
{
	*f = (Fixture){ .path = TEST_DIR_NEW(),
			.when = when,
			.then = then,
			.class = test_class_new("a kind=stream size=64K linger=0") };
	test_log_init(&f->log);
	fake_sys_init(&f->sys, true);
	f->sys.before = happen;
	f->sys.before_arg = f;
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->place = (LivePlace){ .sys = &f->sys.base, .pool_fd = f->dir_fd, .log = &f->log.log };
	f->set = live_set_new(&f->place);
	g_assert_cmpint(live_set_start(f->set), ==, 0);
}

static void fixture_deinit(Fixture *f)
{
	live_set_free(f->set);
	g_assert_cmpuint(test_log_count(&f->log, LOG_LEVEL_WARNING, ""), ==, 0);
	close(f->dir_fd);
	fake_sys_deinit(&f->sys);
	segment_class_free(f->class);
	test_log_deinit(&f->log);
	test_dir_remove(f->path);
}

/* Of a segment that is published, held. */
static LiveSegment *add(Fixture *f)
{
	Segment segment = { .class = f->class };
	LiveSegment *live;

	segment_name_ready(segment.name, f->class, 1);
	segment.fd = openat(f->dir_fd, segment.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(fallocate(segment.fd, FALLOC_FL_KEEP_SIZE, 0, RESERVED_BYTES), ==, 0);
	g_assert_cmpint(fstat(segment.fd, &f->identity), ==, 0);
	g_assert_cmpint(live_set_add(f->set, &segment, &live), ==, 0);
	g_assert_cmpint(linkat(f->dir_fd, segment.name, f->dir_fd, "visible", 0), ==, 0);
	close(segment.fd);
	return live;
}

static LiveSegment *open_it(Fixture *f)
{
	return live_set_open(f->set, f->identity.st_dev, f->identity.st_ino);
}

static bool is_sealed(Fixture *f)
{
	struct stat attr;

	g_assert_cmpint(fstatat(f->dir_fd, "visible", &attr, 0), ==, 0);
	return attr.st_nlink == 1 && attr.st_blocks == 0;
}

static void test_after_close(void)
{
	Fixture f;

	fixture_init(&f, 0, NULL);
	live_set_published(f.set, add(&f));
	TEST_WAIT_UNTIL(is_sealed(&f));
	fixture_deinit(&f);
}

static void test_at_the_end(void)
{
	Fixture f;

	fixture_init(&f, 0, NULL);
	f.class->linger_ms = 3600 * 1000;
	live_set_published(f.set, add(&f));
	g_assert_false(is_sealed(&f));
	f.set = live_set_free(f.set);
	g_assert_true(is_sealed(&f));
	fixture_deinit(&f);
}

/* Somebody past us: it is tried again. */
static void test_open_elsewhere(void)
{
	Fixture f;
	LiveSegment *live;
	int fd;

	fixture_init(&f, 0, NULL);
	live = add(&f);
	fd = openat(f.dir_fd, "visible", O_RDONLY | O_CLOEXEC);
	live_set_published(f.set, live);
	TEST_WAIT_UNTIL(fake_sys_count(&f.sys, FAKE_SYS_SET_LEASE) >= 2);
	g_assert_false(is_sealed(&f));
	close(fd);
	TEST_WAIT_UNTIL(is_sealed(&f));
	fixture_deinit(&f);
}

static void open_now(Fixture *f)
{
	f->opened = open_it(f);
	atomic_store(&f->opens, true);
}

/* While its data is being written, which may take long, opening does not wait: then it is not
 * sealed. */
static void test_opened_before(void)
{
	Fixture f;
	LiveSegment *live;
	int fd;

	fixture_init(&f, FAKE_SYS_SYNC_FILE_RANGE, open_now);
	live = add(&f);
	fd = openat(f.dir_fd, "visible", O_RDONLY | O_CLOEXEC);
	live_set_published(f.set, live);
	TEST_WAIT_UNTIL(atomic_load(&f.opens));
	g_assert_true(f.opened == live);
	f.set = live_set_free(f.set);
	/* That was the end's try, in vain; the sealer made none. */
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_SET_LEASE), ==, 1);
	close(fd);
	fixture_deinit(&f);
}

static void *opener_run(void *arg)
{
	Fixture *f = arg;

	atomic_store(&f->opens, true);
	f->opened = open_it(f);
	return NULL;
}

static void open_in_thread(Fixture *f)
{
	g_assert_cmpint(thread_start(&f->opener, "opener", opener_run, f), ==, 0);
	TEST_WAIT_UNTIL(atomic_load(&f->opens));
	/* So that it would come through, if it did not wait. */
	for (int i = 0; i < 100; i++)
		test_yield();
}

/* Whoever opens it meanwhile finds the plain file. */
static void test_opened_meanwhile(void)
{
	Fixture f;

	fixture_init(&f, FAKE_SYS_FTRUNCATE, open_in_thread);
	live_set_published(f.set, add(&f));
	TEST_WAIT_UNTIL(is_sealed(&f));
	pthread_join(f.opener, NULL);
	g_assert_null(f.opened);
	fixture_deinit(&f);
}

/* Or, where it could not be sealed, the live segment. */
static void test_opened_meanwhile_in_vain(void)
{
	Fixture f;

	fixture_init(&f, FAKE_SYS_UNLINKAT, open_in_thread);
	fake_sys_fail(&f.sys, FAKE_SYS_UNLINKAT, 1, 1, -EIO);
	live_set_published(f.set, add(&f));
	TEST_WAIT_UNTIL(atomic_load(&f.opens));
	pthread_join(f.opener, NULL);
	g_assert_nonnull(f.opened);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "tried again"), ==, 1);
	live_set_close(f.set, f.opened);
	TEST_WAIT_UNTIL(is_sealed(&f));
	f.set = live_set_free(f.set);
	g_ptr_array_set_size(f.log.lines, 0);
	fixture_deinit(&f);
}

/* Who commits all buffers may have it when it cannot be published: the segment is another one's soon, under the same name. */
static void test_dropped_while_held(void)
{
	Segment segment = { 0 };
	LiveSegment *live, *held, *again;
	Fixture f;

	fixture_init(&f, FAKE_SYS_OPENAT, NULL);
	segment.class = f.class;
	segment_name_ready(segment.name, f.class, 1);
	segment.fd = openat(f.dir_fd, segment.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(fstat(segment.fd, &f.identity), ==, 0);
	g_assert_cmpint(live_set_add(f.set, &segment, &live), ==, 0);
	held = live_set_open(f.set, f.identity.st_dev, f.identity.st_ino);
	g_assert_true(held == live);
	live_set_drop(f.set, live);
	g_assert_null(live_set_open(f.set, f.identity.st_dev, f.identity.st_ino));
	g_assert_cmpint(live_set_add(f.set, &segment, &again), ==, 0);
	live_set_close(f.set, held);
	/* It has not taken that one along. */
	held = live_set_open(f.set, f.identity.st_dev, f.identity.st_ino);
	g_assert_true(held == again);
	live_set_close(f.set, held);
	live_set_drop(f.set, again);
	g_assert_cmpint(faccessat(f.dir_fd, segment.name, F_OK, 0), ==, 0);
	close(segment.fd);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/live-set/after-close", test_after_close);
	test_add("/live-set/at-the-end", test_at_the_end);
	test_add("/live-set/open-elsewhere", test_open_elsewhere);
	test_add("/live-set/opened-before", test_opened_before);
	test_add("/live-set/opened-meanwhile", test_opened_meanwhile);
	test_add("/live-set/opened-meanwhile-in-vain", test_opened_meanwhile_in_vain);
	test_add("/live-set/dropped-while-held", test_dropped_while_held);
	return g_test_run();
}
