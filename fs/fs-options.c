// SPDX-License-Identifier: Apache-2.0
#include "fs/fs-options.h"

#include <string.h>
#include <unistd.h>

#include "alloc/byte-size.h"
#include "alloc/class-change.h"
#include "alloc/class-config.h"
#include "fs/preset.h"

#define MAX_THREADS 64
#define MAX_RESERVE_PERCENT 90
#define MAX_ATTR_TIMEOUT_S 86400

static bool bad_value(GError **error, const char *key, const char *value, const char *allowed)
{
	g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s=%s: allowed: %s", key,
		    value ? value : "", allowed);
	return false;
}

static bool parse_number(const char *value, unsigned min, unsigned max, unsigned *ret_number)
{
	guint64 number;

	if (!value || !g_ascii_string_to_unsigned(value, 10, min, max, &number, NULL))
		return false;
	*ret_number = number;
	return true;
}

static bool set_threads(FsOptions *options, const char *value)
{
	return parse_number(value, 1, MAX_THREADS, &options->n_threads);
}

static bool set_reserve(FsOptions *options, const char *value)
{
	g_autofree char *number = g_strdup(value ? value : "");

	if (g_str_has_suffix(number, "%"))
		number[strlen(number) - 1] = '\0';
	return parse_number(number, 0, MAX_RESERVE_PERCENT, &options->provider.reserve_percent);
}

static bool parse_switch(const char *value, bool *ret_on)
{
	if (g_strcmp0(value, "on") != 0 && g_strcmp0(value, "off") != 0)
		return false;
	*ret_on = strcmp(value, "on") == 0;
	return true;
}

static bool set_passthrough(FsOptions *options, const char *value)
{
	return parse_switch(value, &options->fs.passthrough);
}

static bool set_yield(FsOptions *options, const char *value)
{
	return parse_switch(value, &options->pace.yields);
}

static bool parse_bytes(const char *value, uint64_t *ret_bytes)
{
	uint64_t bytes;

	if (!value || byte_size_parse(value, &bytes) < 0 || bytes == 0)
		return false;
	*ret_bytes = bytes;
	return true;
}

static bool set_rate(FsOptions *options, const char *value)
{
	options->pace.rate_bytes = 0;
	return g_strcmp0(value, "none") == 0 || parse_bytes(value, &options->pace.rate_bytes);
}

static bool set_lock_budget(FsOptions *options, const char *value)
{
	return parse_bytes(value, &options->lock_budget_bytes);
}

static bool set_attr_timeout(FsOptions *options, const char *value)
{
	char *end = NULL;
	double seconds = value ? g_ascii_strtod(value, &end) : -1;

	if (!end || end == value || *end || !(seconds >= 0 && seconds <= MAX_ATTR_TIMEOUT_S))
		return false;
	options->fs.attr_timeout = seconds;
	return true;
}

static bool set_provider_dir(FsOptions *options, const char *value)
{
	if (!value || !g_path_is_absolute(value))
		return false;
	g_free(options->provider_dir);
	options->provider_dir = g_strdup(value);
	return true;
}

static bool set_preset_dir(FsOptions *options, const char *value)
{
	if (!value || !g_path_is_absolute(value))
		return false;
	g_free(options->preset_dir);
	options->preset_dir = g_strdup(value);
	return true;
}

static bool set_wait_warm(FsOptions *options, const char *value)
{
	if (value && strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
		return false;
	options->wait_warm = !value || strcmp(value, "on") == 0;
	return true;
}

static bool set_log_level(FsOptions *options, const char *value)
{
	static const char *const names[] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_NOTICE] = "notice",
		[LOG_LEVEL_DEBUG] = "debug",
	};

	for (size_t level = 0; level < G_N_ELEMENTS(names); level++) {
		if (g_strcmp0(value, names[level]) != 0)
			continue;
		options->log_level = (LogLevel)level;
		return true;
	}
	return false;
}

