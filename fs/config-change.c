// SPDX-License-Identifier: Apache-2.0
/* One change at a time, and nobody reads meanwhile where the values are from: Fs.config_lock. */
#include "fs/config-change.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "alloc/class-change.h"
#include "fs/fs-options.h"

static bool G_GNUC_PRINTF(2, 3) refuse(GError **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, text);
	return false;
}

static bool check(const Fs *fs, ClassRules *wanted, GError **error)
{
	struct statvfs stat;

	if (fstatvfs(fs->root_fd, &stat) < 0)
		return refuse(error, "%s: %s", fs->options->source, g_strerror(errno));
	return class_rules_check(wanted, (uint64_t)stat.f_blocks * stat.f_frsize, error) &&
	       class_rules_can_become(fs->options->rules, wanted, error);
}

static void apply(Fs *fs, ClassRules *wanted, GString *answer)
{
	g_autofree char *text = class_rules_describe_change(fs->options->rules, wanted);
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	allocate_service_change(fs->service, fs->options->rules, wanted);
	for (char **line = lines; *line; line++)
		if (**line)
			log_notice(fs->log, "%s", *line);
	g_string_append(answer, *text ? text : "nothing is different\n");
}

/* The class whose name the words begin with, and behind it the rest. Names may have blanks in them, and begin like others. */
static SegmentClass *take_class(ClassRules *rules, const char *words, const char **ret_rest)
{
	SegmentClass *found = NULL;
	size_t longest = 0;

	for (size_t i = 0; i < class_rules_count(rules); i++) {
		const char *name = class_rules_nth(rules, i)->name;
		size_t length = strlen(name);

		if (length <= longest || strncmp(words, name, length) != 0 || words[length] != ' ')
			continue;
		found = class_rules_find_named(rules, name);
		longest = length;
		*ret_rest = words + length + 1;
	}
	return found;
}

static bool refuse_words(const Fs *fs, const char *words, GError **error)
{
	g_autoptr(GString) names = g_string_new(NULL);

	for (size_t i = 0; i < class_rules_count(fs->rules); i++)
		g_string_append_printf(names, "%s%s", i ? ", " : "", class_rules_nth(fs->rules, i)->name);
	return refuse(error, "set %s: give CLASS and KEY=VALUE; classes are: %s", words, names->str);
}

bool config_change_set(Fs *fs, const char *words, GString *answer, GError **error)
{
	g_autoptr(ClassRules) wanted = NULL;
	g_autofree char *key = NULL;
	const char *rest = NULL, *equals;
	SegmentClass *class;

	MUTEX_SCOPE(&fs->config_lock);
	wanted = class_rules_copy(fs->options->rules);
	class = take_class(wanted, words, &rest);
	equals = class ? strchr(rest, '=') : NULL;
	if (!equals)
		return refuse_words(fs, words, error);
	key = g_strndup(rest, equals - rest);
	if (!segment_class_set_from(class, key, equals + 1, "set", error)) {
		g_prefix_error(error, "class \"%s\": ", class->name);
		return false;
	}
	if (!check(fs, wanted, error))
		return false;
	apply(fs, wanted, answer);
	return true;
}

bool config_change_reload(Fs *fs, const char *bytes, size_t length, GString *answer, GError **error)
{
	g_autoptr(FsOptions) wanted = NULL;

	if (!fs->options->config_path)
		return refuse(error, "this mount has no config=FILE to be read again; warmfsctl set changes single values");
	MUTEX_SCOPE(&fs->config_lock);
	wanted = fs_options_reread(fs->options, bytes, length, error);
	if (!wanted || !check(fs, wanted->rules, error) || !fs_options_can_become(fs->options, wanted, error))
		return false;
	apply(fs, wanted->rules, answer);
	fs_options_note_again(fs->options, wanted);
	return true;
}
