// SPDX-License-Identifier: Apache-2.0
#include "fs/preset.h"

#include <string.h>
#include <unistd.h>

#define SUFFIX ".conf"

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "a, b, c", or "none". */
static char *list_names(const char *dir)
{
	g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	const char *entry;

	while (entries && (entry = g_dir_read_name(entries)))
		if (g_str_has_suffix(entry, SUFFIX))
			g_ptr_array_add(names, g_strndup(entry, strlen(entry) - strlen(SUFFIX)));
	if (names->len == 0)
		return g_strdup("none");
	g_ptr_array_sort(names, compare_names);
	g_ptr_array_add(names, NULL);
	return g_strjoinv(", ", (char **)names->pdata);
}

char *preset_find(const char *dir, const char *name, GError **error)
{
	/* The name becomes part of a file's, so nothing in it leads out of the directory. */
	size_t length = strspn(name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_");
	g_autofree char *file = g_strconcat(name, SUFFIX, NULL);
	g_autofree char *path = g_build_filename(dir, file, NULL);
	g_autofree char *names = NULL;

	if (length > 0 && !name[length] && access(path, F_OK) == 0)
		return g_steal_pointer(&path);
	names = list_names(dir);
	g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "no preset \"%s\" in %s; there are: %s", name, dir,
		    names);
	return NULL;
}
