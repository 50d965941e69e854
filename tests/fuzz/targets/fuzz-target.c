// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/targets/fuzz-target.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_DIRS_MAX 8

/* What glib finds wrong in a call is a finding; so it is in a test. */
static void stop(const char *domain, GLogLevelFlags level, const char *message, void *arg)
{
	(void)arg;
	if (!(level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING)))
		return;
	fprintf(stderr, "%s: %s\n", domain ? domain : "log", message);
	abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	g_log_set_default_handler(stop, NULL);
	return 0;
}

char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = g_malloc(size + 1);

	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

bool fuzz_take(FuzzInput *input, void *piece, size_t size)
{
	size_t taken = MIN(size, input->size);

	memset(piece, 0, size);
	if (taken == 0)
		return false;
	memcpy(piece, input->data, taken);
	input->data += taken;
	input->size -= taken;
	return true;
}

uint8_t fuzz_take_byte(FuzzInput *input)
{
	uint8_t byte;

	fuzz_take(input, &byte, 1);
	return byte;
}

void fuzz_check_error(bool ok, GError **error)
{
	g_assert_true(ok == !*error);
	if (*error) {
		g_assert_null(strchr((*error)->message, '\n'));
		g_assert_cmpstr((*error)->message, !=, "");
	}
	g_clear_error(error);
}

static void check_line(void *arg, LogLevel level, const LogSubject *subject, const char *line)
{
	(void)arg;
	(void)level;
	(void)subject;
	g_assert_true(g_utf8_validate(line, -1, NULL));
	g_assert_null(strchr(line, '\n'));
}

const Log fuzz_log = { .write = check_line, .max_level = LOG_LEVEL_DEBUG };

char *fuzz_dir_new(void)
{
	const char *base = g_getenv("WARMFS_FUZZ_DIR");
	char *path = g_build_filename(base ? base : "/dev/shm", "warmfs-fuzz-XXXXXX", NULL);

	g_assert_nonnull(mkdtemp(path));
	return path;
}

static int remove_one(const char *path, const struct stat *attr, int type, struct FTW *where)
{
	(void)attr;
	(void)type;
	(void)where;
	return remove(path);
}

void fuzz_dir_remove(char *path)
{
	g_assert_cmpint(nftw(path, remove_one, OPEN_DIRS_MAX, FTW_DEPTH | FTW_PHYS), ==, 0);
	g_free(path);
}