/* What concerns the whole mount; also the keys of the `[warmfs]` group. */
static const struct MountKey {
	const char *key;
	bool (*set)(FsOptions *options, const char *value);
	const char *allowed;
	/* As somebody would write it; NULL: it is found out. */
	const char *fallback;
	/* Why it cannot change while it is mounted; NULL: it can. */
	const char *fixed;
} mount_keys[] = {
	{ "threads", set_threads, "1 to 64", NULL, NULL },
	{ "reserve", set_reserve, "0% to 90%", "5%", NULL },
	{ "rate", set_rate, "bytes per second from 1, also with K, M, G or T, or none", NULL, NULL },
	{ "lock_budget", set_lock_budget, "a number of bytes from 1, also with K, M, G or T", NULL, NULL },
	{ "yield", set_yield, "on or off", "on", NULL },
	{ "passthrough", set_passthrough, "on or off", "on", "it is settled with the kernel when mounting" },
	{ "attr_timeout", set_attr_timeout, "0 to 86400 seconds", "1", NULL },
	{ "provider_dir", set_provider_dir, "an absolute path", WARMFS_PROVIDER_DIR,
	  "the modules that were there when mounting are in use" },
	{ "preset_dir", set_preset_dir, "an absolute path", WARMFS_PRESET_DIR,
	  "the presets that were there when mounting are in use" },
	/* For the next time. */
	{ "wait_warm", set_wait_warm, "on or off", "off", NULL },
	{ "log_level", set_log_level, "error, warning, notice or debug", "notice", NULL },
};

static const struct MountKey *find_mount_key(const char *key)
{
	for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++)
		if (strcmp(mount_keys[i].key, key) == 0)
			return &mount_keys[i];
	return NULL;
}

static bool set_known_key(FsOptions *options, const struct MountKey *known, const char *value, const char *origin,
			  GError **error)
{
	if (!known->set(options, value))
		return bad_value(error, known->key, value, known->allowed);
	given_options_note(options->given, known->key, value ? value : "on", origin);
	return true;
}

static bool set_mount_key(void *arg, const char *key, const char *value, const char *origin, GError **error)
{
	const struct MountKey *known = find_mount_key(key);

	if (!known) {
		g_autoptr(GString) names = g_string_new(NULL);

		for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++)
			g_string_append_printf(names, "%s%s", i ? ", " : "", mount_keys[i].key);
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION,
			    "%s=%s: no such key; allowed: %s", key, value, names->str);
		return false;
	}
	return set_known_key(arg, known, value, origin, error);
}

/* What -o says stands, whatever a file says; which has to be right all the same. */
static bool set_key_of_file(void *arg, const char *key, const char *value, const char *origin, GError **error)
{
	FsOptions *options = arg;
	const GivenOption *given = given_options_find(options->given, key);
	bool stands = given && strcmp(given->origin, GIVEN_BY_OPTION) == 0;
	g_autofree char *stood = stands ? g_strdup(given->value) : NULL;

	return set_mount_key(options, key, value, origin, error) &&
	       (!stands || set_mount_key(options, key, stood, GIVEN_BY_OPTION, error));
}

bool fs_options_set(FsOptions *options, const char *key, const char *value, const char *origin, GError **error)
{
	return set_mount_key(options, key, value, origin, error);
}

const char *fs_options_nth_key(size_t nth)
{
	return nth < G_N_ELEMENTS(mount_keys) ? mount_keys[nth].key : NULL;
}

char *fs_options_value(const FsOptions *options, const char *key, const char **ret_origin)
{
	const GivenOption *given = given_options_find(options->given, key);
	const struct MountKey *known = find_mount_key(key);

	*ret_origin = given ? given->origin : "default";
	if (given)
		return g_strdup(given->value);
	/* The one whose default is found out. */
	if (strcmp(key, "threads") == 0)
		return g_strdup_printf("%u", options->n_default_threads);
	return g_strdup(known && known->fallback ? known->fallback : "");
}

