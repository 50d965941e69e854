// SPDX-License-Identifier: Apache-2.0
/* Making, publishing and removing; every system call fails once. (Descriptors and mappings:
 * test_add.) */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "tests/alloc/provider-fixture.h"

static void check_zeroes(const Segment *segment)
{
	const char *bytes = segment->map;

	for (size_t i = 0; i < segment->map_bytes; i++)
		g_assert_cmpint(bytes[i], ==, 0);
}

static void test_prepare_mapped(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f);
	segment = prepare(&f, MAPPED);
	check_in_pool(&f, segment);
	g_assert_false(segment->adopted);
	g_assert_false(segment->cold);
	g_assert_cmpuint(segment->map_bytes, ==, MAPPED_BYTES);
	check_zeroes(segment);
	g_assert_cmpuint(names_in_pool(&f), ==, 1);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, MAPPED_BYTES);
	g_assert_cmpuint(file_provider_held_files(f.provider), ==, 1);
	f.base->discard(f.base, segment);
	g_assert_cmpuint(names_in_pool(&f), ==, 0);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, 0);
	g_assert_cmpuint(file_provider_held_files(f.provider), ==, 0);
	fixture_deinit(&f);
}

/* Blocks, but nothing in memory and nothing written. */
static void test_prepare_not_warmed(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f);
	((SegmentClass *)nth_class(&f, MAPPED))->warm = false;
	segment = prepare(&f, MAPPED);
	g_assert_null(segment->map);
	g_assert_cmpint(stat_of(segment->fd).st_size, ==, MAPPED_BYTES + 1);
	g_assert_cmpuint((uint64_t)stat_of(segment->fd).st_blocks * 512, >=, MAPPED_BYTES);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_PWRITE), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_MADVISE), ==, 0);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_FSYNC), ==, 1);
	f.base->discard(f.base, segment);
	fixture_deinit(&f);
}

/* B13: write-back protects pages again that a mapping has touched before it. */
static void test_populated_after_the_last_flush(void)
{
	Fixture f;
	Segment *segment;
	bool populated = false;

	fixture_init(&f);
	((SegmentClass *)nth_class(&f, MAPPED))->flush_least_pages = 1;
	segment = prepare(&f, MAPPED);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_SYNC_FILE_RANGE), >, 1);
	for (guint i = 0; i < f.sys.records->len; i++) {
		FakeSysRecord *record = &g_array_index(f.sys.records, FakeSysRecord, i);

		populated |= record->call == FAKE_SYS_MADVISE;
		g_assert_false(populated && (record->call == FAKE_SYS_SYNC_FILE_RANGE ||
					     record->call == FAKE_SYS_PWRITE || record->call == FAKE_SYS_MSYNC ||
					     record->call == FAKE_SYS_FSYNC || record->call == FAKE_SYS_FDATASYNC));
	}
	g_assert_true(populated);
	f.base->discard(f.base, segment);
	fixture_deinit(&f);
}

static void test_prepare_stream(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f);
	segment = prepare(&f, STREAM);
	check_in_pool(&f, segment);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_PWRITE), ==, 0);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, STREAM_BYTES);
	f.base->discard(f.base, segment);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, 0);
	fixture_deinit(&f);
}

static void test_prepare_names_differ(void)
{
	Fixture f;
	Segment *a, *b;

	fixture_init(&f);
	a = prepare(&f, MAPPED);
	b = prepare(&f, MAPPED);
	g_assert_cmpstr(a->name, !=, b->name);
	g_assert_cmpuint(names_in_pool(&f), ==, 2);
	f.base->discard(f.base, a);
	check_in_pool(&f, b);
	f.base->discard(f.base, b);
	fixture_deinit(&f);
}

/* Released, the file stays as it is. */
static void test_release(void)
{
	Fixture f;

	fixture_init(&f);
	f.base->release(f.base, prepare(&f, MAPPED));
	g_assert_cmpuint(names_in_pool(&f), ==, 1);
	fixture_deinit(&f);
}

