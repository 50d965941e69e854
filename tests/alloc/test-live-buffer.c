// SPDX-License-Identifier: Apache-2.0
/* A live segment with a transient buffer: what is where, when it moves, and what a failing disk leaves. */
#include "alloc/live-buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "alloc/segment-name.h"
#include "alloc/segment-trailer.h"
#include "alloc/transient-fixture.h"

#define CAPACITY_BYTES (64 * 1024)
#define MS	       INT64_C(1000000)

typedef struct Fixture {
	TransientFixture transient;
	FakeSys sys;
	char *path;
	int dir_fd;
	LiveTable *table;
	LivePlace place;
	LiveSegment *live;
	/* What happens once, in a pwrite when so many have passed, on another thread. */
	void (*meanwhile)(struct Fixture *f);
	atomic_int n_to_pass;
	pthread_t thread;
	atomic_bool thread_runs;
	/* Long after whatever was before. */
	atomic_int_fast64_t now_ns;
} Fixture;

static void *meanwhile_run(void *arg)
{
	Fixture *f = arg;

	f->meanwhile(f);
	return NULL;
}

static void before_call(void *arg, FakeSysCall call)
{
	Fixture *f = arg;

	if (call == FAKE_SYS_PWRITE && f->meanwhile && atomic_fetch_sub(&f->n_to_pass, 1) <= 0 &&
	    !atomic_exchange(&f->thread_runs, true)) {
		g_assert_cmpint(thread_start(&f->thread, "meanwhile", meanwhile_run, f), ==, 0);
		/* Time for it to do what it can. */
		for (int i = 0; i < 1000; i++)
			test_yield();
	}
}

static void fixture_init(Fixture *f, const char *more)
{
	g_autofree char *class = g_strdup_printf("a kind=append size=64K transient=on%s%s", *more ? " " : "", more);
	Segment segment = { .fd = -1 };

	*f = (Fixture){ .path = TEST_DIR_NEW(), .now_ns = monotonic_ns() };
	transient_fixture_init(&f->transient, class);
	transient_fixture_make_pool(&f->transient);
	fake_sys_init(&f->sys, true);
	f->sys.before = before_call;
	f->sys.before_arg = f;
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->table = live_table_open(f->dir_fd, &f->transient.log.log, NULL);
	f->place = (LivePlace){ &f->sys.base, f->table, f->dir_fd, &f->transient.log.log, f->transient.pool };
	segment.class = f->transient.class;
	segment_name_ready(segment.name, segment.class, 1);
	segment.fd = openat(f->dir_fd, segment.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	g_assert_cmpint(linkat(f->dir_fd, segment.name, f->dir_fd, "visible", 0), ==, 0);
	g_assert_cmpint(segment_trailer_make(&sys_kernel, segment.fd, CAPACITY_BYTES, segment.name), ==, 0);
	g_assert_cmpint(live_segment_new(&f->place, &segment, &f->live), ==, 0);
	close(segment.fd);
	live_buffer_assign(f->live, transient_pool_borrow(f->transient.pool, f->transient.class));
	fake_sys_reset(&f->sys);
}

static void fixture_deinit(Fixture *f)
{
	if (f->thread_runs)
		pthread_join(f->thread, NULL);
	live_segment_free(f->live);
	live_table_close(f->table);
	close(f->dir_fd);
	fake_sys_deinit(&f->sys);
	test_dir_remove(f->path);
	transient_fixture_deinit(&f->transient);
}

/* Whatever there is, is due. */
static int commit(Fixture *f)
{
	return live_buffer_commit_if_due(f->live, atomic_fetch_add(&f->now_ns, 3600000 * MS) + 3600000 * MS);
}

static TransientCounts counts(Fixture *f)
{
	return transient_pool_count(f->transient.pool, f->transient.class);
}

static void write_at(Fixture *f, const char *data, size_t size, off_t offset)
{
	g_assert_cmpint(live_segment_write(f->live, data, size, offset, false), ==, size);
}

/* In the file itself. */
static void expect_file(Fixture *f, off_t offset, const char *data, size_t size)
{
	g_autofree char *bytes = g_malloc(size);

	g_assert_cmpint(pread(f->live->fd, bytes, size, offset), ==, size);
	g_assert_cmpmem(bytes, size, data, size);
}

/* For applications. */
static void expect_read(Fixture *f, const char *data, size_t size)
{
	char bytes[256];

	g_assert_cmpint(live_segment_read(f->live, bytes, sizeof(bytes), 0), ==, size);
	g_assert_cmpmem(bytes, size, data, size);
}

static void expect_length(Fixture *f, uint64_t length)
{
	struct stat attr;

	g_assert_cmpint(live_segment_stat(f->live, &attr), ==, 0);
	g_assert_cmpuint(attr.st_size, ==, length);
}

static void test_written_and_read(void)
{
	Fixture f;

	fixture_init(&f, "");
	write_at(&f, "hello", 5, 0);
	write_at(&f, " there", 6, 5);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_PWRITE), ==, 0);
	expect_length(&f, 11);
	g_assert_true(live_segment_is_read_here(f.live, 10, 100));
	g_assert_false(live_segment_is_read_here(f.live, 11, 100));
	expect_read(&f, "hello there", 11);
	expect_file(&f, 0, "\0\0\0\0\0", 5);
	g_assert_cmpuint(counts(&f).uncommitted_bytes, ==, 11);
	/* A hole: what is there is committed first, and the rest written through. */
	write_at(&f, "far", 3, 20);
	expect_file(&f, 0, "hello there\0\0\0\0\0\0\0\0\0far", 23);
	expect_read(&f, "hello there\0\0\0\0\0\0\0\0\0far", 23);
	write_at(&f, "er", 2, 23);
	g_assert_cmpuint(counts(&f).uncommitted_bytes, ==, 2);
	expect_read(&f, "hello there\0\0\0\0\0\0\0\0\0farer", 25);
	fixture_deinit(&f);
}

