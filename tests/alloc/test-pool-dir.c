// SPDX-License-Identifier: Apache-2.0
/* The directory of the pool: whose it is, and what is in it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alloc/pool-dir.h"
#include "alloc/segment-name.h"
#include "tests/lib/test-util.h"

typedef struct Fixture {
	TestLog log;
	char *path;
	int source_fd;
	ClassRules *rules;
	PoolDir *dir;
} Fixture;

static void fixture_init(Fixture *f)
{
	*f = (Fixture){ .path = TEST_DIR_NEW() };
	test_log_init(&f->log);
	f->source_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->rules = class_rules_new();
	class_rules_add(f->rules, test_class_new("a kind=mapped size=1M ahead=2"));
	class_rules_add(f->rules, test_class_new("b kind=stream size=2M ahead=1"));
}

static void fixture_deinit(Fixture *f)
{
	f->dir = pool_dir_close(f->dir);
	class_rules_free(f->rules);
	close(f->source_fd);
	test_log_deinit(&f->log);
	test_dir_remove(f->path);
}

static void open_pool(Fixture *f)
{
	g_autoptr(GError) error = NULL;

	f->dir = pool_dir_open(f->source_fd, "SRC", &f->log.log, &error);
	g_assert_no_error(error);
	g_assert_nonnull(f->dir);
}

static void take_stock(Fixture *f)
{
	g_autoptr(GError) error = NULL;

	g_assert_true(pool_dir_take_stock(f->dir, f->rules, &error));
	g_assert_no_error(error);
}

static void expect_refused(Fixture *f, const char *text)
{
	g_autoptr(GError) error = NULL;
	unsigned n_fds = test_count_fds();

	g_assert_null(pool_dir_open(f->source_fd, "SRC", &f->log.log, &error));
	g_assert_nonnull(error);
	g_test_message("%s", error->message);
	g_assert_nonnull(strstr(error->message, "SRC"));
	g_assert_nonnull(strstr(error->message, text));
	g_assert_null(strchr(error->message, '\n'));
	g_assert_cmpuint(test_count_fds(), ==, n_fds);
}

static void write_file(int dir_fd, const char *name, const char *text)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(write(fd, text, strlen(text)), ==, strlen(text));
	close(fd);
}

static char *read_file(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	char text[256] = "";

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(read(fd, text, sizeof(text) - 1), >=, 0);
	close(fd);
	return g_strdup(text);
}

static bool exists(int dir_fd, const char *name)
{
	return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_ready(Fixture *f, size_t nth, uint64_t serial, char name[SEGMENT_NAME_SIZE])
{
	segment_name_ready(name, class_rules_nth(f->rules, nth), serial);
	write_file(f->dir->segments_fd, name, "");
}

static char *boot_id(void)
{
	char *id = NULL;

	g_assert_true(g_file_get_contents("/proc/sys/kernel/random/boot_id", &id, NULL, NULL));
	return g_strstrip(id);
}

static void write_state(Fixture *f, const char *id, const char *how)
{
	g_autofree char *text = g_strdup_printf("boot %s\n%s\n", id, how);

	write_file(f->dir->fd, "state", text);
}

static void test_fresh(void)
{
	Fixture f;
	struct stat attr;

	fixture_init(&f);
	open_pool(&f);
	g_assert_cmpint(fstatat(f.source_fd, ".warmfs", &attr, AT_SYMLINK_NOFOLLOW), ==, 0);
	g_assert_cmpuint(attr.st_mode, ==, S_IFDIR | 0700);
	take_stock(&f);
	g_assert_cmpuint(g_queue_get_length(&f.dir->adoptable), ==, 0);
	g_autofree char *pid = read_file(f.dir->fd, "lock");
	g_assert_cmpint(atoi(pid), ==, getpid());
	g_autofree char *id = boot_id();
	g_autofree char *running = g_strdup_printf("boot %s\nrunning\n", id);
	g_autofree char *state = read_file(f.dir->fd, "state");
	g_assert_cmpstr(state, ==, running);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, ""), ==, 0);

	pool_dir_mark_clean(f.dir);
	g_autofree char *clean = g_strdup_printf("boot %s\nclean\n", id);
	g_autofree char *after = read_file(f.dir->fd, "state");
	g_assert_cmpstr(after, ==, clean);
	g_assert_false(exists(f.dir->fd, "state.new"));
	fixture_deinit(&f);
}

/* A second one in this process, then in another. */
static void test_locked(void)
{
	Fixture f;
	int ready[2], done[2];
	char byte;
	int status;

	fixture_init(&f);
	open_pool(&f);
	take_stock(&f);
	g_autofree char *pid = g_strdup_printf("pid %ld", (long)getpid());
	expect_refused(&f, pid);
	f.dir = pool_dir_close(f.dir);

	g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
	g_assert_cmpint(pipe2(done, O_CLOEXEC), ==, 0);
	pid_t child = fork();
	if (child == 0) {
		int fd = openat(f.source_fd, ".warmfs/lock", O_RDWR | O_CLOEXEC);

		close(done[1]);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || write(ready[1], "r", 1) != 1)
			_exit(1);
		_exit(read(done[0], &byte, 1) == 0 ? 0 : 1);
	}
	g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
	expect_refused(&f, "already served by another warmfs");
	close(done[1]);
	g_assert_cmpint(waitpid(child, &status, 0), ==, child);
	g_assert_cmpint(status, ==, 0);
	open_pool(&f);
	close(ready[0]);
	close(ready[1]);
	close(done[0]);
	fixture_deinit(&f);
}