static void check_prepare_fails(Fixture *f, size_t nth, FakeSysCall call, unsigned n)
{
	Segment *segment = NULL;
	int r;

	g_test_message("%s %u", fake_sys_call_name(call), n);
	fake_sys_fail(&f->sys, call, n, 1, -EIO);
	r = f->base->prepare(f->base, nth_class(f, nth), &f->cancel, &segment);
	g_assert_cmpint(r, ==, -EIO);
	g_assert_null(segment);
	g_assert_cmpuint(names_in_pool(f), ==, 0);
	g_assert_cmpuint(file_provider_held_bytes(f->provider), ==, 0);
}

/* How often a preparation that goes well makes the call. */
static unsigned count_calls(Fixture *f, size_t nth, FakeSysCall call)
{
	Segment *segment;
	unsigned count;

	fake_sys_reset(&f->sys);
	segment = prepare(f, nth);
	count = fake_sys_count(&f->sys, call);
	f->base->discard(f->base, segment);
	return count;
}

static void check_each_call_fails(size_t nth)
{
	Fixture f;
	unsigned n_checked = 0;

	fixture_init(&f);
	for (FakeSysCall call = 0; call < _FAKE_SYS_CALL_MAX; call++) {
		unsigned count = count_calls(&f, nth, call);

		/* Write-back ahead of the fsync is a courtesy. */
		if (call == FAKE_SYS_SYNC_FILE_RANGE)
			continue;
		for (unsigned n = 1; n <= count; n++, n_checked++) {
			fake_sys_reset(&f.sys);
			check_prepare_fails(&f, nth, call, n);
		}
	}
	g_assert_cmpuint(n_checked, >=, nth == MAPPED ? 13 : 5);
	fixture_deinit(&f);
}

static void test_prepare_mapped_fails(void)
{
	check_each_call_fails(MAPPED);
}

static void test_prepare_stream_fails(void)
{
	check_each_call_fails(STREAM);
}

static void raise_cancel(void *arg, FakeSysCall call)
{
	Fixture *f = arg;

	if (call == FAKE_SYS_PWRITE)
		atomic_store(&f->cancel, true);
}

static void test_prepare_cancelled(void)
{
	Fixture f;
	Segment *segment = NULL;

	fixture_init(&f);
	f.sys.before = raise_cancel;
	f.sys.before_arg = &f;
	g_assert_cmpint(f.base->prepare(f.base, nth_class(&f, MAPPED), &f.cancel, &segment), ==,
			-ECANCELED);
	g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_PWRITE), ==, 1);
	g_assert_null(segment);
	g_assert_cmpuint(names_in_pool(&f), ==, 0);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, 0);
	fixture_deinit(&f);
}

static void test_discard_fails(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f);
	segment = prepare(&f, MAPPED);
	fake_sys_fail(&f.sys, FAKE_SYS_UNLINKAT, 1, 1, -EIO);
	f.base->discard(f.base, segment);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "cannot remove"), ==, 1);
	/* Somebody removed it already: nothing to say. */
	segment = prepare(&f, STREAM);
	g_assert_cmpint(unlinkat(f.segments_fd, segment->name, 0), ==, 0);
	f.base->discard(f.base, segment);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "cannot remove"), ==, 1);
	fixture_deinit(&f);
}

static SegmentTarget target(Fixture *f, const char *name)
{
	return (SegmentTarget){
		.dir_fd = f->source_fd,
		.name = name,
		.uid = geteuid() == 0 ? 1234 : geteuid(),
		.gid = geteuid() == 0 ? 2345 : getegid(),
		.mode = 0640,
	};
}