/* None was free. */
static void test_B7_without_a_buffer_a_file_is_as_good(void)
{
	Fixture f;
	char bytes[8];

	fixture_init(&f, "");
	mutex_lock(&f.live->lock);
	live_buffer_give_back_locked(f.live);
	mutex_unlock(&f.live->lock);
	write_at(&f, "hello", 5, 0);
	expect_file(&f, 0, "hello", 5);
	g_assert_cmpuint(live_segment_readable(f.live, 0, 100), ==, 5);
	g_assert_cmpint(live_segment_read(f.live, bytes, 8, 1), ==, 4);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_cmpint(live_segment_seal(f.live), ==, 0);
	expect_length(&f, 5);
	fixture_deinit(&f);
}

static void test_sync_commits_then_flushes(void)
{
	Fixture f;

	fixture_init(&f, "");
	write_at(&f, "hello", 5, 0);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	expect_file(&f, 0, "hello", 5);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, 1);
	g_assert_cmpuint(counts(&f).uncommitted_bytes, ==, 0);
	g_assert_cmpuint(counts(&f).n_commits, ==, 1);
	/* A zero over the end of what is synced would hide it: the length is made durable before. */
	write_at(&f, "a\0", 2, 3);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, 2);
	fixture_deinit(&f);
}

static void test_whatever_else_settles(void)
{
	Fixture f;
	char bytes[4];

	fixture_init(&f, "");
	write_at(&f, "one", 3, 0);
	g_assert_cmpint(live_segment_truncate(f.live, 100), ==, 0);
	expect_file(&f, 0, "one", 3);
	write_at(&f, "two", 3, 100);
	g_assert_cmpint(live_segment_fallocate(f.live, 0, 0, 200), ==, 0);
	expect_file(&f, 100, "two", 3);
	expect_length(&f, 200);
	write_at(&f, "three", 5, 200);
	g_assert_cmpint(live_segment_truncate(f.live, 203), ==, 0);
	/* Sealed. */
	g_assert_false(live_buffer_is_there(f.live));
	g_assert_cmpuint(counts(&f).n_free, ==, 5);
	expect_length(&f, 203);
	g_assert_cmpint(pread(f.live->fd, bytes, 4, 200), ==, 3);
	g_assert_cmpmem(bytes, 3, "thr", 3);
	fixture_deinit(&f);
}