/* One that says that it ends is waited for, longer than any other. */
static void test_ending(void)
{
	Fixture f;
	int ready[2], status;
	char byte;

	fixture_init(&f);
	open_pool(&f);
	take_stock(&f);
	pool_dir_mark_ending(f.dir);
	g_autofree char *lock = read_file(f.dir->fd, "lock");
	g_assert_true(g_str_has_suffix(lock, " ending\n"));
	f.dir = pool_dir_close(f.dir);

	g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
	pid_t child = fork();
	if (child == 0) {
		int fd = openat(f.source_fd, ".warmfs/lock", O_RDWR | O_CLOEXEC);

		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || write(ready[1], "r", 1) != 1)
			_exit(1);
		g_usleep(1500 * 1000);
		_exit(0);
	}
	g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
	open_pool(&f);
	take_stock(&f);
	g_autofree char *mine = read_file(f.dir->fd, "lock");
	g_assert_false(g_str_has_suffix(mine, " ending\n"));
	g_assert_cmpint(waitpid(child, &status, 0), ==, child);
	g_assert_cmpint(status, ==, 0);
	close(ready[0]);
	close(ready[1]);
	fixture_deinit(&f);
}

/* Refused, it takes nothing away from the one that runs. */
static void test_refused_changes_nothing(void)
{
	Fixture f;
	char name[SEGMENT_NAME_SIZE];

	fixture_init(&f);
	open_pool(&f);
	take_stock(&f);
	segment_name_warming(name, 7);
	write_file(f.dir->segments_fd, name, "");
	g_autofree char *lock = read_file(f.dir->fd, "lock");
	expect_refused(&f, "already served");
	g_autofree char *after = read_file(f.dir->fd, "lock");
	g_assert_cmpstr(after, ==, lock);
	g_assert_true(exists(f.dir->segments_fd, name));
	fixture_deinit(&f);
}

static void test_not_a_directory(void)
{
	Fixture f;

	fixture_init(&f);
	write_file(f.source_fd, ".warmfs", "somebody's");
	expect_refused(&f, ".warmfs");
	g_assert_true(exists(f.source_fd, ".warmfs"));
	fixture_deinit(&f);
}