/* `since` is from before the publishing. */
static void check_published(Fixture *f, const Segment *segment, const SegmentTarget *to,
			    time_t since)
{
	struct stat attr, named;
	bool mapped = segment->class->kind == SEGMENT_KIND_MAPPED;
	unsigned n_names_left = segment_becomes_live(segment) ? 1 : 0;

	attr = stat_of(segment->fd);
	g_assert_cmpint(fstatat(to->dir_fd, to->name, &named, AT_SYMLINK_NOFOLLOW), ==, 0);
	g_assert_cmpuint(attr.st_ino, ==, named.st_ino);
	g_assert_cmpuint(attr.st_nlink, ==, 1 + n_names_left);
	g_assert_cmpuint(attr.st_uid, ==, to->uid);
	g_assert_cmpuint(attr.st_gid, ==, to->gid);
	g_assert_cmpuint(attr.st_mode, ==, S_IFREG | to->mode);
	g_assert_cmpint(attr.st_size, ==, mapped ? (off_t)segment->class->size_bytes : 0);
	g_assert_cmpint(attr.st_mtim.tv_sec, >=, since);
	g_assert_cmpint(attr.st_atim.tv_sec, >=, since);
	g_assert_cmpuint(names_in_pool(f), ==, n_names_left);
	g_assert_cmpuint(file_provider_held_bytes(f->provider), ==, 0);
}

/* A second early: the kernel's file times are those of its last tick. */
static time_t a_second_ago(void)
{
	return time(NULL) - 1;
}

static void check_publish(Segment *(*make)(Fixture *, size_t), mode_t mode)
{
	for (size_t nth = MAPPED; nth <= STREAM; nth++) {
		Fixture f;
		Segment *segment;
		SegmentTarget to;
		time_t since = a_second_ago();

		fixture_init(&f);
		segment = make(&f, nth);
		to = target(&f, "file");
		to.mode = mode;
		g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, 0);
		check_published(&f, segment, &to, since);
		f.base->release(f.base, segment);
		fixture_deinit(&f);
	}
}

static void test_publish(void)
{
	check_publish(prepare, 0640);
}

/* A change of owner clears these. */
static void test_publish_set_id_bits(void)
{
	check_publish(prepare, 06755);
}

/* The mode is right already, from a first try; the owner is not. */
static void test_publish_set_id_bits_again(void)
{
	Fixture f;
	Segment *segment;
	SegmentTarget to;
	time_t since = a_second_ago();

	fixture_init(&f);
	segment = prepare(&f, MAPPED);
	to = target(&f, ".warmfs");
	to.mode = 06755;
	g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, -EEXIST);
	check_in_pool(&f, segment);
	to.name = "file";
	to.uid = geteuid();
	g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, 0);
	check_published(&f, segment, &to, since);
	f.base->release(f.base, segment);
	fixture_deinit(&f);
}

static void test_publish_same_mode(void)
{
	check_publish(prepare, 0600);
}

static Segment *prepare_cold(Fixture *f, size_t nth)
{
	Segment *segment = NULL;

	g_assert_cmpint(f->base->prepare_cold(f->base, nth_class(f, nth), &segment), ==, 0);
	g_assert_true(segment->cold);
	g_assert_null(segment->map);
	g_assert_cmpuint(file_provider_held_bytes(f->provider), ==, nth_class(f, nth)->size_bytes);
	return segment;
}

static void test_publish_cold(void)
{
	check_publish(prepare_cold, 0640);
}

/* What it writes through the mapping is the file's. */
static void test_publish_keeps_pages(void)
{
	Fixture f;
	Segment *segment;
	SegmentTarget to;
	char byte = 0;

	fixture_init(&f);
	segment = prepare(&f, MAPPED);
	to = target(&f, "file");
	g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, 0);
	g_assert_cmpint(pwrite(segment->fd, "x", 1, MAPPED_BYTES - 1), ==, 1);
	g_assert_cmpint(((char *)segment->map)[MAPPED_BYTES - 1], ==, 'x');
	((char *)segment->map)[0] = 'y';
	g_assert_cmpint(pread(segment->fd, &byte, 1, 0), ==, 1);
	g_assert_cmpint(byte, ==, 'y');
	f.base->release(f.base, segment);
	fixture_deinit(&f);
}