/* Handed on as they are. */
static const char *const kernel_options[] = {
	"ro",	   "rw",	  "suid",	   "nosuid",  "dev",	     "nodev",
	"exec",	   "noexec",	  "atime",	   "noatime", "diratime",    "nodiratime",
	"relatime", "norelatime", "strictatime",   "sync",    "async",	     "dirsync",
	"fsname",  "io_uring",	  "io_uring_q_depth", "max_read", "default_permissions", "allow_other",
	NULL,
};

/* For mount(8), fstab and systemd; nothing to us. */
static const char *const ignored_options[] = {
	"defaults", "nofail", "_netdev", "auto", "noauto", "user", "nouser", "users", "nousers",
	"owner", "noowner", "group", "nogroup",
	/* Of a fuse mount in the mount table; mount(8) gives them back at a remount. */
	"user_id", "group_id",
	NULL,
};

static bool is_ignored(const char *key)
{
	return g_strv_contains(ignored_options, key) || g_str_has_prefix(key, "x-") || g_str_has_prefix(key, "X-") ||
	       strcmp(key, "comment") == 0;
}

typedef struct OptionParse {
	FsOptions *options;
	/* The class that is described by -o; NULL until there is a word of it. */
	SegmentClass *class;
	/* NAME[:NAME...], or NULL. */
	char *presets;
	/* Pass over what nobody knows. */
	bool sloppy;
} OptionParse;

static bool set_option(OptionParse *parse, const char *key, const char *value, GError **error)
{
	const struct MountKey *known = find_mount_key(key);

	if (g_strv_contains(kernel_options, key)) {
		g_ptr_array_add(parse->options->mount_options,
				value ? g_strdup_printf("%s=%s", key, value) : g_strdup(key));
		return true;
	}
	if (strcmp(key, "remount") == 0) {
		parse->options->remount = true;
		return !value || bad_value(error, key, value, "no value");
	}
	if (is_ignored(key))
		return true;
	g_ptr_array_add(parse->options->own_keys, g_strdup(key));
	if (known)
		return set_known_key(parse->options, known, value, GIVEN_BY_OPTION, error);
	if (strcmp(key, "config") == 0) {
		g_free(parse->options->config_path);
		parse->options->config_path = value ? g_canonicalize_filename(value, NULL) : NULL;
		return value && *value ? true : bad_value(error, key, value, "the path of a file");
	}
	if (strcmp(key, "preset") == 0) {
		g_free(parse->presets);
		parse->presets = g_strdup(value);
		return value && *value ? true : bad_value(error, key, value, "NAME or NAME:NAME...");
	}
	if (parse->sloppy && !segment_class_has_key(key))
		return true;
	if (!parse->class)
		parse->class = segment_class_new("default");
	return segment_class_set(parse->class, key, value ? value : "", error);
}

/* The next element of a list, cut off it; a backslash takes a comma along. */
static char *next_element(const char **list)
{
	GString *element = g_string_new(NULL);
	const char *p = *list;

	for (; *p && *p != ','; p++) {
		/* What a backslash means in a pattern stays with it; only the comma's is ours. */
		if (p[0] == '\\' && p[1] == ',')
			p++;
		g_string_append_c(element, *p);
	}
	*list = *p ? p + 1 : p;
	return g_string_free(element, FALSE);
}

static bool parse_list(OptionParse *parse, const char *list, GError **error)
{
	while (*list) {
		g_autofree char *element = next_element(&list);
		char *value = strchr(element, '=');

		if (!*element)
			continue;
		if (value)
			*value++ = '\0';
		if (!set_option(parse, element, value, error)) {
			g_prefix_error(error, "-o ");
			return false;
		}
	}
	return true;
}

static bool load_presets(FsOptions *options, const char *list, GError **error)
{
	g_auto(GStrv) names = g_strsplit(list, ":", 0);

	for (char **name = names; *name; name++) {
		g_autofree char *path = preset_find(options->preset_dir, *name, error);

		if (!path || !class_config_load(path, options->rules, set_key_of_file, options, error)) {
			g_prefix_error(error, "-o preset=%s: ", list);
			return false;
		}
	}
	return true;
}