static void test_symlink(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(mkdirat(f.source_fd, "elsewhere", 0700), ==, 0);
	g_assert_cmpint(symlinkat("elsewhere", f.source_fd, ".warmfs"), ==, 0);
	expect_refused(&f, ".warmfs");
	int fd = openat(f.source_fd, "elsewhere", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	g_assert_cmpuint(test_count_names(fd), ==, 0);
	close(fd);
	fixture_deinit(&f);
}

static void test_symlinks_inside(void)
{
	static const char *const NAMES[] = { ".warmfs/lock", ".warmfs/pool" };

	for (size_t i = 0; i < G_N_ELEMENTS(NAMES); i++) {
		Fixture f;

		fixture_init(&f);
		g_assert_cmpint(mkdirat(f.source_fd, ".warmfs", 0700), ==, 0);
		g_assert_cmpint(mkdirat(f.source_fd, "elsewhere", 0700), ==, 0);
		g_assert_cmpint(symlinkat("../elsewhere", f.source_fd, NAMES[i]), ==, 0);
		expect_refused(&f, NAMES[i]);
		fixture_deinit(&f);
	}
}

static void test_writable_by_others(void)
{
	static const mode_t MODES[] = { 0777, 0720, 0702, 01777 };

	for (size_t i = 0; i < G_N_ELEMENTS(MODES); i++) {
		Fixture f;

		fixture_init(&f);
		g_assert_cmpint(mkdirat(f.source_fd, ".warmfs", 0700), ==, 0);
		g_assert_cmpint(fchmodat(f.source_fd, ".warmfs", MODES[i], 0), ==, 0);
		expect_refused(&f, "mode 0700");
		g_assert_false(exists(f.source_fd, ".warmfs/lock"));
		fixture_deinit(&f);
	}
}

/* The names inside `pool` are trusted as those beside it are. */
static void test_pool_writable_by_others(void)
{
	Fixture f;

	fixture_init(&f);
	g_assert_cmpint(mkdirat(f.source_fd, ".warmfs", 0755), ==, 0);
	g_assert_cmpint(mkdirat(f.source_fd, ".warmfs/pool", 0700), ==, 0);
	g_assert_cmpint(fchmodat(f.source_fd, ".warmfs/pool", 0777, 0), ==, 0);
	expect_refused(&f, "mode 0700");
	fixture_deinit(&f);
}

static void test_other_owner(void)
{
	Fixture f;

	if (geteuid() != 0) {
		g_test_skip("only root can give a directory away");
		return;
	}
	fixture_init(&f);
	g_assert_cmpint(mkdirat(f.source_fd, ".warmfs", 0700), ==, 0);
	g_assert_cmpint(fchownat(f.source_fd, ".warmfs", 1234, 1234, 0), ==, 0);
	expect_refused(&f, "must belong to the user that runs warmfs");
	g_assert_false(exists(f.source_fd, ".warmfs/lock"));
	fixture_deinit(&f);
}

static void test_foreign_files(void)
{
	static const char *const IN_POOL[] = { "notes.txt",	     "ready-",	    "warming-",
					       "ready-mapped-1-2-3", "warming-xyz", ".hidden" };
	Fixture f;

	fixture_init(&f);
	open_pool(&f);
	write_file(f.dir->fd, "README", "mine");
	g_assert_cmpint(mkdirat(f.dir->fd, "directory", 0700), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(IN_POOL); i++)
		write_file(f.dir->segments_fd, IN_POOL[i], "mine");
	g_assert_cmpint(symlinkat("/etc/passwd", f.dir->segments_fd, "link"), ==, 0);
	take_stock(&f);
	g_assert_cmpuint(g_queue_get_length(&f.dir->adoptable), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(IN_POOL); i++) {
		g_autofree char *text = read_file(f.dir->segments_fd, IN_POOL[i]);
		g_autofree char *named = g_strdup_printf(".warmfs/pool/%s:", IN_POOL[i]);

		g_assert_cmpstr(text, ==, "mine");
		g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, named), ==, 1);
	}
	g_assert_true(exists(f.dir->segments_fd, "link"));
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, ".warmfs/README:"), ==, 1);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, ".warmfs/directory:"), ==, 1);
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, ""), ==,
			 G_N_ELEMENTS(IN_POOL) + 3);
	fixture_deinit(&f);
}

/* Whether a ready segment is still there, and listed, after taking stock. */
static void check_trust(const char *state, bool trusted)
{
	Fixture f;
	char name[SEGMENT_NAME_SIZE];

	fixture_init(&f);
	open_pool(&f);
	make_ready(&f, 0, 1, name);
	if (state)
		write_file(f.dir->fd, "state", state);
	take_stock(&f);
	g_autofree char *printable = g_strescape(state ? state : "(none)", NULL);
	g_test_message("state: %s", printable);
	g_assert_cmpint(exists(f.dir->segments_fd, name), ==, trusted);
	g_assert_cmpuint(g_queue_get_length(&f.dir->adoptable), ==, trusted ? 1 : 0);
	if (trusted)
		g_assert_cmpstr(g_queue_peek_head(&f.dir->adoptable), ==, name);
	fixture_deinit(&f);
}

