// SPDX-License-Identifier: Apache-2.0
/* Feeds a fuzz target each file of its corpus, a directory: what was once found stays mended, without a fuzzer. */
#include "tests/fuzz/targets/fuzz-target.h"

#include <stdio.h>

static void replay(const void *path)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *data = NULL;
	gsize size;

	g_file_get_contents(path, &data, &size, &error);
	g_assert_no_error(error);
	LLVMFuzzerTestOneInput((const uint8_t *)data, size);
}

int main(int argc, char **argv)
{
	g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
	const char *name;
	GDir *dir;

	g_test_init(&argc, &argv, NULL);
	dir = argc == 2 ? g_dir_open(argv[1], 0, NULL) : NULL;
	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *place = g_strdup_printf("/%s", name);

		g_ptr_array_add(paths, g_build_filename(argv[1], name, NULL));
		g_test_add_data_func(place, g_ptr_array_index(paths, paths->len - 1), replay);
	}
	g_clear_pointer(&dir, g_dir_close);
	if (paths->len > 0)
		return g_test_run();
	fprintf(stderr, "usage: %s CORPUS, a directory with at least one file\n", argv[0]);
	return 1;
}