static bool parse_lists(FsOptions *options, char **lists, bool sloppy, GError **error)
{
	OptionParse parse = { .options = options, .sloppy = sloppy };
	bool ok = true;

	for (char **list = lists; ok && list && *list; list++)
		ok = parse_list(&parse, *list, error);
	if (ok && parse.class)
		class_rules_add(options->rules, g_steal_pointer(&parse.class));
	if (ok && parse.presets)
		ok = load_presets(options, parse.presets, error);
	if (ok && options->config_path) {
		ok = class_config_load(options->config_path, options->rules, set_key_of_file, options, error);
		if (!ok)
			g_prefix_error(error, "-o config=");
	}
	segment_class_free(parse.class);
	g_free(parse.presets);
	return ok;
}

static const char description[] =
	"Options of a class (for one class; -o config=FILE for many):\n"
	"  match=GLOB            new files that get segments; * does not cross /, ** does\n"
	"  size=SIZE             bytes of a segment (K, M, G, T)\n"
	"  kind=KIND             mapped (born full and warm), append (born empty, over warm blocks) or\n"
	"                        stream (born empty, blocks reserved)\n"
	"  ahead=N|auto          segments kept ready; auto: as many as are used (2)\n"
	"  max_ahead=N           with ahead=auto, at most so many (8)\n"
	"  timeout=MS            how long a create waits for one (5000)\n"
	"  on_timeout=cold|fail  then: an unprepared file, or EAGAIN (cold)\n"
	"  folio=SIZE            size of one warming write (64K)\n"
	"  warm=on|off           write blocks and pages ahead, or only reserve blocks (on)\n"
	"  warm_min_size=SIZE    warm only segments that are at least that large (0)\n"
	"  flush=sync|async      while warming, wait for write-back, or only start it (sync)\n"
	"  flush_least_pages=N   of so many pages at a time (4096)\n"
	"  lock=on|off           lock ready and newly taken segments in memory (off)\n"
	"  lock_active=N         of those taken, the newest N (2)\n"
	"  linger=MS             how long a closed segment may still be reopened cheaply (10000)\n"
	"  quota=SIZE            bound on the bytes of segments that are ready or open (none)\n"
	"  slow_ms=MS            log a preparation that takes longer (10)\n"
	"  transient=on|off      append: writes go to locked memory first, and to the file later (off)\n"
	"  transient_pool_size=N segments that can have such a buffer at a time (5)\n"
	"  fast_fail=on|off      without a free buffer a create fails with EAGAIN (off)\n"
	"  commit_interval=MS, commit_least_pages=N, flush_interval=MS, transient_flush_least_pages=N\n"
	"                        when buffers go to the file, and the file to the disk (200, 4, 500, 4)\n"
	"  recycle=on|off        make the next segments of removed files (on)\n"
	"  provider=NAME         what makes the segments: a module, or file, which is built in (file)\n"
	"Options of the mount:\n"
	"  config=FILE           classes from a file: [class NAME] groups, and [warmfs]\n"
	"  preset=NAME[:NAME]    classes for an application, from " WARMFS_PRESET_DIR "\n"
	"  preset_dir=DIR        from there instead\n"
	"  threads=N             threads that prepare segments (one for two processors)\n"
	"  reserve=N%            space that preparing ahead leaves free (5%)\n"
	"  rate=SIZE             bytes a second that preparing ahead may write (no limit)\n"
	"  lock_budget=SIZE      memory that may be locked (half of it)\n"
	"  yield=on|off          preparing ahead gives way to other I/O (on)\n"
	"  passthrough=on|off    reads and writes by the kernel itself (on)\n"
	"  attr_timeout=SECONDS  how long the kernel may remember names and attributes (1)\n"
	"  provider_dir=DIR      where the modules are (" WARMFS_PROVIDER_DIR ")\n"
	"  wait_warm             begin to serve, but do not say so before all pools are full\n"
	"  log_level=LEVEL       error, warning, notice or debug (notice)\n"
	"  io_uring              talk to the kernel through io_uring\n"
	"  ro, noatime, ...      as for mount(8)\n"
	"  remount               change ro, rw, noatime and the like of a mount that is there\n";