static void test_state(void)
{
	g_autofree char *id = boot_id();
	g_autofree char *running = g_strdup_printf("boot %s\nrunning\n", id);
	g_autofree char *cut = g_strdup_printf("boot %.8s", id);
	g_autofree char *long_line = g_strnfill(4096, 'x');

	check_trust(running, true);
	check_trust("boot 00000000-0000-0000-0000-000000000000\nclean\n", true);
	check_trust("boot 00000000-0000-0000-0000-000000000000\nrunning\n", false);
	check_trust(NULL, false);
	check_trust("", false);
	check_trust("clean\n", false);
	check_trust("\xff\xfe\x00garbage", false);
	check_trust(cut, false);
	check_trust(long_line, false);
	check_trust("boot x\nunclean\n", false);
	check_trust("boot x\ncleaner\n", false);
}

static void test_state_is_symlink(void)
{
	Fixture f;
	char name[SEGMENT_NAME_SIZE];

	fixture_init(&f);
	open_pool(&f);
	write_file(f.source_fd, "theirs", "boot x\nclean\n");
	g_assert_cmpint(symlinkat("../theirs", f.dir->fd, "state"), ==, 0);
	make_ready(&f, 0, 1, name);
	take_stock(&f);
	g_assert_false(exists(f.dir->segments_fd, name));
	g_autofree char *theirs = read_file(f.source_fd, "theirs");
	g_assert_cmpstr(theirs, ==, "boot x\nclean\n");
	fixture_deinit(&f);
}

/* Marked as running, it stops being trusted across a reboot until it is marked as clean again. */
static void test_state_of_its_own(void)
{
	Fixture f;
	char name[SEGMENT_NAME_SIZE];

	fixture_init(&f);
	open_pool(&f);
	write_state(&f, "x", "clean");
	take_stock(&f);
	g_autofree char *state = read_file(f.dir->fd, "state");
	g_assert_true(g_str_has_suffix(state, "\nrunning\n"));
	make_ready(&f, 0, 1, name);
	pool_dir_mark_clean(f.dir);
	f.dir = pool_dir_close(f.dir);
	open_pool(&f);
	take_stock(&f);
	g_assert_cmpuint(g_queue_get_length(&f.dir->adoptable), ==, 1);
	fixture_deinit(&f);
}

static void test_half_made(void)
{
	Fixture f;
	char name[SEGMENT_NAME_SIZE], empty[SEGMENT_NAME_SIZE], ready[SEGMENT_NAME_SIZE];

	fixture_init(&f);
	open_pool(&f);
	write_state(&f, "x", "clean");
	segment_name_warming(name, 0xabc);
	write_file(f.dir->segments_fd, name, "half");
	/* Several, as long as nothing at all, or without their last byte, and one before a good one. */
	segment_name_warming(empty, 1);
	write_file(f.dir->segments_fd, empty, "");
	segment_name_warming(empty, 2);
	write_file(f.dir->segments_fd, empty, "");
	/* One that was to be used again, half overwritten, and one whose name the application still has. */
	segment_name_recycled(empty, 4);
	write_file(f.dir->segments_fd, empty, "half");
	segment_name_recycled(empty, 5);
	write_file(f.dir->segments_fd, empty, "whole");
	g_assert_cmpint(linkat(f.dir->segments_fd, empty, f.source_fd, "still-there", 0), ==, 0);
	make_ready(&f, 0, 3, ready);
	take_stock(&f);
	g_assert_false(exists(f.dir->segments_fd, name));
	g_assert_true(exists(f.source_fd, "still-there"));
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_NOTICE, name), ==, 1);
	g_assert_cmpuint(test_count_names(f.dir->segments_fd), ==, 1);
	g_assert_cmpuint(g_queue_get_length(&f.dir->adoptable), ==, 1);
	g_assert_true(exists(f.dir->segments_fd, ready));
	fixture_deinit(&f);
}