static void test_past_its_capacity(void)
{
	Fixture f;

	fixture_init(&f, "");
	write_at(&f, "hello", 5, 0);
	write_at(&f, "far", 3, CAPACITY_BYTES - 1);
	g_assert_cmpuint(counts(&f).n_free, ==, 5);
	expect_length(&f, CAPACITY_BYTES + 2);
	expect_file(&f, 0, "hello", 5);
	fixture_deinit(&f);
}

static void test_given_back_when_full(void)
{
	Fixture f;
	g_autofree char *data = g_strnfill(CAPACITY_BYTES, 'x');

	fixture_init(&f, "");
	write_at(&f, data, CAPACITY_BYTES, 0);
	g_assert_cmpint(commit(&f), ==, 0);
	g_assert_cmpuint(counts(&f).n_free, ==, 5);
	expect_file(&f, 0, data, CAPACITY_BYTES);
	write_at(&f, "y", 1, 0);
	expect_file(&f, 0, "yx", 2);
	fixture_deinit(&f);
}

/* Only when none is free, and when all of it has been in the file for a while. */
static void test_given_back_when_idle(void)
{
	Fixture f;
	TransientBuffer *others[4];
	int64_t start_ns;

	fixture_init(&f, "commit_interval=100 commit_least_pages=0");
	write_at(&f, "hello", 5, 0);
	start_ns = f.live->buffer.committed_ns + 100 * MS;
	live_buffer_commit_if_due(f.live, start_ns);
	g_assert_cmpuint(counts(&f).n_commits, ==, 1);
	live_buffer_commit_if_due(f.live, start_ns + 5000 * MS);
	g_assert_true(live_buffer_is_there(f.live));
	for (int i = 0; i < 4; i++)
		others[i] = transient_pool_borrow(f.transient.pool, f.transient.class);
	live_buffer_commit_if_due(f.live, start_ns + 999 * MS);
	g_assert_true(live_buffer_is_there(f.live));
	write_at(&f, "more", 4, 5);
	live_buffer_commit_if_due(f.live, start_ns + 2000 * MS);
	g_assert_true(live_buffer_is_there(f.live));
	live_buffer_commit_if_due(f.live, start_ns + 3000 * MS);
	g_assert_false(live_buffer_is_there(f.live));
	g_assert_cmpuint(counts(&f).n_free, ==, 1);
	expect_read(&f, "hellomore", 9);
	write_at(&f, "!", 1, 9);
	expect_file(&f, 0, "hellomore!", 10);
	for (int i = 0; i < 4; i++)
		transient_pool_give_back(f.transient.pool, others[i]);
	fixture_deinit(&f);
}

