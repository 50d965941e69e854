// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/test-util.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static unsigned count_entries(DIR *stream)
{
	unsigned n = 0;

	g_assert_nonnull(stream);
	while (readdir(stream))
		n++;
	closedir(stream);
	return n - 2;
}

unsigned test_count_fds(void)
{
	/* The one that reads the directory is in it, every time. */
	return count_entries(opendir("/proc/self/fd"));
}

unsigned test_count_threads(void)
{
	return count_entries(opendir("/proc/self/task"));
}

unsigned test_count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[8192], flags[8];
	unsigned n = 0;

	g_assert_nonnull(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%*s %7s", flags) == 1 && flags[3] == 's')
			n++;
	fclose(maps);
	return n;
}

uint64_t test_locked_bytes(void)
{
	g_autofree char *text = NULL;
	const char *line;

	g_assert_true(g_file_get_contents("/proc/self/status", &text, NULL, NULL));
	line = strstr(text, "VmLck:");
	g_assert_nonnull(line);
	return g_ascii_strtoull(line + strlen("VmLck:"), NULL, 10) * 1024;
}

static void run_test(gconstpointer arg)
{
	void (*run)(void) = *(void (*const *)(void))arg;
	unsigned n_fds, n_mappings;

	/* glib's own descriptors and lists are there from now on. */
	g_test_message("begin");
	n_fds = test_count_fds();
	n_mappings = test_count_mappings();
	run();
	g_assert_cmpuint(test_count_fds(), ==, n_fds);
	g_assert_cmpuint(test_count_mappings(), ==, n_mappings);
}

void test_add(const char *name, void (*run)(void))
{
	g_test_add_data_func_full(name, g_memdup2(&run, sizeof(run)), run_test, g_free);
}

char *test_dir_new(const char *file, int line)
{
	g_autofree char *base = g_path_get_basename(file);
	g_autofree char *template = g_strdup_printf("warmfs-%s-%d-XXXXXX", base, line);
	g_autoptr(GError) error = NULL;
	char *path = g_dir_make_tmp(template, &error);

	g_assert_no_error(error);
	return path;
}

static int remove_one(const char *path, const struct stat *attr, int type, struct FTW *where)
{
	(void)attr;
	(void)type;
	(void)where;
	return remove(path);
}

void test_dir_remove(char *path)
{
	g_assert_cmpint(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), ==, 0);
	g_free(path);
}

static DIR *open_names(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	return fdopendir(fd);
}

unsigned test_count_names(int dir_fd)
{
	return count_entries(open_names(dir_fd));
}

char *test_first_name(int dir_fd)
{
	DIR *stream = open_names(dir_fd);
	struct dirent *entry;
	char *name = NULL;

	while (!name && (entry = readdir(stream)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			name = g_strdup(entry->d_name);
	closedir(stream);
	return name;
}

GRand *test_rand_new(void)
{
	const char *text = g_getenv("WARMFS_TEST_SEED");
	guint32 seed = text ? (guint32)g_ascii_strtoull(text, NULL, 10) : g_random_int();

	g_test_message("WARMFS_TEST_SEED=%u", seed);
	return g_rand_new_with_seed(seed);
}

void test_yield(void)
{
	sched_yield();
}

SegmentClass *test_class_new(const char *text)
{
	g_auto(GStrv) words = g_strsplit(text, " ", -1);
	SegmentClass *class = segment_class_new(words[0]);
	g_autofree char *match = g_strconcat(words[0], "/**", NULL);
	g_autoptr(GError) error = NULL;

	segment_class_set(class, "match", match, &error);
	g_assert_no_error(error);
	for (char **word = words + 1; *word; word++) {
		char *value = strchr(*word, '=');

		g_assert_nonnull(value);
		*value++ = '\0';
		segment_class_set(class, *word, value, &error);
		g_assert_no_error(error);
	}
	return class;
}

static void keep_line(void *arg, LogLevel level, const LogSubject *subject, const char *line)
{
	TestLog *log = arg;

	(void)subject;
	MUTEX_SCOPE(&log->lock);
	g_ptr_array_add(log->lines, g_strdup_printf("%d %s", level, line));
}

void test_log_init(TestLog *log)
{
	mutex_init(&log->lock);
	log->lines = g_ptr_array_new_with_free_func(g_free);
	log->log = (Log){ .write = keep_line, .arg = log, .max_level = LOG_LEVEL_DEBUG };
}

void test_log_deinit(TestLog *log)
{
	g_ptr_array_unref(log->lines);
	mutex_deinit(&log->lock);
}

unsigned test_log_count(TestLog *log, LogLevel level, const char *text)
{
	unsigned n = 0;

	MUTEX_SCOPE(&log->lock);
	for (guint i = 0; i < log->lines->len; i++) {
		const char *line = g_ptr_array_index(log->lines, i);

		if (line[0] - '0' == (int)level && strstr(line, text))
			n++;
	}
	return n;
}
