// SPDX-License-Identifier: Apache-2.0
#include "tests/alloc/provider-fixture.h"

#include <fcntl.h>
#include <unistd.h>

void fixture_open(Fixture *f)
{
	static const FileProviderConfig config = { .reserve_percent = 5 };
	g_autoptr(GError) error = NULL;

	f->dir = pool_dir_open(f->source_fd, f->path, &f->log.log, &error);
	g_assert_no_error(error);
	g_assert_true(pool_dir_take_stock(f->dir, f->rules, &error));
	g_assert_no_error(error);
	f->segments_fd = f->dir->segments_fd;
	f->provider = file_provider_new(f->dir, &f->sys.base, &config, &f->log.log);
	f->base = file_provider_base(f->provider);
}

void fixture_close(Fixture *f)
{
	f->provider = file_provider_free(f->provider);
	pool_dir_mark_clean(f->dir);
	f->dir = pool_dir_close(f->dir);
}

void fixture_init(Fixture *f)
{
	g_autofree char *mapped = g_strdup_printf("mapped kind=mapped size=%d folio=%d ahead=3",
						  MAPPED_BYTES, FOLIO_BYTES);
	g_autofree char *stream =
		g_strdup_printf("stream kind=stream size=%d ahead=3", STREAM_BYTES);

	*f = (Fixture){ .path = TEST_DIR_NEW() };
	test_log_init(&f->log);
	f->source_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	g_assert_cmpint(f->source_fd, >=, 0);
	f->rules = class_rules_new();
	class_rules_add(f->rules, test_class_new(mapped));
	class_rules_add(f->rules, test_class_new(stream));
	fake_sys_init(&f->sys, true);
	/* So that every kernel takes the same way. */
	f->sys.no_write_zeroes = true;
	fixture_open(f);
}

void fixture_deinit(Fixture *f)
{
	fixture_close(f);
	fake_sys_deinit(&f->sys);
	class_rules_free(f->rules);
	close(f->source_fd);
	test_log_deinit(&f->log);
	test_dir_remove(f->path);
}

const SegmentClass *nth_class(Fixture *f, size_t nth)
{
	return class_rules_nth(f->rules, nth);
}

Segment *prepare(Fixture *f, size_t nth)
{
	Segment *segment = NULL;

	g_assert_cmpint(f->base->prepare(f->base, nth_class(f, nth), &f->cancel, &segment), ==, 0);
	g_assert_nonnull(segment);
	g_assert_true(segment->class == nth_class(f, nth));
	return segment;
}

unsigned names_in_pool(Fixture *f)
{
	return test_count_names(f->segments_fd);
}

struct stat stat_of(int fd)
{
	struct stat attr;

	g_assert_cmpint(fstat(fd, &attr), ==, 0);
	return attr;
}

void check_in_pool(Fixture *f, const Segment *segment)
{
	struct stat attr, named;
	bool mapped = segment->class->kind == SEGMENT_KIND_MAPPED;

	attr = stat_of(segment->fd);
	g_assert_cmpint(fstatat(f->segments_fd, segment->name, &named, AT_SYMLINK_NOFOLLOW), ==, 0);
	g_assert_cmpuint(attr.st_ino, ==, named.st_ino);
	g_assert_cmpuint(attr.st_nlink, ==, 1);
	g_assert_cmpint(attr.st_size, ==, mapped ? (off_t)segment->class->size_bytes + 1 : 0);
	g_assert_cmpuint((uint64_t)attr.st_blocks * 512, >=, segment->class->size_bytes);
	g_assert_cmpint(attr.st_mtim.tv_sec, ==, 0);
	g_assert_cmpint(attr.st_mtim.tv_nsec, ==, 0);
	g_assert_cmpint(segment->map != NULL, ==, mapped);
	g_assert_cmpuint(segment->uid, ==, attr.st_uid);
	g_assert_cmpuint(segment->gid, ==, attr.st_gid);
	g_assert_cmpuint(segment->mode, ==, attr.st_mode & 07777);
}