static void test_publish_name_taken(void)
{
	for (size_t nth = MAPPED; nth <= STREAM; nth++) {
		Fixture f;
		Segment *segment;
		SegmentTarget to;
		time_t since = a_second_ago();

		fixture_init(&f);
		int fd =
			openat(f.source_fd, "taken", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		g_assert_cmpint(write(fd, "theirs", 6), ==, 6);
		segment = prepare(&f, nth);
		to = target(&f, "taken");
		g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, -EEXIST);
		check_in_pool(&f, segment);
		g_assert_cmpint(stat_of(fd).st_size, ==, 6);
		g_assert_cmpuint(stat_of(fd).st_nlink, ==, 1);
		g_assert_cmpuint(file_provider_held_bytes(f.provider), ==,
				 segment->class->size_bytes);
		close(fd);

		to = target(&f, "free");
		to.mode = 0444;
		g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, 0);
		check_published(&f, segment, &to, since);
		f.base->release(f.base, segment);
		fixture_deinit(&f);
	}
}

/* Fails at each of its calls, then works, for another owner. */
static void check_publish_fails(FakeSysCall call, unsigned n)
{
	Fixture f;
	Segment *segment;
	SegmentTarget to;
	struct stat attr;
	time_t since = a_second_ago();

	g_test_message("%s %u", fake_sys_call_name(call), n);
	fixture_init(&f);
	segment = prepare(&f, MAPPED);
	to = target(&f, "file");
	fake_sys_fail(&f.sys, call, n, 1, -EIO);
	g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, -EIO);
	g_assert_cmpint(fstatat(f.source_fd, "file", &attr, 0), ==, -1);
	check_in_pool(&f, segment);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, MAPPED_BYTES);

	to.uid = geteuid();
	to.mode = 0606;
	g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, 0);
	check_published(&f, segment, &to, since);
	f.base->release(f.base, segment);
	fixture_deinit(&f);
}

static void test_publish_fails(void)
{
	if (geteuid() == 0)
		check_publish_fails(FAKE_SYS_FCHOWN, 1);
	check_publish_fails(FAKE_SYS_FCHMOD, 1);
	check_publish_fails(FAKE_SYS_FUTIMENS, 1);
	check_publish_fails(FAKE_SYS_RENAMEAT2, 1);
	check_publish_fails(FAKE_SYS_FTRUNCATE, 1);
}

/* A kill may come between any two system calls. */
static void expect_nothing_or_whole(void *arg, FakeSysCall call)
{
	Fixture *f = arg;
	struct stat attr;

	if (fstatat(f->source_fd, "file", &attr, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	g_test_message("%s", fake_sys_call_name(call));
	g_assert_cmpint(attr.st_size, ==, MAPPED_BYTES);
	g_assert_cmpuint((uint64_t)attr.st_blocks * 512, >=, MAPPED_BYTES);
}

static void test_no_name_before_it_is_whole(void)
{
	Fixture f;
	Segment *segment;
	SegmentTarget to;

	fixture_init(&f);
	f.sys.before = expect_nothing_or_whole;
	f.sys.before_arg = &f;
	for (unsigned cold = 0; cold <= 1; cold++) {
		if (cold)
			g_assert_cmpint(f.base->prepare_cold(f.base, nth_class(&f, MAPPED), &segment), ==, 0);
		else
			segment = prepare(&f, MAPPED);
		to = target(&f, "file");
		g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, 0);
		expect_nothing_or_whole(&f, 0);
		f.base->release(f.base, segment);
		g_assert_cmpint(unlinkat(f.source_fd, "file", 0), ==, 0);
	}
	fixture_deinit(&f);
}

static void test_cold_fails(void)
{
	static const FakeSysCall CALLS[] = { FAKE_SYS_OPENAT, FAKE_SYS_FALLOCATE,
					     FAKE_SYS_FTRUNCATE };
	Fixture f;
	Segment *segment = NULL;

	fixture_init(&f);
	for (size_t i = 0; i < G_N_ELEMENTS(CALLS); i++) {
		fake_sys_fail(&f.sys, CALLS[i], 1, 1, -EIO);
		g_assert_cmpint(f.base->prepare_cold(f.base, nth_class(&f, MAPPED), &segment), ==,
				-EIO);
		g_assert_null(segment);
		g_assert_cmpuint(names_in_pool(&f), ==, 0);
		g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, 0);
	}
	fixture_deinit(&f);
}

