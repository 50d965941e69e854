// SPDX-License-Identifier: Apache-2.0
#include "mount-helpers/ctl-mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc/class-config.h"
#include "alloc/cleanup.h"

#define MOUNT_TYPE "fuse.warmfs"

static void fail(GError **error, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void fail(GError **error, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error_literal(error, G_FILE_ERROR, g_file_error_from_errno(code), text);
}

/* `ID PARENT DEVICE ROOT POINT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS`; blanks in it are written in octal. */
static char *point_of_line(const char *line)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	const char *type = strstr(line, " - ");

	if (!type || g_strv_length(words) < 6 || !g_str_has_prefix(type + 3, MOUNT_TYPE " "))
		return NULL;
	return g_strcompress(words[4]);
}

GPtrArray *ctl_mounts_list(void)
{
	GPtrArray *mounts = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *table = NULL;
	g_auto(GStrv) lines = NULL;

	g_file_get_contents("/proc/self/mountinfo", &table, NULL, NULL);
	lines = g_strsplit(table ? table : "", "\n", -1);
	for (char **line = lines; *line; line++) {
		char *point = point_of_line(*line);

		if (point && !g_ptr_array_find_with_equal_func(mounts, point, g_str_equal, NULL))
			g_ptr_array_add(mounts, point);
		else
			g_free(point);
	}
	return mounts;
}

static bool is_below(const char *path, const char *mount)
{
	size_t length = strcmp(mount, "/") == 0 ? 0 : strlen(mount);

	return strncmp(path, mount, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static void fail_to_find(const char *path, const GPtrArray *mounts, GError **error)
{
	GString *known = g_string_new(NULL);

	for (guint i = 0; i < mounts->len; i++)
		g_string_append_printf(known, "%s%s", i ? ", " : "; mounted are: ", (char *)g_ptr_array_index(mounts, i));
	fail(error, EINVAL, "%s: no warmfs is mounted there%s", path, known->len ? known->str : ", nor anywhere else");
	g_string_free(known, TRUE);
}

char *ctl_mount_find(const char *path, GError **error)
{
	g_autoptr(GPtrArray) mounts = ctl_mounts_list();
	/* A file that is still to be made has no real path: its name as it is will do. */
	char *resolved = realpath(path, NULL);
	g_autofree char *real = resolved ? g_strdup(resolved) : g_canonicalize_filename(path, NULL);
	const char *found = NULL;

	free(resolved);
	for (guint i = 0; i < mounts->len; i++) {
		const char *mount = g_ptr_array_index(mounts, i);

		if (is_below(real, mount) && (!found || strlen(mount) > strlen(found)))
			found = mount;
	}
	if (!found)
		fail_to_find(path, mounts, error);
	return g_strdup(found);
}

static int open_file(const char *mount, const char *name, int flags, GError **error)
{
	g_autofree char *path = g_build_filename(mount, ".warmfs", name, NULL);
	int fd = open(path, flags | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == EACCES || errno == EPERM)
		fail(error, errno, "%s: %s; run it as root, or as the user that warmfs runs as", path, g_strerror(errno));
	else if (errno == EROFS)
		fail(error, errno, "%s: %s; mount it without ro", path, g_strerror(errno));
	else if (errno == ENOTCONN)
		fail(error, errno, "%s: its daemon has died; umount %s and mount it again", path, mount);
	else
		fail(error, errno, "%s: %s; is a warmfs of this version mounted there?", path, g_strerror(errno));
	return -1;
}

static char *read_all(int fd, GError **error)
{
	GString *text = g_string_new(NULL);
	char chunk[65536];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		g_string_append_len(text, chunk, n);
	if (n < 0)
		fail(error, errno, "cannot read the answer: %s; is the mount still there?", g_strerror(errno));
	return g_string_free(text, n < 0);
}

char *ctl_mount_read(const char *mount, const char *name, GError **error)
{
	auto_fd fd = open_file(mount, name, O_RDONLY, error);

	return fd < 0 ? NULL : read_all(fd, error);
}

/* The answer, or NULL and as error what its last line says. */
static char *conclude(char *answer, int code, GError **error)
{
	char *last;

	g_strchomp(answer);
	last = strrchr(answer, '\n');
	last = last ? last + 1 : answer;
	if (strcmp(last, "ok") == 0) {
		*last = '\0';
		return answer;
	}
	fail(error, code ? code : EIO, "%s",
	     g_str_has_prefix(last, "error: ") ? last + strlen("error: ") : "the daemon gave no answer; see its log");
	g_free(answer);
	return NULL;
}

char *ctl_mount_command(const char *mount, const char *command, GError **error)
{
	auto_fd fd = open_file(mount, "control", O_RDWR, error);
	g_autofree char *line = g_strconcat(command, "\n", NULL);
	int code = 0;
	char *answer;

	if (fd < 0)
		return NULL;
	if (strchr(command, '\n')) {
		fail(error, EINVAL, "a name with a line feed in it cannot be asked for");
		return NULL;
	}
	/* What goes wrong is told in words, too. */
	if (write(fd, line, strlen(line)) < 0)
		code = errno;
	answer = read_all(fd, error);
	return answer ? conclude(answer, code, error) : NULL;
}

/* What is wrong in it, the daemon says; so it may have one byte too many. */
char *ctl_read_config(const char *path, gsize *ret_length, GError **error)
{
	auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);
	g_autofree char *bytes = g_malloc(CLASS_CONFIG_MAX_FILE + 1);
	gsize length = 0;
	ssize_t n = 1;

	while (fd >= 0 && n > 0 && length <= CLASS_CONFIG_MAX_FILE) {
		n = read(fd, bytes + length, CLASS_CONFIG_MAX_FILE + 1 - length);
		length += MAX(n, 0);
	}
	if (fd < 0 || n < 0) {
		fail(error, errno, "%s: cannot be %s: %s", path, fd < 0 ? "opened" : "read", g_strerror(errno));
		return NULL;
	}
	*ret_length = length;
	return g_steal_pointer(&bytes);
}