/* Published, and recovery could not seal it: prepared or not, it is somebody's. */
static void test_live(void)
{
	Fixture f;
	char ready[SEGMENT_NAME_SIZE], warming[SEGMENT_NAME_SIZE];

	fixture_init(&f);
	open_pool(&f);
	make_ready(&f, 1, 1, ready);
	segment_name_warming(warming, 2);
	write_file(f.dir->segments_fd, warming, "not prepared");
	g_assert_cmpint(linkat(f.dir->segments_fd, ready, f.source_fd, "one", 0), ==, 0);
	g_assert_cmpint(linkat(f.dir->segments_fd, warming, f.source_fd, "other", 0), ==, 0);
	take_stock(&f);
	g_assert_true(exists(f.dir->segments_fd, ready));
	g_assert_true(exists(f.dir->segments_fd, warming));
	g_assert_true(g_queue_is_empty(&f.dir->adoptable));
	fixture_deinit(&f);
}

static void test_half_made_directory(void)
{
	Fixture f;
	char name[SEGMENT_NAME_SIZE];

	fixture_init(&f);
	open_pool(&f);
	segment_name_warming(name, 0xabc);
	g_assert_cmpint(mkdirat(f.dir->segments_fd, name, 0700), ==, 0);
	take_stock(&f);
	g_assert_true(exists(f.dir->segments_fd, name));
	g_assert_cmpuint(test_log_count(&f.log, LOG_LEVEL_WARNING, name), ==, 1);
	fixture_deinit(&f);
}

/* As many as the classes keep ahead; what no class is for goes, too. */
static void test_wanted(void)
{
	Fixture f;
	char name[SEGMENT_NAME_SIZE], other[SEGMENT_NAME_SIZE];
	g_autoptr(SegmentClass) gone = test_class_new("gone kind=mapped size=3M");
	unsigned n[2] = { 0, 0 };

	fixture_init(&f);
	open_pool(&f);
	write_state(&f, "x", "clean");
	for (uint64_t serial = 1; serial <= 5; serial++) {
		make_ready(&f, 0, serial, name);
		make_ready(&f, 1, 10 + serial, name);
	}
	segment_name_ready(other, gone, 99);
	write_file(f.dir->segments_fd, other, "");
	take_stock(&f);
	g_assert_false(exists(f.dir->segments_fd, other));
	for (GList *link = f.dir->adoptable.head; link; link = link->next) {
		SegmentNameParts parts;

		g_assert_true(exists(f.dir->segments_fd, link->data));
		g_assert_cmpint(segment_name_parse(link->data, &parts), ==, SEGMENT_NAME_READY);
		n[parts.kind == SEGMENT_KIND_STREAM]++;
	}
	g_assert_cmpuint(n[0], ==, 2);
	g_assert_cmpuint(n[1], ==, 1);
	g_assert_cmpuint(test_count_names(f.dir->segments_fd), ==, 3);
	fixture_deinit(&f);
}

static void test_no_classes(void)
{
	Fixture f;
	char name[SEGMENT_NAME_SIZE];
	g_autoptr(GError) error = NULL;
	ClassRules *none = class_rules_new();

	fixture_init(&f);
	open_pool(&f);
	write_state(&f, "x", "clean");
	make_ready(&f, 0, 1, name);
	g_assert_true(pool_dir_take_stock(f.dir, none, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(test_count_names(f.dir->segments_fd), ==, 0);
	class_rules_free(none);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/pool-dir/fresh", test_fresh);
	test_add("/pool-dir/locked", test_locked);
	test_add("/pool-dir/ending", test_ending);
	test_add("/pool-dir/refused-changes-nothing", test_refused_changes_nothing);
	test_add("/pool-dir/not-a-directory", test_not_a_directory);
	test_add("/pool-dir/symlink", test_symlink);
	test_add("/pool-dir/symlinks-inside", test_symlinks_inside);
	test_add("/pool-dir/writable-by-others", test_writable_by_others);
	test_add("/pool-dir/pool-writable-by-others", test_pool_writable_by_others);
	test_add("/pool-dir/other-owner", test_other_owner);
	test_add("/pool-dir/foreign-files", test_foreign_files);
	test_add("/pool-dir/state", test_state);
	test_add("/pool-dir/state-is-symlink", test_state_is_symlink);
	test_add("/pool-dir/state-of-its-own", test_state_of_its_own);
	test_add("/pool-dir/B15-half-made-files-stop-no-start", test_half_made);
	test_add("/pool-dir/live", test_live);
	test_add("/pool-dir/half-made-directory", test_half_made_directory);
	test_add("/pool-dir/wanted", test_wanted);
	test_add("/pool-dir/no-classes", test_no_classes);
	return g_test_run();
}