/* Where blocks cannot be reserved, the size at least is right. */
static void test_cold_unsupported(void)
{
	Fixture f;
	Segment *segment;
	SegmentTarget to;
	time_t since = a_second_ago();

	fixture_init(&f);
	fake_sys_fail(&f.sys, FAKE_SYS_FALLOCATE, 1, 1, -EOPNOTSUPP);
	segment = prepare_cold(&f, MAPPED);
	to = target(&f, "file");
	g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, 0);
	check_published(&f, segment, &to, since);
	f.base->release(f.base, segment);
	fixture_deinit(&f);
}

/* Blocks of 1000 bytes, 100 of them, the config's 5 % to be left free. */
static void test_check_space(void)
{
	Fixture f;

	fixture_init(&f);
	f.sys.statvfs = (struct statvfs){
		.f_frsize = 1000, .f_blocks = 100, .f_bavail = 50, .f_bfree = 90
	};
	g_assert_cmpint(f.base->check_space(f.base, 1), ==, 0);
	g_assert_cmpint(f.base->check_space(f.base, 45000), ==, 0);
	g_assert_cmpint(f.base->check_space(f.base, 45001), ==, -ENOSPC);
	g_assert_cmpint(f.base->check_space(f.base, 50001), ==, -ENOSPC);
	g_assert_cmpint(f.base->check_space(f.base, UINT64_MAX), ==, -ENOSPC);
	f.sys.statvfs.f_bavail = 5;
	g_assert_cmpint(f.base->check_space(f.base, 0), ==, 0);
	g_assert_cmpint(f.base->check_space(f.base, 1), ==, -ENOSPC);
	fake_sys_fail(&f.sys, FAKE_SYS_FSTATVFS, 1, 1, -EIO);
	g_assert_cmpint(f.base->check_space(f.base, 1), ==, -EIO);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/file-provider/prepare-mapped", test_prepare_mapped);
	test_add("/file-provider/prepare-not-warmed", test_prepare_not_warmed);
	test_add("/file-provider/B13-populated-after-the-last-flush", test_populated_after_the_last_flush);
	test_add("/file-provider/prepare-stream", test_prepare_stream);
	test_add("/file-provider/prepare-names-differ", test_prepare_names_differ);
	test_add("/file-provider/release", test_release);
	test_add("/file-provider/prepare-mapped-fails", test_prepare_mapped_fails);
	test_add("/file-provider/prepare-stream-fails", test_prepare_stream_fails);
	test_add("/file-provider/prepare-cancelled", test_prepare_cancelled);
	test_add("/file-provider/discard-fails", test_discard_fails);
	test_add("/file-provider/publish", test_publish);
	test_add("/file-provider/publish-set-id-bits", test_publish_set_id_bits);
	test_add("/file-provider/publish-set-id-bits-again", test_publish_set_id_bits_again);
	test_add("/file-provider/publish-same-mode", test_publish_same_mode);
	test_add("/file-provider/publish-cold", test_publish_cold);
	test_add("/file-provider/publish-keeps-pages", test_publish_keeps_pages);
	test_add("/file-provider/publish-name-taken", test_publish_name_taken);
	test_add("/file-provider/publish-fails", test_publish_fails);
	test_add("/file-provider/B15-no-name-before-it-is-whole", test_no_name_before_it_is_whole);
	test_add("/file-provider/cold-fails", test_cold_fails);
	test_add("/file-provider/cold-unsupported", test_cold_unsupported);
	test_add("/file-provider/check-space", test_check_space);
	return g_test_run();
}
