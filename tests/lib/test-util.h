/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the unit tests share. A test added with test_add fails if it leaves a descriptor or a shared
 * mapping behind.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "alloc/log.h"
#include "alloc/segment-class.h"
#include "alloc/sync.h"

/* A test that waits longer than this for what must come hangs; nothing is measured by it. */
#define TEST_PATIENCE_NS ((int64_t)30 * 1000 * 1000 * 1000)

void test_add(const char *name, void (*run)(void));

unsigned test_count_fds(void);
/* Shared ones: those of segments. The process's own are private. */
unsigned test_count_mappings(void);
unsigned test_count_threads(void);
/* What the process has locked in memory, as the kernel says. */
uint64_t test_locked_bytes(void);

/* A directory of the caller's own, named after the line that asks. test_dir_remove also frees. */
#define TEST_DIR_NEW() test_dir_new(__FILE__, __LINE__)
char *test_dir_new(const char *file, int line);
void test_dir_remove(char *path);
/* How many names a directory has; the first of them, or NULL (g_free). */
unsigned test_count_names(int dir_fd);
char *test_first_name(int dir_fd);

/* Seeded from WARMFS_TEST_SEED, or at random; says the seed. Free with g_rand_free. */
GRand *test_rand_new(void);

/* Waits for what has no condition of its own to wait on. Gives up, and fails, only if it hangs. */
#define TEST_WAIT_UNTIL(expression)                                                         \
	G_STMT_START                                                                        \
	{                                                                                   \
		int64_t give_up_ns_ = monotonic_ns() + TEST_PATIENCE_NS;                    \
		while (!(expression)) {                                                     \
			if (monotonic_ns() > give_up_ns_)                                   \
				g_error("%s:%d: waits in vain for: %s", __FILE__, __LINE__, \
					#expression);                                       \
			test_yield();                                                       \
		}                                                                           \
	}                                                                                   \
	G_STMT_END
void test_yield(void);

/* "NAME KEY=VALUE KEY=VALUE...": a class with a match of its own, and those options set. */
SegmentClass *test_class_new(const char *text);

/* A log that keeps its lines. */
typedef struct TestLog {
	Log log;
	Mutex lock;
	/* Protected by lock. */
	GPtrArray *lines;
} TestLog;

void test_log_init(TestLog *log);
void test_log_deinit(TestLog *log);
/* How many lines of that level contain the text. */
unsigned test_log_count(TestLog *log, LogLevel level, const char *text);
