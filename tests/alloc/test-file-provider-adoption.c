// SPDX-License-Identifier: Apache-2.0
/* What a mount finds of the one before: it takes what is untouched, and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "alloc/allocate-service.h"
#include "tests/alloc/provider-fixture.h"

/* Leaves one ready segment behind, as a clean stop does; its name (g_free). */
static char *leave_one(Fixture *f, size_t nth)
{
	Segment *segment = prepare(f, nth);
	char *name = g_strdup(segment->name);

	f->base->release(f->base, segment);
	fixture_close(f);
	return name;
}

static void test_adopts(void)
{
	for (size_t nth = MAPPED; nth <= STREAM; nth++) {
		Fixture f;
		Segment *segment;

		fixture_init(&f);
		g_autofree char *name = leave_one(&f, nth);
		fixture_open(&f);
		g_assert_cmpuint(file_provider_held_bytes(f.provider), ==,
				 nth_class(&f, nth)->size_bytes);
		g_assert_cmpuint(file_provider_held_files(f.provider), ==, 1);
		fake_sys_reset(&f.sys);
		segment = prepare(&f, nth);
		g_assert_true(segment->adopted);
		g_assert_cmpstr(segment->name, ==, name);
		check_in_pool(&f, segment);
		g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_PWRITE), ==, 0);
		g_assert_cmpuint(fake_sys_count(&f.sys, FAKE_SYS_MADVISE), ==,
				 nth == MAPPED ? 1 : 0);
		g_assert_cmpuint(file_provider_held_bytes(f.provider), ==,
				 nth_class(&f, nth)->size_bytes);

		/* Each once. */
		Segment *next = prepare(&f, nth);
		g_assert_false(next->adopted);
		f.base->discard(f.base, next);
		f.base->discard(f.base, segment);
		g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, 0);
		fixture_deinit(&f);
	}
}

/* What only has reserved blocks serves no class that wants warm ones, nor the other way. */
static void test_adopts_no_others(void)
{
	for (int was_warm = 0; was_warm <= 1; was_warm++) {
		Fixture f;
		Segment *segment;

		fixture_init(&f);
		((SegmentClass *)nth_class(&f, MAPPED))->warm = was_warm;
		g_autofree char *name = leave_one(&f, MAPPED);
		((SegmentClass *)nth_class(&f, MAPPED))->warm = !was_warm;
		fixture_open(&f);
		g_assert_cmpuint(names_in_pool(&f), ==, 0);
		segment = prepare(&f, MAPPED);
		g_assert_false(segment->adopted);
		g_assert_cmpint(segment->map != NULL, ==, !was_warm);
		f.base->discard(f.base, segment);
		fixture_deinit(&f);
	}
}

/* Killed with a segment ready: applications see nothing of it, and the next mount has it. */
static void test_unclaimed_after_kill(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f);
	segment = prepare(&f, MAPPED);
	g_autofree char *name = g_strdup(segment->name);
	f.base->release(f.base, segment);
	f.provider = file_provider_free(f.provider);
	f.dir = pool_dir_close(f.dir);
	/* Only the pool directory. */
	g_assert_cmpuint(test_count_names(f.source_fd), ==, 1);
	fixture_open(&f);
	segment = prepare(&f, MAPPED);
	g_assert_true(segment->adopted);
	g_assert_cmpstr(segment->name, ==, name);
	g_assert_cmpuint(test_count_names(f.source_fd), ==, 1);
	f.base->discard(f.base, segment);
	fixture_deinit(&f);
}

static void test_adopted_is_published(void)
{
	Fixture f;
	Segment *segment;
	SegmentTarget to;

	fixture_init(&f);
	g_autofree char *name = leave_one(&f, MAPPED);
	fixture_open(&f);
	segment = prepare(&f, MAPPED);
	to = (SegmentTarget){ .dir_fd = f.source_fd,
			      .name = "file",
			      .uid = geteuid(),
			      .gid = getegid(),
			      .mode = 0644 };
	g_assert_cmpint(f.base->publish(f.base, segment, &to), ==, 0);
	g_assert_cmpint(stat_of(segment->fd).st_size, ==, MAPPED_BYTES);
	g_assert_cmpuint(stat_of(segment->fd).st_mode & 07777, ==, 0644);
	g_assert_cmpint(stat_of(segment->fd).st_mtim.tv_sec, !=, 0);
	g_assert_cmpuint(names_in_pool(&f), ==, 0);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, 0);
	f.base->release(f.base, segment);
	fixture_deinit(&f);
}

