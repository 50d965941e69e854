// SPDX-License-Identifier: Apache-2.0
#include "alloc/lock-budget.h"

#include <stdio.h>

#include "tests/lib/test-util.h"

static void test_budget(void)
{
	static const struct {
		LockLimits limits;
		uint64_t wanted, budget;
	} CASES[] = {
		/* Root, alone on its machine. */
		{ { LOCK_BUDGET_MAX, LOCK_BUDGET_MAX, 1000 }, 0, 500 },
		{ { LOCK_BUDGET_MAX, LOCK_BUDGET_MAX, 1000 }, 900, 900 },
		{ { LOCK_BUDGET_MAX, 600, 1000 }, 0, 300 },
		{ { LOCK_BUDGET_MAX, 600, 1000 }, 500, 500 },
		{ { LOCK_BUDGET_MAX, 600, 1000 }, 900, 600 },
		{ { 64, LOCK_BUDGET_MAX, 1000 }, 0, 64 },
		{ { 64, 600, 1000 }, 500, 64 },
		{ { 64, 600, 1000 }, 1, 1 },
		{ { 0, 600, 1000 }, 500, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++)
		g_assert_cmpuint(lock_budget(&CASES[i].limits, CASES[i].wanted), ==, CASES[i].budget);
}

static void write_file(const char *root, const char *dir, const char *name, const char *text)
{
	g_autofree char *at = g_build_filename(root, dir, NULL);
	g_autofree char *path = g_build_filename(at, name, NULL);

	g_assert_cmpint(g_mkdir_with_parents(at, 0755), ==, 0);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* Both versions' hierarchies, each group with a limit of its own. */
static void test_cgroups(void)
{
	static const struct {
		const char *self;
		uint64_t limit;
	} CASES[] = {
		{ "0::/a/b\n", 4096 },
		{ "0::/a/b/c\n", 1024 },
		{ "0::/a\n", 8192 },
		{ "0::/other\n", LOCK_BUDGET_MAX },
		{ "0::/\n", LOCK_BUDGET_MAX },
		{ "9:name=systemd:/a\n4:memory:/v1/x\n0::/\n", 512 },
		{ "9:name=systemd:/a\n4:cpu,memory:/v1\n0::/\n", 9223372036854771712u },
		{ "4:cpu:/v1/x\n", LOCK_BUDGET_MAX },
		{ "4:memory:/v1/x\n0::/a/b/c:d\n", 512 },
		{ "", LOCK_BUDGET_MAX },
		{ "nonsense\n0:\n\n", LOCK_BUDGET_MAX },
	};
	char *root = TEST_DIR_NEW();

	write_file(root, "a", "memory.max", "8192\n");
	write_file(root, "a/b", "memory.max", "4096\n");
	write_file(root, "a/b/c", "memory.max", "1024\n");
	write_file(root, "other", "memory.max", "max\n");
	write_file(root, "memory/v1", "memory.limit_in_bytes", "9223372036854771712\n");
	write_file(root, "memory/v1/x", "memory.limit_in_bytes", "512\n");
	for (size_t i = 0; i < G_N_ELEMENTS(CASES); i++) {
		g_test_message("%s", CASES[i].self);
		g_assert_cmpuint(lock_limits_of_cgroups(CASES[i].self, root), ==, CASES[i].limit);
	}
	/* The group above counts, whatever the one below says. */
	write_file(root, "a", "memory.max", "100\n");
	g_assert_cmpuint(lock_limits_of_cgroups("0::/a/b\n", root), ==, 100);
	test_dir_remove(root);
}

static void test_read(void)
{
	LockLimits limits;

	lock_limits_read(&limits);
	g_assert_cmpuint(limits.memory, >, 1 << 20);
	g_assert_cmpuint(limits.cgroup, >, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/lock-budget/budget", test_budget);
	test_add("/lock-budget/cgroups", test_cgroups);
	test_add("/lock-budget/read", test_read);
	return g_test_run();
}
