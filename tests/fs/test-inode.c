// SPDX-License-Identifier: Apache-2.0
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/lib/test-util.h"

typedef struct Fixture {
	char *path;
	DescriptorBudget budget;
	InodeTable *table;
	int root_fd;
} Fixture;

static void fixture_init(Fixture *f)
{
	f->path = TEST_DIR_NEW();
	descriptor_budget_init(&f->budget, 1024);
	f->table = g_new0(InodeTable, 1);
	f->root_fd = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	g_assert_cmpint(inode_table_init(f->table, f->root_fd, &f->budget), ==, 0);
}

static void fixture_deinit(Fixture *f)
{
	inode_table_deinit(f->table);
	descriptor_budget_deinit(&f->budget);
	g_free(f->table);
	test_dir_remove(f->path);
}

static void make_file(Fixture *f, const char *name)
{
	close(openat(f->root_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
}

static Inode *lookup(Fixture *f, const char *name)
{
	struct stat attr, direct;
	Inode *inode = NULL;

	g_assert_cmpint(inode_table_lookup(f->table, f->root_fd, name, &attr, &inode), ==, 0);
	g_assert_cmpint(fstatat(f->root_fd, name, &direct, AT_SYMLINK_NOFOLLOW), ==, 0);
	g_assert_cmpuint(attr.st_ino, ==, direct.st_ino);
	g_assert_cmpuint(inode->ino, ==, direct.st_ino);
	g_assert_cmpuint(inode->dev, ==, direct.st_dev);
	g_assert_true(inode_table_get(f->table, inode->index) == inode);
	return inode;
}

static void test_root(void)
{
	Fixture f;
	Inode *root, *again;

	fixture_init(&f);
	root = inode_table_get(f.table, INODE_ROOT_INDEX);
	g_assert_cmpint(root->fd, ==, f.root_fd);
	g_assert_cmpuint(root->index, ==, 1);
	again = lookup(&f, ".");
	g_assert_true(again == root);
	inode_table_forget(f.table, root, 1);
	g_assert_true(lookup(&f, ".") == root);
	fixture_deinit(&f);
}

static void test_bad_root(void)
{
	InodeTable *table = g_new0(InodeTable, 1);
	DescriptorBudget budget = { 0 };

	g_assert_cmpint(inode_table_init(table, -1, &budget), ==, -EBADF);
	g_free(table);
}

static void test_lookup(void)
{
	Fixture f;
	Inode *a, *b;
	unsigned n_fds;

	fixture_init(&f);
	make_file(&f, "a");
	make_file(&f, "b");
	g_assert_cmpint(linkat(f.root_fd, "a", f.root_fd, "other-name", 0), ==, 0);
	a = lookup(&f, "a");
	b = lookup(&f, "b");
	g_assert_true(a != b);
	g_assert_cmpuint(a->index, !=, b->index);
	n_fds = test_count_fds();
	/* One record and one descriptor for one file, whatever it is called and how often. */
	g_assert_true(lookup(&f, "a") == a);
	g_assert_true(lookup(&f, "other-name") == a);
	g_assert_cmpuint(a->n_lookups, ==, 3);
	g_assert_cmpuint(test_count_fds(), ==, n_fds);
	fixture_deinit(&f);
}

static void test_lookup_fails(void)
{
	Fixture f;
	struct stat attr;
	Inode *inode = NULL;
	unsigned n_fds;

	fixture_init(&f);
	n_fds = test_count_fds();
	g_assert_cmpint(inode_table_lookup(f.table, f.root_fd, "none", &attr, &inode), ==, -ENOENT);
	g_assert_cmpint(inode_table_lookup(f.table, -1, "none", &attr, &inode), ==, -EBADF);
	g_assert_cmpint(inode_table_enter(f.table, -1, &attr, &inode), ==, -EBADF);
	g_assert_null(inode);
	g_assert_cmpuint(test_count_fds(), ==, n_fds);
	fixture_deinit(&f);
}

/* A link is an object of its own; it is not followed. */
static void test_symlink(void)
{
	Fixture f;
	struct stat attr;
	Inode *inode;

	fixture_init(&f);
	make_file(&f, "a");
	g_assert_cmpint(symlinkat("a", f.root_fd, "link"), ==, 0);
	g_assert_cmpint(symlinkat("nowhere", f.root_fd, "dangling"), ==, 0);
	g_assert_cmpint(inode_table_lookup(f.table, f.root_fd, "link", &attr, &inode), ==, 0);
	g_assert_true(S_ISLNK(attr.st_mode));
	g_assert_true(lookup(&f, "a") != inode);
	lookup(&f, "dangling");
	fixture_deinit(&f);
}

static void test_forget(void)
{
	Fixture f;
	Inode *inode;
	uint64_t index, generation;
	unsigned n_fds;

	fixture_init(&f);
	make_file(&f, "a");
	n_fds = test_count_fds();
	inode = lookup(&f, "a");
	lookup(&f, "a");
	lookup(&f, "a");
	index = inode->index;
	generation = inode->generation;
	inode_table_forget(f.table, inode, 2);
	g_assert_cmpuint(test_count_fds(), ==, n_fds + 1);
	g_assert_true(lookup(&f, "a") == inode);
	inode_table_forget(f.table, inode, 2);
	g_assert_cmpuint(test_count_fds(), ==, n_fds);

	/* The index may come again, but never with the same generation. */
	inode = lookup(&f, "a");
	g_assert_cmpuint(inode->index, ==, index);
	g_assert_cmpuint(inode->generation, !=, generation);
	g_assert_cmpuint(inode->n_lookups, ==, 1);
	fixture_deinit(&f);
}

/* A handle keeps it, in either order. */
static void test_hold(void)
{
	Fixture f;
	Inode *inode;
	unsigned n_fds;

	fixture_init(&f);
	make_file(&f, "a");
	n_fds = test_count_fds();
	inode = lookup(&f, "a");
	inode_table_hold(f.table, inode);
	inode_table_hold(f.table, inode);
	inode_table_forget(f.table, inode, 1);
	inode_table_release(f.table, inode);
	g_assert_cmpuint(test_count_fds(), ==, n_fds + 1);
	g_assert_true(lookup(&f, "a") == inode);
	inode_table_forget(f.table, inode, 1);
	inode_table_release(f.table, inode);
	g_assert_cmpuint(test_count_fds(), ==, n_fds);

	inode = lookup(&f, "a");
	inode_table_hold(f.table, inode);
	inode_table_release(f.table, inode);
	g_assert_cmpuint(test_count_fds(), ==, n_fds + 1);
	inode_table_forget(f.table, inode, 1);
	g_assert_cmpuint(test_count_fds(), ==, n_fds);
	fixture_deinit(&f);
}

/* While the record lives, so does the file: a new one of the same name is another. */
static void test_unlinked(void)
{
	Fixture f;
	Inode *old, *new;

	fixture_init(&f);
	make_file(&f, "a");
	old = lookup(&f, "a");
	g_assert_cmpint(unlinkat(f.root_fd, "a", 0), ==, 0);
	make_file(&f, "a");
	new = lookup(&f, "a");
	g_assert_true(old != new);
	g_assert_cmpuint(old->ino, !=, new->ino);
	fixture_deinit(&f);
}

/* What the kernel still remembers of a removed file is an empty one, and leaves its place to the next. */
static void test_bury(void)
{
	Fixture f;
	Inode *old, *new;
	struct stat attr;
	dev_t dev;
	ino_t ino;

	fixture_init(&f);
	make_file(&f, "a");
	old = lookup(&f, "a");
	dev = old->dev;
	ino = old->ino;
	inode_table_hold(f.table, old);
	g_assert_cmpint(unlinkat(f.root_fd, "a", 0), ==, 0);
	g_assert_cmpint(inode_table_bury(f.table, dev, ino, true, 0), ==, -EBUSY);
	g_assert_false(atomic_load(&old->buried));
	inode_table_release(f.table, old);

	int fd = inode_table_bury(f.table, dev, ino, true, 0);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(fstat(fd, &attr), ==, 0);
	g_assert_cmpuint(attr.st_ino, ==, ino);
	g_assert_true(atomic_load(&old->buried));
	g_assert_cmpint(fstat(old->fd, &attr), ==, 0);
	g_assert_cmpuint(attr.st_nlink, ==, 0);
	g_assert_cmpint(inode_table_bury(f.table, dev, ino, true, 0), ==, -ENOENT);
	close(fd);

	make_file(&f, "a");
	new = lookup(&f, "a");
	g_assert_true(old != new);
	g_assert_cmpint(unlinkat(f.root_fd, "a", 0), ==, 0);
	g_assert_cmpint(inode_table_bury(f.table, new->dev, new->ino, false, 0), ==, 0);
	g_assert_true(atomic_load(&new->buried));
	inode_table_forget(f.table, old, 1);
	inode_table_forget(f.table, new, 1);
	fixture_deinit(&f);
}

static void test_enter(void)
{
	Fixture f;
	struct stat attr;
	Inode *inode, *again;
	unsigned n_fds;

	fixture_init(&f);
	make_file(&f, "a");
	n_fds = test_count_fds();
	int fd = openat(f.root_fd, "a", O_PATH | O_CLOEXEC);
	g_assert_cmpint(inode_table_enter(f.table, fd, &attr, &inode), ==, 0);
	g_assert_cmpint(inode->fd, ==, fd);
	int second = openat(f.root_fd, "a", O_PATH | O_CLOEXEC);
	g_assert_cmpint(inode_table_enter(f.table, second, &attr, &again), ==, 0);
	g_assert_true(again == inode);
	g_assert_cmpuint(test_count_fds(), ==, n_fds + 1);
	g_assert_cmpuint(inode->n_lookups, ==, 2);
	fixture_deinit(&f);
}

/* With the root there is room for two. */
static void test_no_descriptor(void)
{
	Fixture f;
	struct stat attr;
	Inode *a, *b;

	fixture_init(&f);
	f.budget.most = 3;
	make_file(&f, "a");
	make_file(&f, "b");
	make_file(&f, "c");
	make_file(&f, "d");
	a = lookup(&f, "a");
	lookup(&f, "b");
	g_assert_cmpint(inode_table_lookup_if_room(f.table, f.root_fd, "c", &attr, &b), ==, -ENFILE);
	/* What is known, stays so. */
	g_assert_cmpint(inode_table_lookup_if_room(f.table, f.root_fd, "a", &attr, &b), ==, 0);
	g_assert_true(b == a);
	inode_table_forget(f.table, a, 2);
	g_assert_cmpint(inode_table_lookup_if_room(f.table, f.root_fd, "c", &attr, &b), ==, 0);
	/* Who has waited for room is not refused. */
	lookup(&f, "d");
	fixture_deinit(&f);
}

static void test_next_closed(void)
{
	Fixture f;
	uint64_t cursor = 0, indices[8];
	Inode *a, *b, *c;

	fixture_init(&f);
	make_file(&f, "a");
	make_file(&f, "b");
	make_file(&f, "c");
	g_assert_cmpuint(inode_table_next_closed(f.table, &cursor, indices, 8), ==, 0);
	g_assert_cmpuint(cursor, ==, 0);
	a = lookup(&f, "a");
	b = lookup(&f, "b");
	c = lookup(&f, "c");
	inode_table_hold(f.table, b);
	g_assert_cmpuint(inode_table_next_closed(f.table, &cursor, indices, 1), ==, 1);
	g_assert_cmpuint(indices[0], ==, a->index);
	g_assert_cmpuint(inode_table_next_closed(f.table, &cursor, indices, 8), ==, 1);
	g_assert_cmpuint(indices[0], ==, c->index);
	g_assert_cmpuint(cursor, ==, 0);
	inode_table_release(f.table, b);
	inode_table_forget(f.table, a, 1);
	g_assert_cmpuint(inode_table_next_closed(f.table, &cursor, indices, 8), ==, 2);
	g_assert_cmpuint(indices[0], ==, b->index);
	g_assert_cmpuint(indices[1], ==, c->index);
	fixture_deinit(&f);
}

static void *look_up_and_forget(void *arg)
{
	Fixture *f = arg;

	for (int i = 0; i < 500; i++) {
		struct stat attr;
		Inode *inode;

		g_assert_cmpint(
			inode_table_lookup(f->table, f->root_fd, i % 2 ? "a" : "b", &attr, &inode),
			==, 0);
		g_assert_cmpuint(inode->ino, ==, attr.st_ino);
		inode_table_hold(f->table, inode);
		inode_table_forget(f->table, inode, 1);
		inode_table_release(f->table, inode);
	}
	return NULL;
}

static void test_threads(void)
{
	Fixture f;
	pthread_t threads[4];
	unsigned n_fds;

	fixture_init(&f);
	make_file(&f, "a");
	make_file(&f, "b");
	n_fds = test_count_fds();
	for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
		g_assert_cmpint(thread_start(&threads[i], "looker", look_up_and_forget, &f), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
		pthread_join(threads[i], NULL);
	g_assert_cmpuint(test_count_fds(), ==, n_fds);
	g_assert_cmpuint(g_hash_table_size(f.table->by_identity), ==, 1);
	fixture_deinit(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/inode/root", test_root);
	test_add("/inode/bad-root", test_bad_root);
	test_add("/inode/lookup", test_lookup);
	test_add("/inode/lookup-fails", test_lookup_fails);
	test_add("/inode/symlink", test_symlink);
	test_add("/inode/forget", test_forget);
	test_add("/inode/hold", test_hold);
	test_add("/inode/unlinked", test_unlinked);
	test_add("/inode/bury", test_bury);
	test_add("/inode/enter", test_enter);
	test_add("/inode/no-descriptor", test_no_descriptor);
	test_add("/inode/next-closed", test_next_closed);
	test_add("/inode/threads", test_threads);
	return g_test_run();
}
