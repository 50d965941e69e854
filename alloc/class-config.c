// SPDX-License-Identifier: Apache-2.0
#include "alloc/class-config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>

#include "alloc/cleanup.h"

#define MOUNT_GROUP    "warmfs"
#define CLASS_PREFIX   "class "
#define GROUPS_ALLOWED "[class NAME] and [warmfs]"

static bool G_GNUC_PRINTF(2, 3) refuse(GError **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error_literal(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE, text);
	return false;
}

static bool refuse_errno(GError **error, const char *what)
{
	int r = errno;

	g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(r), "%s: %s", what, g_strerror(r));
	return false;
}

/* Reads hardly more than the limit: a device or a pipe without an end does no harm. */
static bool read_text(const char *path, GString *text, GError **error)
{
	auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);
	char chunk[16 * 1024];

	if (fd < 0)
		return refuse_errno(error, "cannot be opened");
	while (text->len <= CLASS_CONFIG_MAX_FILE) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return refuse_errno(error, "cannot be read");
		if (n == 0)
			break;
		g_string_append_len(text, chunk, n);
	}
	return true;
}

/* GKeyFile would merge two groups of one name, and let the last of two keys win. */
typedef struct Seen {
	GHashTable *groups;
	/* Of the group the line is in, which is borrowed from the groups. */
	GHashTable *keys;
	const char *group;
	/* "[GROUP]KEY" -> the line's number. */
	GHashTable *lines;
} Seen;

/* The line may still have its carriage return: files are written on other systems, too. */
static bool is_text(const char *line, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (g_ascii_iscntrl(line[i]) && line[i] != '\t' &&
		    !(line[i] == '\r' && i + 1 == length))
			return false;
	return g_utf8_validate_len(line, length, NULL);
}

/* `line` has no blanks around it; it is cut in place. */
static bool check_line(Seen *seen, char *line, unsigned number, GError **error)
{
	char *equals = strchr(line, '=');

	if (!*line || *line == '#')
		return true;
	if (*line == '[' && g_str_has_suffix(line, "]")) {
		g_hash_table_remove_all(seen->keys);
		if (!g_hash_table_add(seen->groups, g_strdup(line)))
			return refuse(error, "%s comes twice; allowed: each group once", line);
		seen->group = g_hash_table_lookup(seen->groups, line);
		return true;
	}
	if (!equals || equals == line)
		return refuse(error, "\"%s\" is not a [group], a key=value or a # comment", line);
	*equals = '\0';
	g_strchomp(line);
	if (!g_hash_table_add(seen->keys, g_strdup(line)))
		return refuse(error, "%s comes twice; allowed: each key once in a group", line);
	g_hash_table_insert(seen->lines, g_strconcat(seen->group ? seen->group : "", line, NULL),
			    GUINT_TO_POINTER(number));
	return true;
}

static bool check_raw_line(Seen *seen, const char *start, size_t length, unsigned number, GError **error)
{
	g_autofree char *line = NULL;

	if (length > CLASS_CONFIG_MAX_LINE)
		return refuse(error, "too long; allowed: at most %d bytes", CLASS_CONFIG_MAX_LINE);
	if (!is_text(start, length))
		return refuse(error, "not text; allowed: UTF-8 without control characters");
	line = g_strndup(start, length);
	return check_line(seen, g_strstrip(line), number, error);
}

/* Fills `lines`. */
static bool check_lines(const GString *text, GHashTable *lines, GError **error)
{
	g_autoptr(GHashTable) groups = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_autoptr(GHashTable) keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	Seen seen = { .groups = groups, .keys = keys, .lines = lines };
	const char *at = text->str, *end = text->str + text->len;

	for (unsigned number = 1; at < end; number++) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t length = (size_t)((newline ? newline : end) - at);

		if (!check_raw_line(&seen, at, length, number, error)) {
			g_prefix_error(error, "line %u: ", number);
			return false;
		}
		at += length + 1;
	}
	return true;
}

typedef struct ConfigFile {
	const char *path;
	GKeyFile *keys;
	/* As Seen has them. */
	GHashTable *lines;
} ConfigFile;

static char *origin_of(const ConfigFile *file, const char *group, const char *key)
{
	g_autofree char *place = g_strdup_printf("[%s]%s", group, key);

	return g_strdup_printf("%s:%u", file->path, GPOINTER_TO_UINT(g_hash_table_lookup(file->lines, place)));
}

static bool set_class_key(void *arg, const char *key, const char *value, const char *origin, GError **error)
{
	return segment_class_set_from(arg, key, value, origin, error);
}

