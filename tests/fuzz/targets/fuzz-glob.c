// SPDX-License-Identifier: Apache-2.0
/* Two patterns and a path, a line each: patterns that match one path overlap. */
#include "alloc/glob.h"

#include <string.h>

#include "tests/fuzz/targets/fuzz-target.h"

static bool is_clean_path(const char *path)
{
	return *path && *path != '/' && !strstr(path, "//") && !g_str_has_suffix(path, "/");
}

static Glob *make(const char *pattern)
{
	GError *error = NULL;
	Glob *glob = glob_new(pattern, &error);

	fuzz_check_error(glob, &error);
	return glob;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = fuzz_text(data, size);
	g_auto(GStrv) lines = g_strsplit(text, "\n", 3);

	if (g_strv_length(lines) < 3)
		return 0;
	g_autoptr(Glob) a = make(lines[0]);
	g_autoptr(Glob) b = make(lines[1]);
	bool a_matches = a && glob_match(a, lines[2]), b_matches = b && glob_match(b, lines[2]);

	if (!a || !b)
		return 0;
	g_assert_true(glob_overlaps(a, b) == glob_overlaps(b, a));
	if (a_matches && b_matches && is_clean_path(lines[2]))
		g_assert_true(glob_overlaps(a, b));
	return 0;
}