static bool take_source(FsOptions *options, char **paths, GError **error)
{
	if (paths && g_strv_length(paths) == 1) {
		options->source = g_strdup(paths[0]);
		return true;
	}
	g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "usage: warmfs --check [--dry-run] SOURCE");
	return false;
}

static bool take_paths(FsOptions *options, char **paths, GError **error)
{
	if (!paths || g_strv_length(paths) != 2) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
			    "%s given; usage: warmfs [-f] [-o OPTION[=VALUE],...] SOURCE MOUNTPOINT",
			    !paths || !paths[0] ? "no SOURCE" :
			    !paths[1]		? "no MOUNTPOINT" :
						  "more than SOURCE and MOUNTPOINT");
		return false;
	}
	options->source = g_strdup(paths[0]);
	options->mount_point = g_strdup(paths[1]);
	return true;
}

static FsOptions *fs_options_new(void)
{
	FsOptions *options = g_new0(FsOptions, 1);

	options->rules = class_rules_new();
	options->given = given_options_new();
	options->first_given = given_options_new();
	options->n_threads = options->n_default_threads = CLAMP(g_get_num_processors() / 2, 1, MAX_THREADS);
	options->provider.reserve_percent = 5;
	options->log_level = LOG_LEVEL_NOTICE;
	options->pace.yields = true;
	options->provider_dir = g_strdup(WARMFS_PROVIDER_DIR);
	options->preset_dir = g_strdup(WARMFS_PRESET_DIR);
	options->fs = (FsConfig){ .passthrough = true, .attr_timeout = 1 };
	options->mount_options = g_ptr_array_new_with_free_func(g_free);
	options->own_keys = g_ptr_array_new_with_free_func(g_free);
	return options;
}

FsOptions *fs_options_free(FsOptions *options)
{
	if (!options)
		return NULL;
	g_free(options->source);
	g_free(options->mount_point);
	g_free(options->provider_dir);
	g_free(options->config_path);
	g_hash_table_unref(options->given);
	g_hash_table_unref(options->first_given);
	g_free(options->preset_dir);
	class_rules_free(options->rules);
	g_ptr_array_unref(options->mount_options);
	g_ptr_array_unref(options->own_keys);
	g_free(options->mount_namespace);
	g_free(options);
	return NULL;
}

/* GOption does not know `-oOPTION`, which mount(8) and people write: it becomes two words. */
static char **separate_words(int argc, char **argv)
{
	GPtrArray *words = g_ptr_array_new();

	for (int i = 0; i < argc; i++) {
		bool glued = i > 0 && g_str_has_prefix(argv[i], "-o") && argv[i][2] != '\0';

		if (glued)
			g_ptr_array_add(words, g_strdup("-o"));
		g_ptr_array_add(words, g_strdup(glued ? argv[i] + 2 : argv[i]));
	}
	g_ptr_array_add(words, NULL);
	return (char **)g_ptr_array_free(words, FALSE);
}

/* mount(8) gives its helpers letters of its own; its -f is another one. */
static bool is_mount_helper(const char *program)
{
	g_autofree char *name = program ? g_path_get_basename(program) : g_strdup("");

	return g_str_has_prefix(name, "mount.");
}

/* What the words say that is not in -o. */
typedef struct Words {
	gboolean foreground, debug, version, check, dry_run;
	/* Of mount(8). */
	gboolean fake, sloppy, verbose, no_table;
	char *type;
	char **lists;
	char **paths;
} Words;