/* `arg` is what the group's setter needs. */
static bool load_group(const ConfigFile *file, const char *group, ClassConfigSet set, void *arg, GError **error)
{
	g_auto(GStrv) keys = g_key_file_get_keys(file->keys, group, NULL, NULL);

	for (char **key = keys; key && *key; key++) {
		g_autofree char *value = g_key_file_get_value(file->keys, group, *key, NULL);
		g_autofree char *origin = origin_of(file, group, *key);

		if (!set(arg, *key, g_strstrip(value), origin, error)) {
			g_prefix_error(error, "[%s] ", group);
			return false;
		}
	}
	return true;
}

static bool check_name(const char *name, GError **error)
{
	if (*name && *name != '.' && !g_ascii_isspace(*name) && !strchr(name, '/') &&
	    strlen(name) <= CLASS_CONFIG_MAX_NAME)
		return true;
	return refuse(error,
		      "[class %s]: not a name for a class; allowed: 1 to %d bytes without a slash, "
		      "the first neither a dot nor a blank",
		      name, CLASS_CONFIG_MAX_NAME);
}

static bool load_class(const ConfigFile *file, const char *group, GPtrArray *classes, GError **error)
{
	const char *name = group + strlen(CLASS_PREFIX);
	SegmentClass *class;

	if (!check_name(name, error))
		return false;
	class = segment_class_new(name);
	g_ptr_array_add(classes, class);
	return load_group(file, group, set_class_key, class, error);
}

static bool load_groups(const ConfigFile *file, GPtrArray *classes, ClassConfigSet set_mount_key, void *arg,
			GError **error)
{
	g_auto(GStrv) groups = g_key_file_get_groups(file->keys, NULL);
	bool ok = true;

	if (!*groups)
		return refuse(error, "holds no group; allowed: %s", GROUPS_ALLOWED);
	for (char **group = groups; *group && ok; group++) {
		if (strcmp(*group, MOUNT_GROUP) == 0)
			ok = load_group(file, *group, set_mount_key, arg, error);
		else if (g_str_has_prefix(*group, CLASS_PREFIX))
			ok = load_class(file, *group, classes, error);
		else
			ok = refuse(error, "[%s]: unknown group; allowed: %s", *group,
				    GROUPS_ALLOWED);
	}
	return ok;
}

static void destroy_class(void *class)
{
	segment_class_free(class);
}

static bool load_text(const char *path, const GString *text, GPtrArray *classes, ClassConfigSet set_mount_key, void *arg,
		      GError **error)
{
	g_autoptr(GHashTable) lines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_autoptr(GKeyFile) keys = g_key_file_new();
	ConfigFile file = { .path = path, .keys = keys, .lines = lines };
	/* Without this flag GKeyFile drops `key[de]` silently; with it, it is an unknown key. */
	GKeyFileFlags flags = G_KEY_FILE_KEEP_TRANSLATIONS;

	if (text->len > CLASS_CONFIG_MAX_FILE)
		return refuse(error, "too large; allowed: at most %d bytes", CLASS_CONFIG_MAX_FILE);
	return check_lines(text, lines, error) &&
	       g_key_file_load_from_data(keys, text->str, text->len, flags, error) &&
	       load_groups(&file, classes, set_mount_key, arg, error);
}

static bool add_classes(const char *path, const GString *text, ClassRules *rules, ClassConfigSet set_mount_key, void *arg,
			GError **error)
{
	g_autoptr(GPtrArray) classes = g_ptr_array_new_with_free_func(destroy_class);

	if (!load_text(path, text, classes, set_mount_key, arg, error)) {
		g_prefix_error(error, "%s: ", path);
		return false;
	}
	g_ptr_array_set_free_func(classes, NULL);
	for (size_t i = 0; i < classes->len; i++)
		class_rules_add(rules, g_ptr_array_index(classes, i));
	return true;
}

bool class_config_load(const char *path, ClassRules *rules, ClassConfigSet set_mount_key, void *arg,
		       GError **error)
{
	g_autoptr(GString) text = g_string_new(NULL);

	if (read_text(path, text, error))
		return add_classes(path, text, rules, set_mount_key, arg, error);
	g_prefix_error(error, "%s: ", path);
	return false;
}

bool class_config_load_bytes(const char *path, const char *bytes, size_t length, ClassRules *rules,
			     ClassConfigSet set_mount_key, void *arg, GError **error)
{
	g_autoptr(GString) text = g_string_new_len(bytes, length);

	return add_classes(path, text, rules, set_mount_key, arg, error);
}
