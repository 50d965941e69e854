// SPDX-License-Identifier: Apache-2.0
#include "alloc/dir-names.h"

#include <dirent.h>
#include <fcntl.h>

#include "alloc/cleanup.h"

GPtrArray *dir_names(int dir_fd, const char *prefix)
{
	/* Opened anew: a DIR takes its descriptor along when it is closed. */
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	GPtrArray *names;
	struct dirent *entry;

	if (!stream) {
		cleanup_fd(&fd);
		return NULL;
	}
	names = g_ptr_array_new_with_free_func(g_free);
	while ((entry = readdir(stream)))
		if (g_str_has_prefix(entry->d_name, prefix))
			g_ptr_array_add(names, g_strdup(entry->d_name));
	closedir(stream);
	return names;
}