/* Enough pages after an interval; fewer after ten. */
static void test_when_it_is_due(void)
{
	Fixture f;
	g_autofree char *data = g_strnfill(2 * sysconf(_SC_PAGESIZE), 'x');
	size_t page_bytes = sysconf(_SC_PAGESIZE);
	int64_t start_ns;

	fixture_init(&f, "commit_interval=100 commit_least_pages=2 flush_interval=1000 transient_flush_least_pages=3");
	start_ns = f.live->buffer.committed_ns;
	write_at(&f, data, 2 * page_bytes - 1, 0);
	live_buffer_commit_if_due(f.live, start_ns + 999 * MS);
	g_assert_cmpuint(counts(&f).n_commits, ==, 0);
	write_at(&f, data, 1, 2 * page_bytes - 1);
	live_buffer_commit_if_due(f.live, start_ns + 99 * MS);
	g_assert_cmpuint(counts(&f).n_commits, ==, 0);
	live_buffer_commit_if_due(f.live, start_ns + 100 * MS);
	g_assert_cmpuint(counts(&f).n_commits, ==, 1);
	write_at(&f, data, 1, 2 * page_bytes);
	live_buffer_commit_if_due(f.live, start_ns + 1099 * MS);
	g_assert_cmpuint(counts(&f).n_commits, ==, 1);
	live_buffer_commit_if_due(f.live, start_ns + 1100 * MS);
	g_assert_cmpuint(counts(&f).n_commits, ==, 2);
	g_assert_cmpuint(counts(&f).uncommitted_bytes, ==, 0);
	/* Two pages and a byte were committed. */
	live_buffer_flush_if_due(f.live, start_ns + 9999 * MS);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, 0);
	live_buffer_flush_if_due(f.live, start_ns + 20000 * MS);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, 1);
	live_buffer_flush_if_due(f.live, start_ns + 90000 * MS);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FDATASYNC), ==, 1);
	fixture_deinit(&f);
}

static void append_meanwhile(Fixture *f)
{
	write_at(f, "more", 4, 5);
	expect_read(f, "hellomore", 9);
}

/* While a commit is at the file, appends and reads go on, and miss nothing. */
static void test_append_beside_a_commit(void)
{
	Fixture f;

	fixture_init(&f, "");
	write_at(&f, "hello", 5, 0);
	f.meanwhile = append_meanwhile;
	g_assert_cmpint(commit(&f), ==, 0);
	pthread_join(f.thread, NULL);
	atomic_store(&f.thread_runs, false);
	f.meanwhile = NULL;
	expect_read(&f, "hellomore", 9);
	g_assert_cmpuint(counts(&f).uncommitted_bytes, ==, 4);
	expect_file(&f, 0, "hello\0\0\0\0", 9);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	expect_file(&f, 0, "hellomore", 9);
	fixture_deinit(&f);
}

static void overwrite_meanwhile(Fixture *f)
{
	write_at(f, "J", 1, 0);
}

/* What is being committed is not changed under the commit's hands; and the change is not lost. */
static void test_overwrite_waits_for_a_commit(void)
{
	Fixture f;

	fixture_init(&f, "");
	write_at(&f, "hello", 5, 0);
	/* When that byte is in the file already. */
	f.sys.short_write_bytes = 2;
	f.n_to_pass = 1;
	f.meanwhile = overwrite_meanwhile;
	g_assert_cmpint(commit(&f), ==, 0);
	pthread_join(f.thread, NULL);
	atomic_store(&f.thread_runs, false);
	f.meanwhile = NULL;
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	expect_file(&f, 0, "Jello", 5);
	expect_read(&f, "Jello", 5);
	fixture_deinit(&f);
}

typedef struct Writer {
	Fixture *f;
	atomic_bool done;
} Writer;

static void *commit_all_the_time(void *arg)
{
	Writer *writer = arg;

	while (!atomic_load(&writer->done)) {
		commit(writer->f);
		live_buffer_flush_if_due(writer->f->live, atomic_load(&writer->f->now_ns));
	}
	return NULL;
}