static bool parse_words(bool is_helper, char ***words, FsOptions *options, Words *parsed, GError **error)
{
	const GOptionEntry entries[] = {
		{ "foreground", is_helper ? 0 : 'f', 0, G_OPTION_ARG_NONE, &parsed->foreground,
		  "Stay in the foreground", NULL },
		{ "debug", 'd', 0, G_OPTION_ARG_NONE, &parsed->debug, "Log every request; implies -f", NULL },
		{ "options", 'o', 0, G_OPTION_ARG_STRING_ARRAY, &parsed->lists, "Options, see below",
		  "OPT[=VALUE],..." },
		{ "check", 0, 0, G_OPTION_ARG_NONE, &parsed->check,
		  "Seal what was left live in SOURCE; do not mount", NULL },
		{ "dry-run", 0, 0, G_OPTION_ARG_NONE, &parsed->dry_run,
		  "With --check: only say what would be done", NULL },
		{ "version", 'V', 0, G_OPTION_ARG_NONE, &parsed->version, "Say the version and end", NULL },
		{ G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &parsed->paths, NULL,
		  "SOURCE MOUNTPOINT" },
		{ NULL },
	};
	const GOptionEntry helper_entries[] = {
		{ "fake", 'f', 0, G_OPTION_ARG_NONE, &parsed->fake, "Check everything, but do not mount", NULL },
		{ "sloppy", 's', 0, G_OPTION_ARG_NONE, &parsed->sloppy, "Pass over unknown options", NULL },
		{ "verbose", 'v', 0, G_OPTION_ARG_NONE, &parsed->verbose, "Say that it is mounted", NULL },
		{ "no-mtab", 'n', 0, G_OPTION_ARG_NONE, &parsed->no_table, "For mount(8); nothing to warmfs", NULL },
		{ "types", 't', 0, G_OPTION_ARG_STRING, &parsed->type, "For mount(8); nothing to warmfs", "TYPE" },
		{ "namespace", 'N', 0, G_OPTION_ARG_FILENAME, &options->mount_namespace,
		  "Mount in this mount namespace", "PATH" },
		{ NULL },
	};
	g_autoptr(GOptionContext) context = g_option_context_new(NULL);

	g_option_context_add_main_entries(context, entries, NULL);
	if (is_helper)
		g_option_context_add_main_entries(context, helper_entries, NULL);
	g_option_context_set_summary(context, "Serves SOURCE at MOUNTPOINT, with pre-warmed segment files.");
	g_option_context_set_description(context, description);
	return g_option_context_parse_strv(context, words, error);
}

static bool take_words(FsOptions *options, const Words *parsed, GError **error)
{
	options->show_version = parsed->version;
	options->check = parsed->check;
	options->dry_run = parsed->dry_run;
	options->debug = parsed->debug;
	options->foreground = parsed->foreground || parsed->debug;
	options->fake = parsed->fake;
	options->verbose = parsed->verbose;
	if (parsed->version)
		return true;
	if (parsed->dry_run && !parsed->check) {
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "--dry-run: only with --check");
		return false;
	}
	if (parsed->check)
		return take_source(options, parsed->paths, error);
	return take_paths(options, parsed->paths, error) &&
	       parse_lists(options, parsed->lists, parsed->sloppy, error);
}

static void note_first_given(FsOptions *options)
{
	for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++) {
		const GivenOption *given = given_options_find(options->given, mount_keys[i].key);

		if (given)
			given_options_note(options->first_given, mount_keys[i].key, given->value, given->origin);
	}
}

FsOptions *fs_options_parse(int argc, char **argv, GError **error)
{
	g_auto(GStrv) words = separate_words(argc, argv);
	g_autoptr(FsOptions) options = fs_options_new();
	Words parsed = { 0 };
	bool ok = parse_words(is_mount_helper(words[0]), &words, options, &parsed, error) &&
		  take_words(options, &parsed, error);

	g_strfreev(parsed.lists);
	g_strfreev(parsed.paths);
	g_free(parsed.type);
	note_first_given(options);
	return ok ? g_steal_pointer(&options) : NULL;
}

static bool is_of_file(const FsOptions *options, const char *origin)
{
	size_t length = strlen(options->config_path);

	return strncmp(origin, options->config_path, length) == 0 && origin[length] == ':';
}

