// SPDX-License-Identifier: Apache-2.0
/* Mounts are made in a namespace of the test's own, where it may make one. */
#include "fs/mount-point.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/test-util.h"

static bool may_mount;

typedef struct Fixture {
	char *path;
	char *source;
	int source_fd;
} Fixture;

static char *make_dir(Fixture *f, const char *name)
{
	char *path = g_build_filename(f->path, name, NULL);

	g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
	return path;
}

static void fixture_init(Fixture *f)
{
	g_autoptr(GError) error = NULL;

	f->path = TEST_DIR_NEW();
	f->source = make_dir(f, "source");
	f->source_fd = mount_point_open_source(f->source, &error);
	g_assert_no_error(error);
	g_assert_cmpint(f->source_fd, >=, 0);
	g_assert_cmpint(fcntl(f->source_fd, F_GETFD), ==, FD_CLOEXEC);
}

static void fixture_deinit(Fixture *f)
{
	close(f->source_fd);
	g_free(f->source);
	test_dir_remove(f->path);
}

static void accept(Fixture *f, const char *path)
{
	g_autoptr(GError) error = NULL;

	g_assert_true(mount_point_check(path, f->source_fd, &error));
	g_assert_no_error(error);
}

static void refuse(Fixture *f, const char *path, const char *why)
{
	g_autoptr(GError) error = NULL;

	g_assert_false(mount_point_check(path, f->source_fd, &error));
	g_assert_nonnull(error);
	g_test_message("%s", error->message);
	g_assert_true(g_str_has_prefix(error->message, "MOUNTPOINT "));
	g_assert_nonnull(strstr(error->message, path));
	g_assert_nonnull(strstr(error->message, why));
	g_assert_null(strchr(error->message, '\n'));
}

static void test_accepts(void)
{
	Fixture f;

	fixture_init(&f);
	g_autofree char *beside = make_dir(&f, "mnt");
	g_autofree char *with_blank = make_dir(&f, "a directory\twith blanks");
	g_autofree char *like_source = make_dir(&f, "source2");
	g_autofree char *link = g_build_filename(f.path, "link", NULL);
	accept(&f, beside);
	accept(&f, with_blank);
	accept(&f, like_source);
	accept(&f, f.source);
	accept(&f, f.path);
	g_assert_cmpint(symlink("source", link), ==, 0);
	accept(&f, link);
	fixture_deinit(&f);
}

static void test_below_source(void)
{
	Fixture f;

	fixture_init(&f);
	g_autofree char *below = make_dir(&f, "source/a");
	g_autofree char *deep = make_dir(&f, "source/a/b/c/d/e");
	g_autofree char *roundabout = g_build_filename(f.path, "source/a/../a", NULL);
	g_autofree char *link = g_build_filename(f.path, "link", NULL);
	refuse(&f, below, "inside SOURCE");
	refuse(&f, deep, "inside SOURCE");
	refuse(&f, roundabout, "inside SOURCE");
	g_assert_cmpint(symlink("source/a/b", link), ==, 0);
	refuse(&f, link, "inside SOURCE");
	fixture_deinit(&f);
}

static void test_not_a_directory(void)
{
	Fixture f;

	fixture_init(&f);
	g_autofree char *none = g_build_filename(f.path, "none", NULL);
	g_autofree char *file = g_build_filename(f.path, "file", NULL);
	close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	refuse(&f, none, g_strerror(ENOENT));
	refuse(&f, file, g_strerror(ENOTDIR));
	refuse(&f, "", g_strerror(ENOENT));
	fixture_deinit(&f);
}

static void test_bad_source(void)
{
	char *dir = TEST_DIR_NEW();
	g_autofree char *none = g_build_filename(dir, "none", NULL);
	g_autofree char *file = g_build_filename(dir, "file", NULL);
	const char *paths[] = { none, file, "" };

	close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_cmpint(mount_point_open_source(paths[i], &error), ==, -1);
		g_assert_nonnull(error);
		g_assert_true(g_str_has_prefix(error->message, "SOURCE "));
		g_assert_nonnull(strstr(error->message, paths[i]));
	}
	test_dir_remove(dir);
}

static void mount_tmpfs(const char *path)
{
	if (mount("some device", path, "tmpfs", 0, "size=64K") < 0)
		g_error("mount %s: %s", path, g_strerror(errno));
}

static void test_mounted(void)
{
	Fixture f;

	if (!may_mount) {
		g_test_skip("may not mount");
		return;
	}
	fixture_init(&f);
	g_autofree char *taken = make_dir(&f, "a taken\\040 one");
	g_autofree char *link = g_build_filename(f.path, "link", NULL);
	mount_tmpfs(taken);
	g_assert_cmpint(symlink(taken, link), ==, 0);
	refuse(&f, taken, "already a mount point (tmpfs on some device)");
	refuse(&f, link, "already a mount point");
	g_autofree char *inside = g_build_filename(taken, "inside", NULL);
	g_assert_cmpint(mkdir(inside, 0755), ==, 0);
	accept(&f, inside);
	g_assert_cmpint(umount(taken), ==, 0);
	accept(&f, taken);
	fixture_deinit(&f);
}

/* To mount over the source is fine, also where that is the root of a filesystem. */
static void test_source_is_mounted(void)
{
	Fixture f;

	if (!may_mount) {
		g_test_skip("may not mount");
		return;
	}
	fixture_init(&f);
	mount_tmpfs(f.source);
	close(f.source_fd);
	f.source_fd = mount_point_open_source(f.source, NULL);
	accept(&f, f.source);
	g_autofree char *below = make_dir(&f, "source/a");
	refuse(&f, below, "inside SOURCE");
	close(f.source_fd);
	f.source_fd = -1;
	g_assert_cmpint(umount(f.source), ==, 0);
	fixture_deinit(&f);
}

/* A directory bound to another place is the same directory. */
static void test_bound(void)
{
	Fixture f;

	if (!may_mount) {
		g_test_skip("may not mount");
		return;
	}
	fixture_init(&f);
	g_autofree char *bound = make_dir(&f, "bound");
	g_autofree char *below = make_dir(&f, "source/a");
	g_autofree char *bound_below = g_build_filename(bound, "a", NULL);
	g_assert_cmpint(mount(f.source, bound, NULL, MS_BIND, NULL), ==, 0);
	refuse(&f, bound_below, "inside SOURCE");
	g_assert_cmpint(umount(bound), ==, 0);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	/* What a test that failed leaves mounted ends with this process. */
	may_mount = unshare(CLONE_NEWNS) == 0;
	/* EINVAL in a chroot, where / is no mount point. */
	if (may_mount && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		may_mount = errno == EINVAL;
	test_add("/mount-point/accepts", test_accepts);
	test_add("/mount-point/below-source", test_below_source);
	test_add("/mount-point/not-a-directory", test_not_a_directory);
	test_add("/mount-point/bad-source", test_bad_source);
	test_add("/mount-point/mounted", test_mounted);
	test_add("/mount-point/source-is-mounted", test_source_is_mounted);
	test_add("/mount-point/bound", test_bound);
	return g_test_run();
}