/* A write that had to wait looked at the buffer before, and wrote what a commit had made old: zeroes were read. */
static void test_what_is_written_is_read(void)
{
	Fixture f;
	Writer writer = { .f = &f };
	g_autoptr(GRand) rand = test_rand_new();
	g_autofree char *expected = g_malloc0(CAPACITY_BYTES), *found = g_malloc(CAPACITY_BYTES);
	size_t length = 0;
	pthread_t thread;

	fixture_init(&f, "commit_interval=1 commit_least_pages=0 flush_interval=1 transient_flush_least_pages=0");
	g_assert_cmpint(thread_start(&thread, "commit", commit_all_the_time, &writer), ==, 0);
	for (int i = 0; i < 3000; i++) {
		size_t size = g_rand_int_range(rand, 1, 64);
		size_t offset = g_rand_int_range(rand, 0, 4) ? length : (size_t)g_rand_int_range(rand, 0, length + 50);
		char data[64];

		if (offset + size > CAPACITY_BYTES)
			offset = length = length / 2;
		memset(data, 1 + i % 255, sizeof(data));
		write_at(&f, data, size, offset);
		memcpy(expected + offset, data, size);
		length = MAX(length, offset + size);
		g_assert_cmpint(live_segment_read(f.live, found, size, offset), ==, size);
		g_assert_cmpmem(found, size, expected + offset, size);
	}
	atomic_store(&writer.done, true);
	pthread_join(thread, NULL);
	ssize_t n = live_segment_read(f.live, found, CAPACITY_BYTES, 0);
	g_assert_cmpint(n, >, 0);
	g_assert_cmpmem(found, n, expected, n);
	g_assert_cmpint(live_segment_seal(f.live), ==, 0);
	expect_file(&f, 0, expected, n);
	g_assert_cmpuint(counts(&f).n_free, ==, 5);
	fixture_deinit(&f);
}

static struct stat stat_of(Fixture *f)
{
	struct stat attr;

	g_assert_cmpint(live_segment_stat(f->live, &attr), ==, 0);
	return attr;
}

static bool is_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void test_times(void)
{
	Fixture f;
	const struct timespec given[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000 } };
	struct stat born, written, attr;

	fixture_init(&f, "");
	born = stat_of(&f);
	write_at(&f, "hello", 5, 0);
	written = stat_of(&f);
	g_assert_false(is_same_time(born.st_mtim, written.st_mtim));
	g_assert_false(is_same_time(born.st_ctim, written.st_ctim));
	/* That it was committed shows nowhere. */
	commit(&f);
	attr = stat_of(&f);
	g_assert_true(is_same_time(attr.st_mtim, written.st_mtim));
	g_assert_true(is_same_time(attr.st_ctim, written.st_ctim));
	/* That somebody else changed it does, though no clock is that fine. */
	g_assert_cmpint(fchmod(f.live->fd, 0640), ==, 0);
	attr = stat_of(&f);
	g_assert_true(is_same_time(attr.st_mtim, written.st_mtim));
	g_assert_false(is_same_time(attr.st_ctim, written.st_ctim));
	write_at(&f, "more", 4, 5);
	g_assert_false(is_same_time(stat_of(&f).st_mtim, written.st_mtim));
	attr = stat_of(&f);
	g_assert_cmpint(fchmod(f.live->fd, 0600), ==, 0);
	commit(&f);
	g_assert_false(is_same_time(stat_of(&f).st_ctim, attr.st_ctim));
	/* What the application sets stays. */
	g_assert_cmpint(live_buffer_settle_times(f.live), ==, 0);
	g_assert_cmpint(futimens(f.live->fd, given), ==, 0);
	g_assert_true(is_same_time(stat_of(&f).st_mtim, given[1]));
	commit(&f);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	g_assert_true(is_same_time(stat_of(&f).st_mtim, given[1]));
	/* And in the sealed file, too. */
	write_at(&f, "end", 3, 9);
	written = stat_of(&f);
	g_assert_cmpint(live_segment_seal(f.live), ==, 0);
	g_assert_true(is_same_time(stat_of(&f).st_mtim, written.st_mtim));
	fixture_deinit(&f);
}