static void take_given(FsOptions *copy, const struct MountKey *key, const GivenOption *given)
{
	if (given)
		set_known_key(copy, key, given->value, given->origin, NULL);
}

/* As they are. */
static void copy_given(FsOptions *copy, const FsOptions *options)
{
	for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++)
		take_given(copy, &mount_keys[i], given_options_find(options->given, mount_keys[i].key));
}

/* All of the mount's options that were not from the file, as they were. */
static void copy_first_given(FsOptions *copy, const FsOptions *options)
{
	for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++) {
		const GivenOption *given = given_options_find(options->first_given, mount_keys[i].key);

		if (given && !is_of_file(options, given->origin))
			take_given(copy, &mount_keys[i], given);
	}
}

/* Where a class is from, its match= says, which never changes. */
static void keep_class(FsOptions *copy, const SegmentClass *class, const FsOptions *options)
{
	const char *origin;

	segment_class_value(class, "match", &origin);
	if (!is_of_file(options, origin))
		class_rules_add(copy->rules, segment_class_copy(class));
}

static FsOptions *fs_options_like(const FsOptions *options)
{
	FsOptions *copy = fs_options_new();

	/* Processors may come and go. */
	copy->n_threads = copy->n_default_threads = options->n_default_threads;
	return copy;
}

FsOptions *fs_options_copy(const FsOptions *options)
{
	FsOptions *copy = fs_options_like(options);

	copy_given(copy, options);
	class_rules_free(copy->rules);
	copy->rules = class_rules_copy(options->rules);
	return copy;
}

FsOptions *fs_options_reread(const FsOptions *options, const char *bytes, size_t length, GError **error)
{
	g_autoptr(FsOptions) copy = fs_options_like(options);

	copy_first_given(copy, options);
	for (size_t i = 0; i < class_rules_count(options->rules); i++)
		keep_class(copy, class_rules_nth(options->rules, i), options);
	if (class_config_load_bytes(options->config_path, bytes, length, copy->rules, set_key_of_file, copy, error))
		return g_steal_pointer(&copy);
	g_prefix_error(error, "config=");
	return NULL;
}

/* Whether an option is to become another; then also from what to what, in words (free with g_free). */
static bool differs(const FsOptions *options, const FsOptions *wanted, const char *key, char **ret_before, char **ret_now)
{
	const char *origin;
	g_autofree char *before = fs_options_value(options, key, &origin);
	g_autofree char *now = fs_options_value(wanted, key, &origin);

	*ret_before = g_strdup(*before ? before : "none");
	*ret_now = g_strdup(*now ? now : "none");
	return strcmp(*ret_before, *ret_now) != 0;
}

bool fs_options_can_become(const FsOptions *options, const FsOptions *wanted, GError **error)
{
	for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++) {
		const struct MountKey *key = &mount_keys[i];
		g_autofree char *before = NULL;
		g_autofree char *now = NULL;

		if (!key->fixed || !differs(options, wanted, key->key, &before, &now))
			continue;
		g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
			    "[warmfs] %s=%s: cannot change from %s while it is mounted, because %s; unmount, and mount it again",
			    key->key, now, before, key->fixed);
		return false;
	}
	return true;
}

char *fs_options_describe_change(const FsOptions *options, const FsOptions *wanted)
{
	GString *text = g_string_new(NULL);

	for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++) {
		g_autofree char *before = NULL;
		g_autofree char *now = NULL;

		if (differs(options, wanted, mount_keys[i].key, &before, &now))
			g_string_append_printf(text, "mount: now %s=%s, was %s\n", mount_keys[i].key, now, before);
	}
	return g_string_free(text, FALSE);
}

void fs_options_note_again(const FsOptions *options, const FsOptions *wanted)
{
	for (size_t i = 0; i < G_N_ELEMENTS(mount_keys); i++) {
		const GivenOption *given = given_options_find(wanted->given, mount_keys[i].key);

		if (given)
			given_options_note(options->given, mount_keys[i].key, given->value, given->origin);
		else
			g_hash_table_remove(options->given, mount_keys[i].key);
	}
}