static void test_other_class_is_left(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f);
	g_autofree char *name = leave_one(&f, MAPPED);
	fixture_open(&f);
	segment = prepare(&f, STREAM);
	g_assert_false(segment->adopted);
	g_assert_cmpuint(names_in_pool(&f), ==, 2);
	f.base->discard(f.base, segment);
	fixture_deinit(&f);
}

typedef void (*Tamper)(Fixture *f, const char *name, int fd);

static void tamper_write(Fixture *f, const char *name, int fd)
{
	(void)f;
	(void)name;
	g_assert_cmpint(pwrite(fd, "x", 1, 1000), ==, 1);
}

static void tamper_append(Fixture *f, const char *name, int fd)
{
	static const struct timespec never[2];

	(void)f;
	(void)name;
	g_assert_cmpint(ftruncate(fd, MAPPED_BYTES + 2), ==, 0);
	g_assert_cmpint(futimens(fd, never), ==, 0);
}

/* As an application has had it, before the rename was lost. */
static void tamper_cut(Fixture *f, const char *name, int fd)
{
	static const struct timespec never[2];

	(void)f;
	(void)name;
	g_assert_cmpint(ftruncate(fd, MAPPED_BYTES), ==, 0);
	g_assert_cmpint(futimens(fd, never), ==, 0);
}

static void tamper_times(Fixture *f, const char *name, int fd)
{
	static const struct timespec times[2] = { { .tv_sec = 0 }, { .tv_nsec = 1 } };

	(void)f;
	(void)name;
	g_assert_cmpint(futimens(fd, times), ==, 0);
}

static void tamper_link(Fixture *f, const char *name, int fd)
{
	(void)fd;
	g_assert_cmpint(linkat(f->segments_fd, name, f->source_fd, "another-name", 0), ==, 0);
}

static void tamper_holes(Fixture *f, const char *name, int fd)
{
	static const struct timespec never[2];

	(void)f;
	(void)name;
	g_assert_cmpint(ftruncate(fd, 0), ==, 0);
	g_assert_cmpint(ftruncate(fd, MAPPED_BYTES + 1), ==, 0);
	g_assert_cmpint(futimens(fd, never), ==, 0);
}

static void tamper_symlink(Fixture *f, const char *name, int fd)
{
	(void)fd;
	g_assert_cmpint(renameat(f->segments_fd, name, f->source_fd, "moved"), ==, 0);
	g_assert_cmpint(symlinkat("../../moved", f->segments_fd, name), ==, 0);
}

static void tamper_fifo(Fixture *f, const char *name, int fd)
{
	(void)fd;
	g_assert_cmpint(unlinkat(f->segments_fd, name, 0), ==, 0);
	g_assert_cmpint(mkfifoat(f->segments_fd, name, 0600), ==, 0);
}

static void tamper_remove(Fixture *f, const char *name, int fd)
{
	(void)fd;
	g_assert_cmpint(unlinkat(f->segments_fd, name, 0), ==, 0);
}

/* It is removed, told, and a new one is made; nothing but its name in the pool is touched. */
static void check_tampered(Tamper tamper)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f);
	g_autofree char *name = leave_one(&f, MAPPED);
	fixture_open(&f);
	int fd = openat(f.segments_fd, name, O_RDWR | O_CLOEXEC);
	g_assert_cmpint(fd, >=, 0);
	tamper(&f, name, fd);
	segment = prepare(&f, MAPPED);
	g_assert_false(segment->adopted);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, name), ==, 1);
	g_assert_cmpint(faccessat(f.segments_fd, name, F_OK, AT_SYMLINK_NOFOLLOW), ==, -1);
	g_assert_cmpuint(names_in_pool(&f), ==, 1);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, MAPPED_BYTES);
	f.base->discard(f.base, segment);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==, 0);
	if (tamper == tamper_symlink)
		g_assert_cmpint(stat_of(fd).st_size, ==, MAPPED_BYTES + 1);
	if (tamper == tamper_link)
		g_assert_cmpuint(stat_of(fd).st_nlink, ==, 1);
	close(fd);
	fixture_deinit(&f);
}

static void test_tampered(void)
{
	static const Tamper TAMPERS[] = { tamper_write,	  tamper_append, tamper_cut,
					  tamper_times,	  tamper_link,	 tamper_holes,
					  tamper_symlink, tamper_fifo,	 tamper_remove };

	for (size_t i = 0; i < G_N_ELEMENTS(TAMPERS); i++) {
		g_test_message("tamper %zu", i);
		check_tampered(TAMPERS[i]);
	}
}