/* The data stays, is seen, and is tried again; who syncs hears of it. */
static void test_a_failed_commit(void)
{
	Fixture f;

	fixture_init(&f, "");
	write_at(&f, "hello", 5, 0);
	fake_sys_fail(&f.sys, FAKE_SYS_PWRITE, 1, 5, -EIO);
	g_assert_cmpint(commit(&f), ==, -EIO);
	expect_read(&f, "hello", 5);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, -EIO);
	g_assert_cmpint(live_buffer_retry(f.live), ==, -EIO);
	/* One that needs the file fails; one that does not, goes on. */
	write_at(&f, " there", 6, 5);
	g_assert_cmpint(live_segment_write(f.live, "x", 1, 100, false), ==, -EIO);
	g_assert_cmpint(live_segment_seal(f.live), ==, -EIO);
	expect_length(&f, 11);
	g_assert_cmpuint(counts(&f).uncommitted_bytes, ==, 11);
	g_assert_cmpuint(test_log_count(&f.transient.log, LOG_LEVEL_WARNING, "commit ready-append"), ==, 1);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	expect_file(&f, 0, "hello there", 11);
	g_assert_cmpint(live_buffer_retry(f.live), ==, 0);
	fixture_deinit(&f);
}

static void test_partly_committed(void)
{
	Fixture f;

	fixture_init(&f, "");
	write_at(&f, "hello", 5, 0);
	f.sys.short_write_bytes = 2;
	fake_sys_fail(&f.sys, FAKE_SYS_PWRITE, 2, 1, -ENOSPC);
	g_assert_cmpint(commit(&f), ==, -ENOSPC);
	g_assert_cmpuint(counts(&f).uncommitted_bytes, ==, 3);
	expect_read(&f, "hello", 5);
	g_assert_cmpint(live_segment_sync(f.live, f.live->fd, true), ==, 0);
	expect_file(&f, 0, "hello", 5);
	fixture_deinit(&f);
}

/* Of a file that nobody can reach any more, and of one that the next daemon has to see to. */
static void test_B8_the_buffer_of_an_uncommitted_file(void)
{
	Fixture f;

	fixture_init(&f, "");
	write_at(&f, "gone", 4, 0);
	g_assert_cmpint(live_segment_finish(f.live), ==, 0);
	expect_read(&f, "gone", 4);
	live_segment_free(f.live);
	f.live = NULL;
	g_assert_cmpuint(counts(&f).n_free, ==, 5);
	g_assert_cmpuint(counts(&f).uncommitted_bytes, ==, 0);
	f.transient.pool = transient_pool_free(f.transient.pool);
	g_assert_cmpuint(transient_fixture_count_files(&f.transient), ==, 0);
	fixture_deinit(&f);

	fixture_init(&f, "");
	write_at(&f, "kept", 4, 0);
	live_segment_free(f.live);
	f.live = NULL;
	f.transient.pool = transient_pool_free(f.transient.pool);
	g_assert_cmpuint(transient_fixture_count_files(&f.transient), ==, 1);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/live-buffer/written-and-read", test_written_and_read);
	test_add("/live-buffer/B7-without-a-buffer-a-file-is-as-good", test_B7_without_a_buffer_a_file_is_as_good);
	test_add("/live-buffer/sync-commits-then-flushes", test_sync_commits_then_flushes);
	test_add("/live-buffer/whatever-else-settles", test_whatever_else_settles);
	test_add("/live-buffer/past-its-capacity", test_past_its_capacity);
	test_add("/live-buffer/given-back-when-full", test_given_back_when_full);
	test_add("/live-buffer/given-back-when-idle", test_given_back_when_idle);
	test_add("/live-buffer/when-it-is-due", test_when_it_is_due);
	test_add("/live-buffer/append-beside-a-commit", test_append_beside_a_commit);
	test_add("/live-buffer/overwrite-waits-for-a-commit", test_overwrite_waits_for_a_commit);
	test_add("/live-buffer/what-is-written-is-read", test_what_is_written_is_read);
	test_add("/live-buffer/times", test_times);
	test_add("/live-buffer/a-failed-commit", test_a_failed_commit);
	test_add("/live-buffer/partly-committed", test_partly_committed);
	test_add("/live-buffer/B8-the-buffer-of-an-uncommitted-file", test_B8_the_buffer_of_an_uncommitted_file);
	return g_test_run();
}
