// SPDX-License-Identifier: Apache-2.0
/* What is told of a recovery while it runs, and how it is stopped. */
#include <fcntl.h>
#include <unistd.h>

#include "alloc/recovery.h"
#include "alloc/segment-name.h"
#include "tests/lib/test-util.h"

#define N_LIVE 4

typedef struct Fixture {
	TestLog log;
	char *path;
	int source_fd;
	PoolDir *dir;
	RecoveryResult result;
	/* Of the calls of `watch`: how many there were, the last, and the one at which it says stop (0: none). */
	unsigned n_calls;
	RecoverySteps last;
	unsigned stop_at;
} Fixture;

static void make(Fixture *f, const SegmentClass *class, unsigned serial, const char *visible)
{
	char name[SEGMENT_NAME_SIZE];
	int fd;

	segment_name_ready(name, class, serial);
	fd = openat(f->dir->segments_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(write(fd, "data", 4), ==, 4);
	close(fd);
	if (visible)
		g_assert_cmpint(linkat(f->dir->segments_fd, name, f->source_fd, visible, 0), ==, 0);
}

/* Live ones, and others. */
static void fixture_init(Fixture *f)
{
	g_autoptr(GError) error = NULL;
	SegmentClass *stream = test_class_new("a kind=stream size=64K");
	SegmentClass *mapped = test_class_new("b kind=mapped size=64K");

	*f = (Fixture){ .path = TEST_DIR_NEW() };
	test_log_init(&f->log);
	f->source_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->dir = pool_dir_open(f->source_fd, f->path, &f->log.log, &error);
	g_assert_no_error(error);
	for (unsigned i = 0; i < N_LIVE; i++) {
		g_autofree char *visible = g_strdup_printf("live-%u", i);

		make(f, stream, i, visible);
	}
	make(f, stream, N_LIVE, NULL);
	make(f, mapped, N_LIVE + 1, "mapped");
	segment_class_free(stream);
	segment_class_free(mapped);
}

static void fixture_deinit(Fixture *f)
{
	pool_dir_close(f->dir);
	close(f->source_fd);
	test_log_deinit(&f->log);
	test_dir_remove(f->path);
}

static bool watch(void *arg, const RecoverySteps *steps)
{
	Fixture *f = arg;

	g_assert_cmpuint(steps->n_total, ==, N_LIVE);
	g_assert_cmpuint(steps->total_bytes, >, 0);
	g_assert_cmpuint(steps->n_done, <=, steps->n_total);
	g_assert_cmpuint(steps->done_bytes, <=, steps->total_bytes);
	if (f->n_calls == 0)
		g_assert_cmpuint(steps->n_done + steps->done_bytes, ==, 0);
	g_assert_cmpuint(steps->n_done, >=, f->last.n_done);
	g_assert_cmpuint(steps->n_done, <=, f->last.n_done + 1);
	g_assert_cmpuint(steps->done_bytes, >=, f->last.done_bytes);
	f->last = *steps;
	return ++f->n_calls != f->stop_at;
}

static void recover(Fixture *f, bool dry_run)
{
	g_assert_cmpint(recovery_run(&sys_kernel, f->dir, NULL, &f->log.log, dry_run, watch, f, &f->result), ==, 0);
}

static void test_told(void)
{
	Fixture f;

	fixture_init(&f);
	recover(&f, true);
	g_assert_false(f.result.stopped);
	g_assert_cmpuint(f.result.n_sealed, ==, N_LIVE);
	g_assert_cmpuint(f.last.n_done, >=, N_LIVE - 1);
	g_assert_cmpuint(f.n_calls, >, N_LIVE);
	fixture_deinit(&f);
}

/* Wherever it is stopped, the next one does the rest. */
static void test_stopped(void)
{
	for (unsigned stop_at = 1;; stop_at++) {
		unsigned n_sealed;
		bool stopped;
		Fixture f;

		fixture_init(&f);
		f.stop_at = stop_at;
		recover(&f, false);
		stopped = f.result.stopped;
		g_assert_cmpint(stopped, ==, f.n_calls == stop_at);
		n_sealed = f.result.n_sealed;
		if (stopped)
			g_assert_cmpuint(n_sealed, ==, f.last.n_done);
		g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_NOTICE, "sealed to 4 bytes"), ==, n_sealed);
		g_assert_cmpuint(f.result.n_failed, ==, 0);
		g_assert_cmpuint(test_count_names(f.dir->segments_fd), ==, N_LIVE + 2 - n_sealed);
		g_assert_cmpint(recovery_run(&sys_kernel, f.dir, NULL, &f.log.log, false, NULL, NULL, &f.result), ==,
				0);
		g_assert_cmpuint(f.result.n_sealed, ==, N_LIVE - n_sealed);
		fixture_deinit(&f);
		if (!stopped)
			break;
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/recovery-progress/told", test_told);
	test_add("/recovery-progress/stopped", test_stopped);
	return g_test_run();
}