/* A directory of such a name cannot be removed; it is told and left. */
static void test_directory(void)
{
	Fixture f;
	Segment *segment;

	fixture_init(&f);
	g_autofree char *name = leave_one(&f, MAPPED);
	fixture_open(&f);
	g_assert_cmpint(unlinkat(f.segments_fd, name, 0), ==, 0);
	g_assert_cmpint(mkdirat(f.segments_fd, name, 0700), ==, 0);
	segment = prepare(&f, MAPPED);
	g_assert_false(segment->adopted);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, "cannot remove"), ==, 1);
	g_assert_cmpint(faccessat(f.segments_fd, name, F_OK, 0), ==, 0);
	f.base->discard(f.base, segment);
	fixture_deinit(&f);
}

static void raise_cancel(void *arg, FakeSysCall call)
{
	Fixture *f = arg;

	if (call == FAKE_SYS_MMAP)
		atomic_store(&f->cancel, true);
}

/* Stopped while it takes over: the segment stays for the next mount. */
static void test_cancelled(void)
{
	Fixture f;
	Segment *segment = NULL;

	fixture_init(&f);
	g_autofree char *name = leave_one(&f, MAPPED);
	fixture_open(&f);
	f.sys.before = raise_cancel;
	f.sys.before_arg = &f;
	g_assert_cmpint(f.base->prepare(f.base, nth_class(&f, MAPPED), &f.cancel, &segment), ==,
			-ECANCELED);
	f.sys.before = NULL;
	atomic_store(&f.cancel, false);
	g_assert_cmpuint(names_in_pool(&f), ==, 1);
	g_assert_cmpuint(file_provider_held_bytes(f.provider), ==,
			 nth_class(&f, MAPPED)->size_bytes);
	fixture_close(&f);
	fixture_open(&f);
	segment = prepare(&f, MAPPED);
	g_assert_true(segment->adopted);
	f.base->discard(f.base, segment);
	fixture_deinit(&f);
}

/* What is short for a moment says nothing about the segment. */
static void test_passing_error(void)
{
	static const struct {
		FakeSysCall call;
		int error;
	} CASES[] = { { FAKE_SYS_OPENAT, -EMFILE },
		      { FAKE_SYS_MMAP, -ENOMEM },
		      { FAKE_SYS_FSTAT, -EINTR } };

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		Fixture f;
		Segment *segment = NULL;

		g_test_message("%s", fake_sys_call_name(CASES[i].call));
		fixture_init(&f);
		g_autofree char *name = leave_one(&f, MAPPED);
		fixture_open(&f);
		fake_sys_fail(&f.sys, CASES[i].call, 1, 1, CASES[i].error);
		if (f.base->prepare(f.base, nth_class(&f, MAPPED), &f.cancel, &segment) == 0)
			f.base->discard(f.base, segment);
		g_assert_cmpint(faccessat(f.segments_fd, name, F_OK, 0), ==, 0);
		fixture_deinit(&f);
	}
}

/*
 * Taking over costs no space. A mount on a disk that is full beyond the reserve must do it all the
 * same: only what is in the pool can give way.
 */
static void test_full_disk(void)
{
	Fixture f;
	AllocateService *service;

	fixture_init(&f);
	g_autofree char *name = leave_one(&f, MAPPED);
	fixture_open(&f);
	f.sys.statvfs = (struct statvfs){ .f_frsize = 4096, .f_blocks = 1000000, .f_bavail = 100 };
	service = allocate_service_new(f.rules, f.base, NULL, &f.log.log);
	g_assert_cmpint(allocate_service_start(service, 1), ==, 0);
	TEST_WAIT_UNTIL(allocate_service_counter(service, MAPPED, ALLOC_ADOPTED) == 1 ||
			allocate_service_counter(service, MAPPED, ALLOC_ERRORS) >= 3);
	allocate_service_stop(service);
	/* Whether it is still there is another matter: below the reserve the pool gives way. */
	g_assert_cmpuint(allocate_service_counter(service, MAPPED, ALLOC_ADOPTED), ==, 1);
	allocate_service_free(service);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/file-provider-adoption/adopts", test_adopts);
	test_add("/file-provider-adoption/adopts-no-others", test_adopts_no_others);
	test_add("/file-provider-adoption/B16-an-unclaimed-segment-has-no-final-name",
		 test_unclaimed_after_kill);
	test_add("/file-provider-adoption/adopted-is-published", test_adopted_is_published);
	test_add("/file-provider-adoption/other-class-is-left", test_other_class_is_left);
	test_add("/file-provider-adoption/tampered", test_tampered);
	test_add("/file-provider-adoption/directory", test_directory);
	test_add("/file-provider-adoption/cancelled", test_cancelled);
	test_add("/file-provider-adoption/passing-error", test_passing_error);
	test_add("/file-provider-adoption/full-disk", test_full_disk);
	return g_test_run();
}
