// SPDX-License-Identifier: Apache-2.0
/* Which ctime is shown of a segment that was sealed. */
#include "alloc/sealed-times.h"

#include <glib.h>

static struct stat file_of(ino_t ino, time_t mtime, time_t ctime)
{
	return (struct stat){ .st_dev = 7, .st_ino = ino, .st_mtim.tv_sec = mtime, .st_ctim.tv_sec = ctime };
}

static time_t shown(const SealedTimes *times, struct stat attr)
{
	sealed_times_show(times, &attr);
	return attr.st_ctim.tv_sec;
}

static void add(SealedTimes *times, struct stat now, time_t seen)
{
	sealed_times_add(times, &now, (struct timespec){ .tv_sec = seen });
}

static void test_until_it_changes(void)
{
	SealedTimes *times = sealed_times_new();
	struct stat elsewhere = file_of(1, 10, 20);

	elsewhere.st_dev = 8;
	add(times, file_of(1, 10, 20), 15);
	g_assert_cmpint(shown(times, file_of(1, 10, 20)), ==, 15);
	g_assert_cmpint(shown(times, file_of(1, 10, 21)), ==, 21);
	g_assert_cmpint(shown(times, file_of(1, 11, 20)), ==, 20);
	g_assert_cmpint(shown(times, file_of(2, 10, 20)), ==, 20);
	g_assert_cmpint(shown(times, elsewhere), ==, 20);
	sealed_times_free(times);
}

static void test_sealed_again(void)
{
	SealedTimes *times = sealed_times_new();

	add(times, file_of(1, 10, 20), 15);
	add(times, file_of(1, 30, 40), 35);
	g_assert_cmpint(shown(times, file_of(1, 10, 20)), ==, 20);
	g_assert_cmpint(shown(times, file_of(1, 30, 40)), ==, 35);
	sealed_times_free(times);
}

static void test_oldest_are_forgotten(void)
{
	SealedTimes *times = sealed_times_new();

	for (ino_t ino = 1; ino <= SEALED_TIMES_MAX; ino++)
		add(times, file_of(ino, 10, 20), 15);
	g_assert_cmpint(shown(times, file_of(1, 10, 20)), ==, 15);
	/* One that is known takes nobody's place, and is the newest from then on. */
	add(times, file_of(1, 10, 20), 16);
	g_assert_cmpint(shown(times, file_of(2, 10, 20)), ==, 15);
	add(times, file_of(SEALED_TIMES_MAX + 1, 10, 20), 15);
	g_assert_cmpint(shown(times, file_of(1, 10, 20)), ==, 16);
	g_assert_cmpint(shown(times, file_of(2, 10, 20)), ==, 20);
	g_assert_cmpint(shown(times, file_of(3, 10, 20)), ==, 15);
	sealed_times_free(times);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/sealed-times/until-it-changes", test_until_it_changes);
	g_test_add_func("/sealed-times/sealed-again", test_sealed_again);
	g_test_add_func("/sealed-times/oldest-are-forgotten", test_oldest_are_forgotten);
	return g_test_run();
}
