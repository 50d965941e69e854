// SPDX-License-Identifier: Apache-2.0
/* One change at a time, and nobody reads meanwhile where the values are from: Fs.config_lock. */
#include "fs/config-change.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "alloc/class-change.h"
#include "alloc/lock-budget.h"
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

static bool check(const Fs *fs, const FsOptions *wanted, GError **error)
{
	struct statvfs stat;

	if (fstatvfs(fs->root_fd, &stat) < 0)
		return refuse(error, "%s: %s", fs->options->source, g_strerror(errno));
	return class_rules_check(wanted->rules, (uint64_t)stat.f_blocks * stat.f_frsize, error) &&
	       class_rules_can_become(fs->options->rules, wanted->rules, error) &&
	       fs_options_can_become(fs->options, wanted, error);
}

/* What cannot fail. */
static void apply_to_mount(Fs *fs, const FsOptions *wanted)
{
	fs->config.attr_timeout = wanted->fs.attr_timeout;
	fs->log->max_level = fs->options->debug ? LOG_LEVEL_DEBUG : wanted->log_level;
	file_provider_set_reserve(fs->provider, wanted->provider.reserve_percent);
	warm_pace_change(fs->pace, &wanted->pace);
	segment_locks_set_budget(fs->locks, lock_budget_left(lock_budget_read(wanted->lock_budget_bytes),
							     transient_pool_locked_bytes(fs->transient)));
	fs_options_note_again(fs->options, wanted);
}

static void tell(const Fs *fs, const char *text, GString *answer)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	for (char **line = lines; *line; line++)
		if (**line)
			log_notice(fs->log, "%s", *line);
	g_string_append(answer, *text ? text : "nothing is different\n");
}

/* All that is wanted, or nothing. */
static bool become(Fs *fs, const FsOptions *wanted, GString *answer, GError **error)
{
	g_autofree char *of_mount = NULL;
	g_autofree char *of_classes = NULL;
	g_autofree char *text = NULL;
	int r;

	if (!check(fs, wanted, error))
		return false;
	r = allocate_service_set_threads(fs->service, wanted->n_threads);
	if (r < 0)
		return refuse(error, "[warmfs] threads=%u: %s; try a smaller number", wanted->n_threads, g_strerror(-r));
	of_mount = fs_options_describe_change(fs->options, wanted);
	of_classes = class_rules_describe_change(fs->options->rules, wanted->rules);
	text = g_strconcat(of_mount, of_classes, NULL);
	apply_to_mount(fs, wanted);
	allocate_service_change(fs->service, fs->options->rules, wanted->rules);
	segment_locks_trim(fs->locks);
	transient_commit_change(fs->transient_commit);
	tell(fs, text, answer);
	return true;
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
	return refuse(error, "set %s: give CLASS and KEY=VALUE, or KEY=VALUE of the mount; classes are: %s", words, names->str);
}

static bool set_of_class(SegmentClass *class, const char *key, const char *value, GError **error)
{
	if (segment_class_set_from(class, key, value, "set", error))
		return true;
	g_prefix_error(error, "class \"%s\": ", class->name);
	return false;
}

static bool set_of_mount(FsOptions *wanted, const char *key, const char *value, GError **error)
{
	if (fs_options_set(wanted, key, value, "set", error))
		return true;
	g_prefix_error(error, "[warmfs] ");
	return false;
}

bool config_change_set(Fs *fs, const char *words, GString *answer, GError **error)
{
	g_autoptr(FsOptions) wanted = NULL;
	g_autofree char *key = NULL;
	const char *rest = words, *equals;
	SegmentClass *class;

	MUTEX_SCOPE(&fs->config_lock);
	wanted = fs_options_copy(fs->options);
	class = take_class(wanted->rules, words, &rest);
	equals = strchr(rest, '=');
	if (!equals)
		return refuse_words(fs, words, error);
	key = g_strndup(rest, equals - rest);
	if (!class && strpbrk(key, " \t"))
		return refuse_words(fs, words, error);
	return (class ? set_of_class(class, key, equals + 1, error) : set_of_mount(wanted, key, equals + 1, error)) &&
	       become(fs, wanted, answer, error);
}

bool config_change_reload(Fs *fs, const char *bytes, size_t length, GString *answer, GError **error)
{
	g_autoptr(FsOptions) wanted = NULL;

	if (!fs->options->config_path)
		return refuse(error, "this mount has no config=FILE to be read again; warmfsctl set changes single values");
	MUTEX_SCOPE(&fs->config_lock);
	wanted = fs_options_reread(fs->options, bytes, length, error);
	return wanted && become(fs, wanted, answer, error);
}
